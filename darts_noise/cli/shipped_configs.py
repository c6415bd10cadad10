"""The configs that come with the package, by name: ``mnist``, ``variants/gdas``.

They lie in ``darts_noise/configs``, in a checkout a link to ``configs`` at its top.
"""

import re
from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[1] / "configs"

NAME = re.compile(r"[\w-]+(/[\w-]+)?")


def shipped_config(named: str, kind: str) -> str:
    """The path of a shipped config where one is named; else what was given.

    A file of the user's comes before a shipped config of its name.

    Args:
        named: a path, a name, or the text of a config.
        kind: whose configs need no folder before their name: ``search``, ``train`` or ``study``.

    Raises:
        ValueError: a name that is neither a file nor a shipped config.

    >>> Path(shipped_config("gdas", "variants")) == CONFIGS / "variants" / "gdas.yaml"
    True
    >>> shipped_config("search/mnist", "train") == shipped_config("mnist", "search")
    True
    """
    if not NAME.fullmatch(named) or Path(named).is_file():
        return named
    for path in (CONFIGS / kind / f"{named}.yaml", CONFIGS / f"{named}.yaml"):
        if path.is_file():
            return str(path)
    names = ", ".join(list_configs(kind))
    raise ValueError(f"config: expected a YAML file or one of {names}, got {named!r}")


def list_configs(kind: str) -> list[str]:
    """The names of the shipped configs of a kind, and of the presets that lie over a search's."""
    presets = ("variants", "penalties") if kind == "search" else ()
    own = [path.stem for path in sorted((CONFIGS / kind).glob("*.yaml"))]
    return own + [
        f"{folder}/{path.stem}"
        for folder in presets
        for path in sorted((CONFIGS / folder).glob("*.yaml"))
    ]
