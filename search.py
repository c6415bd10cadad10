"""Searches a cell: ``python search.py --help``."""

import sys

from darts_noise.cli.program import main

if __name__ == "__main__":
    main(["search", *sys.argv[1:]])
