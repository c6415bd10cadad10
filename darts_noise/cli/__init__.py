"""The two scripts. `start` and `help_text` import nothing heavy, so that ``--help`` is quick."""
