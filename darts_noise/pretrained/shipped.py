"""List the bundles in the package: one folder per bundle in ``darts_noise/bundles``."""

from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[1] / "bundles"


def list_pretrained() -> list[str]:
    """Return the names of the trained networks in the package, sorted.

    >>> "digits" in list_pretrained()
    True
    """
    return sorted(file.parent.name for file in SHIPPED.glob("*/config.json"))
