"""Trains a network of a found cell: ``python train.py --help``."""

import os

# Threads that wait should sleep: on a shared machine, spinning ones slow a small network tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from darts_noise.cli.train import main

if __name__ == "__main__":
    main()
