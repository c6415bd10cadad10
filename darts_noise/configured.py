"""An object of a registered class, made with the settings that a config gives it.

The keyword arguments of a class's constructor are its settings. Search variants and penalties are
made here, so that a wrong name, setting or type is answered the same way for both.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from darts_noise.naming import unknown

Setting = bool | int | float | str
"""In this order: the command line takes the first type that fits, and 4 must not become 4.0."""

T = TypeVar("T")


def configured(
    kind: str,
    key: str,
    registry: Mapping[str, Callable[..., T]],
    name: str,
    given: Mapping[str, Setting] | None,
) -> T:
    """The object that a name and its settings stand for.

    Args:
        kind: what the registry holds, in a word.
        key: the config key under which the name stands.
        registry: classes by name.
        name: of the class.
        given: its settings; the others keep their defaults.

    Raises:
        ValueError: no such name or setting, or a value that it does not accept; one line that names
            the key.
    """
    if name not in registry:
        raise ValueError(f"{key}: {unknown(kind, name, registry)}")
    cls, given = registry[name], given or {}
    allowed = inspect.signature(cls).parameters
    for setting in given:
        if setting not in allowed:
            raise ValueError(f"{key}: {unknown(f'setting of {name!r}', setting, allowed)}")
    for setting, value in given.items():
        _require_type(f"{key}.{name}.{setting}", value, allowed[setting].annotation)
    try:
        return cls(**given)
    except ValueError as error:
        raise ValueError(f"{key}.{name}: {error}") from None


def _require_type(key: str, value: object, expected: type) -> None:
    """A number is finite; a whole number will do for a float, a bool for neither."""
    of_type = isinstance(value, bool) == (expected is bool) and (
        isinstance(value, expected) or (expected is float and isinstance(value, int))
    )
    if not of_type or (isinstance(value, float) and not math.isfinite(value)):
        name = {
            int: "a whole number",
            float: "a finite number",
            bool: "true or false",
            str: "a word",
        }
        raise ValueError(f"{key}: expected {name.get(expected, expected)}, got {value!r}")
