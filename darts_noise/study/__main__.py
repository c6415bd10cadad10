"""``python -m darts_noise.study CONFIG``: the same as ``darts-noise study``."""

import sys

from darts_noise.cli.program import main

if __name__ == "__main__":
    main(["study", *sys.argv[1:]])
