"""Which classes and functions a config file may name for the Trainer.

Making a class of any name, as the argument parser would, runs code: a file from elsewhere may name
only what Lightning and this project have. The command line is the user's own and may name all, and
whose further packages files may name it says with ``--trust``.
"""

import importlib.util
import sys
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import Any

from darts_noise.space.shown import shown

KEYS = ("accelerator", "callbacks", "logger", "plugins", "profiler", "strategy")
"""Of the Trainer, whose values may be classes."""
PACKAGES = frozenset({"darts_noise", "lightning", "lightning_fabric", "pytorch_lightning"})
OPTION = "--trust"
FILES = ("json", "yaml", "yml")
"""A value may also be the name of a file that holds it, which nothing here would look at."""


def trusted(argv: list[str]) -> frozenset[str]:
    """The packages whose classes files may name: ours, and those after ``--trust``.

    >>> sorted(trusted(["--trust", "mine,yours"]) - PACKAGES)
    ['mine', 'yours']
    """
    named = [a.partition("=")[2] for a in argv if a.startswith(f"{OPTION}=")]
    named += [value for option, value in pairwise(argv) if option == OPTION]
    return PACKAGES.union(*(value.split(",") for value in named))


def require_trusted_names(config: Any, file: str, packages: Collection[str]) -> None:
    """Refuses a config that names an object of another package.

    Args:
        config: the content of a file.
        file: its name, for messages.
        packages: that may be named.

    Raises:
        ValueError: it names one; the message says how to allow it.
    """
    for key, text in _strings(config):
        group, _, name = key.partition(".")
        root, *rest = text.split(".")
        if group != "trainer" or name.partition(".")[0].rstrip("+") not in KEYS or not rest:
            continue
        if rest[-1] in FILES:
            raise ValueError(
                f"{file}: {key}: expected the settings themselves, got the file {shown(text)}"
            )
        if root not in packages and _importable(root):
            raise ValueError(
                f"{file}: {key}: expected classes of Lightning or darts_noise, got {shown(text)}; "
                f"add {OPTION} {root} if you trust that package and this file"
            )


def _strings(
    value: Any, key: str = "", above: frozenset[int] = frozenset()
) -> Iterator[tuple[str, str]]:
    """Every string below a value, with its key; those of a list have the key of the list."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict | list) and id(value) not in above:  # an alias may lead back up
        named = value.items() if isinstance(value, dict) else ((None, item) for item in value)
        for name, item in named:
            below = key if name is None else f"{key}.{name}" if key else str(name)
            yield from _strings(item, below, above | {id(value)})


def _importable(root: str) -> bool:
    """Whether there is a module of this name, which is not imported."""
    known = root in sys.modules or (root.isidentifier() and importlib.util.find_spec(root))
    return bool(known)
