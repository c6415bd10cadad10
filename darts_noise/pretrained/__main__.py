"""``python -m darts_noise.pretrained RUN FOLDER``: the network of a training run as a bundle."""

import argparse
from pathlib import Path

from darts_noise.pretrained.training import bundle_run


def main(argv: list[str] | None = None) -> None:
    """Writes the bundle and says where; ends with status 2 after one line where it cannot."""
    parser = argparse.ArgumentParser(
        "darts-noise bundle",
        description="Writes the network of a training run as a bundle for dn.load_pretrained.",
    )
    parser.add_argument("run", type=Path, help="directory that train.py left")
    parser.add_argument("folder", type=Path, help="folder of the bundle")
    arguments = parser.parse_args(argv)
    try:
        print(bundle_run(arguments.run, arguments.folder))
    except (OSError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


if __name__ == "__main__":
    main()
