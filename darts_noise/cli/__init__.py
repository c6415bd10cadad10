"""The command line: one program, whose commands parse, call a function and print the result.

``program`` starts it, ``commands`` holds the commands, ``parser`` turns settings classes into
options, and ``configs`` reads files. Heavy packages are imported only when a command runs.
"""
