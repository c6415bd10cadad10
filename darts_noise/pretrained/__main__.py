"""``python -m darts_noise.pretrained RUN FOLDER``: the same as ``darts-noise bundle``."""

import sys

from darts_noise.cli.program import main

if __name__ == "__main__":
    main(["bundle", *sys.argv[1:]])
