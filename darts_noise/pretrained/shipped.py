"""The bundles that come with the package, by name: a folder each in ``darts_noise/bundles``."""

from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[1] / "bundles"


def list_pretrained() -> list[str]:
    """The names of the trained networks that come with the package, sorted.

    >>> "digits" in list_pretrained()
    True
    """
    return sorted(file.parent.name for file in SHIPPED.glob("*/config.json"))
