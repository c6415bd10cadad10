"""Run ``python -m darts_noise.report RUN...``, the same as ``darts-noise report``."""

import sys

from darts_noise.cli.program import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
