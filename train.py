"""Trains a network of a found cell: ``python train.py --help``."""

import sys

from darts_noise.cli.program import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
