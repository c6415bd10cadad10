"""The two scripts. Each module imports what it needs, so that ``--help`` stays quick."""
