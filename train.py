"""Trains a network of a found cell: ``python train.py --help``."""

from darts_noise.cli.start import start

if __name__ == "__main__":
    start("train")
