"""What a user can put right: a setting with a value that it cannot have, or an unknown name.

Every registry (data sets, operations, spaces, noise families, genotypes) raises the error of
`unknown`, so that a misspelt name is answered the same way everywhere. Change the wording here.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class SettingError(ValueError):
    """A setting that cannot be as it is. Its text is ``key: problem``.

    Attributes:
        key: which setting: ``learning_rate``, or ``model.learning_rate`` under a group.
        problem: what is wrong with it: ``expected 0 or more, got -1``.

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
        """The same error with its key under a group; one that ends with ``_`` is a prefix.

        >>> SettingError("samples", "expected 1 or more, got 0").within("noise_").key
        'noise_samples'
        """
        return SettingError(f"{group}{'' if group.endswith('_') else '.'}{self.key}", self.problem)


@contextmanager
def within(group: str) -> Iterator[None]:
    """Puts the key of each `SettingError` that is raised inside under a group."""
    try:
        yield
    except SettingError as error:
        raise error.within(group) from error.__cause__


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


def reported(text: str) -> SettingError | None:
    """The error that jsonargparse's report on one value stands for; None for any other text.

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
    got = re.search(r"(?:Got value|Given value): (.*?)(?: - Expected .*)?$", problem)
    groups = re.findall(r"Literal\[([^\]]*)\]", problem)
    literals = [v.strip("'\"") for group in groups for v in group.split(", ")]
    types = re.findall(r"<class '(?:\w+\.)*(\w+)'>", problem.split("Given value type")[0])
    wanted = list(dict.fromkeys(literals + types))
    if not got or not wanted:
        return SettingError(key, problem)
    wanted = ["null" if w == "NoneType" else w for w in wanted]
    return SettingError(key, f"expected {' or '.join(wanted)}, got {got[1]!r}")
