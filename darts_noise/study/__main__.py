"""``python -m darts_noise.study``."""

import sys

from darts_noise.cli.start import run

if __name__ == "__main__":
    sys.argv[0] = "darts-noise study"  # how its messages begin
    run("darts_noise.study.command")
