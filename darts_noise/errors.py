"""Errors that a user can correct: a setting with an invalid value, or an unknown name.

Every registry (data sets, operations, spaces, noise families, genotypes) raises the error that
`unknown` makes, so that the message for a misspelt name is the same everywhere.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from darts_noise.shown import shown


class SettingError(ValueError):
    """An error about one setting. Its text is ``key: problem``.

    Attributes:
        key: name of the setting: ``learning_rate``, or ``model.learning_rate`` within a group.
        problem: description of the problem: ``expected 0 or more, got -1``.

    >>> error = SettingError("learning_rate", "expected 0 or more, got -1")
    >>> error.key, str(error.within("model"))
    ('learning_rate', 'model.learning_rate: expected 0 or more, got -1')
    """

    def __init__(self, key: str, problem: object) -> None:
        super().__init__(key, str(problem))
        self.key, self.problem = key, str(problem)

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}"

    def within(self, group: str) -> "SettingError":
        """Return the same error with the group before its key.

        A group that ends with ``_`` is a prefix; otherwise a dot separates group and key.

        >>> SettingError("samples", "expected 1 or more, got 0").within("noise_").key
        'noise_samples'
        """
        return SettingError(f"{group}{'' if group.endswith('_') else '.'}{self.key}", self.problem)


@contextmanager
def within(group: str) -> Iterator[None]:
    """Add the group to the key of every `SettingError` that is raised inside the context."""
    try:
        yield
    except SettingError as error:
        raise error.within(group) from error.__cause__


@contextmanager
def about(key: str) -> Iterator[None]:
    """Turn every ``ValueError`` that is raised inside the context into one about this setting."""
    try:
        yield
    except ValueError as error:
        raise SettingError(key, getattr(error, "problem", error)) from None


def counted(count: int, noun: str) -> str:
    """Return a number with its noun for a message.

    >>> counted(1, "epoch"), counted(1200, "file")
    ('1 epoch', '1,200 files')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def unknown(kind: str, name: str, valid: Iterable[str]) -> ValueError:
    """Make the error for a `name` that is not in `valid`.

    >>> unknown("data set", "mnits", ["mnist", "digits"])
    ValueError("unknown data set 'mnits': did you mean 'mnist'? (valid: digits, mnist)")
    """
    names = {candidate.lower(): candidate for candidate in sorted(valid)}
    nearest = difflib.get_close_matches(name.lower(), names, n=1)
    listed = ", ".join(sorted(names.values())) or "none"
    hint = f"valid: {listed}"
    if nearest:
        hint = f"did you mean {names[nearest[0]]!r}? ({hint})"
    return ValueError(f"unknown {kind} {name!r}: {hint}")


def names_unknown(error: Exception) -> bool:
    """Return whether an error, or an error that quotes it, was made by `unknown`.

    >>> names_unknown(SettingError("name", unknown("data set", "x", []))), names_unknown(OSError())
    (True, False)
    """
    return re.search(r"\bunknown [\w ]+ ['\"]", str(error)) is not None


def reported(text: str) -> SettingError | None:
    """Convert jsonargparse's message about one value to an error. Return None for other text.

    >>> str(reported('Parser key "model.nodes": Expected a <class \\'int\\'>. Got value: abc'))
    "model.nodes: expected int, got 'abc'"
    """
    match = re.match(r'Parser key "([^"]+)": (.*)', " ".join(text.split()))
    if match is None:
        return None
    key, problem = match.groups()
    of_class = re.search(r"Problem with given class_path '([^']+)': (.*?)(?: - |$)", problem)
    if of_class:
        return SettingError(key, f"{of_class[1]}: {of_class[2]}")
    got = re.search(
        r"(?:Got|Given) value: (.*?)(?: - Expected .*| Given value type: .*)?$", problem
    )
    groups = re.findall(r"Literal\[([^\]]*)\]", problem)
    literals = [v.strip("'\"") for group in groups for v in group.split(", ")]
    types = re.findall(
        r"<class '(?:\w+\.)*(\w+)'>|a (tuple with \d+) elements",
        problem.split("Given value type")[0],
    )
    wanted = list(dict.fromkeys([*literals, *map("".join, types)]))
    if not got or not wanted:
        return SettingError(key, problem)
    words = {"NoneType": "null", "tuple": "list"}
    wanted = [words.get(w, w.replace("tuple with", "list of")) for w in wanted]
    return SettingError(key, f"expected {' or '.join(wanted)}, got {shown(got[1])}")
