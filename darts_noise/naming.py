"""Names: what a file may be called, and the message for a name that no registry knows.

Every registry (data sets, operations, spaces, noise families, genotypes) raises the error made
here, so that a misspelt name is answered the same way everywhere. Change the wording here only.
"""

import difflib
import re
from collections.abc import Iterable

PLAIN = "at most 100 letters, digits, '.', '_' and '-', the first a letter or a digit"
"""What `is_plain` asks for, in words."""


def is_plain(name: str) -> bool:
    """Whether a file or a folder may have that name: one part of a path, of plain characters.

    >>> is_plain("mnist-1"), is_plain("../mnist")
    (True, False)
    """
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) is not None


def unknown(kind: str, name: str, valid: Iterable[str]) -> ValueError:
    """The error to raise for a `name` that is not among the `valid` ones.

    >>> unknown("data set", "mnits", ["mnist", "digits"])
    ValueError("unknown data set 'mnits': did you mean 'mnist'? (valid: digits, mnist)")
    """
    names = sorted(valid)
    nearest = difflib.get_close_matches(name, names, n=1)
    listed = ", ".join(names) or "none"
    hint = f"did you mean {nearest[0]!r}? (valid: {listed})" if nearest else f"valid: {listed}"
    return ValueError(f"unknown {kind} {name!r}: {hint}")
