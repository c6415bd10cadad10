"""Searches a cell: ``python search.py --help``."""

from darts_noise.cli.start import start

if __name__ == "__main__":
    start("search")
