"""List the bundles in the package: one folder per bundle in ``darts_noise/bundles``."""

from darts_noise.space.published import BUNDLES


def list_pretrained() -> list[str]:
    """Return the names of the trained networks in the package, sorted.

    >>> "digits" in list_pretrained()
    True
    """
    return sorted(file.parent.name for file in BUNDLES.glob("*/config.json"))
