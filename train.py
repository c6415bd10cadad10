"""Trains a network of a found cell: ``python train.py --help``."""

import gc
import os

# Threads that wait should sleep: on a shared machine, spinning ones slow a small network tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Nothing that is imported is garbage yet, and looking for it takes a second.
gc.disable()

from darts_noise.cli.train import main  # noqa: E402

gc.enable()

if __name__ == "__main__":
    main()
