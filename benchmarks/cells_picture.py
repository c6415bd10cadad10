"""Draw the picture of the start page: the cells of the digits network that the package ships.

    python -m benchmarks.cells_picture

The command writes ``docs/images/digits_cells.svg`` and ``.png``.
"""

from pathlib import Path

from darts_noise.report.cells import save_cells
from darts_noise.space.genotype import Genotype
from darts_noise.space.published import BUNDLES

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    for path in save_cells(
        Genotype.from_json(BUNDLES / "digits" / "genotype.json"), IMAGES / "digits_cells"
    ):
        print(path)


if __name__ == "__main__":
    main()
