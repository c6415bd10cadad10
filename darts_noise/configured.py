"""Objects made from settings: a config from keywords, and one of a registry from its name.

The keyword arguments of a registered class's constructor are its settings. Search variants and
penalties are made here, so that a wrong name, setting or type is answered the same way for both.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from darts_noise.errors import SettingError, unknown

Setting = bool | int | float | str
"""In this order: the command line takes the first type that fits, and 4 must not become 4.0."""

LARGEST_SEED = 2**32 - 1
"""NumPy takes no larger one."""

T = TypeVar("T")


def require_seed(seed: int) -> None:
    """Raise a SettingError for a seed that NumPy does not take."""
    if not 0 <= seed <= LARGEST_SEED:
        raise SettingError("seed", f"expected 0 to {LARGEST_SEED}, got {seed}")


def config_of(cls: type[T], given: object, settings: Mapping[str, Any]) -> T:
    """The config that a module's arguments stand for.

    Args:
        cls: the dataclass.
        given: a config; the first field of one; or None for the defaults.
        settings: further fields by name; they replace those of a given config.

    Raises:
        SettingError: no such field, or a value that it does not accept.
    """
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for key in settings:
        if key not in names:
            raise SettingError(key, unknown("setting", key, names))
    if isinstance(given, cls):
        return replace(given, **settings)  # type: ignore[type-var]
    return cls(**settings) if given is None else cls(given, **settings)  # type: ignore[call-arg]


def fields_of(config: Any) -> dict[str, Any]:
    """The fields of a config by name, as they are."""
    return {field.name: getattr(config, field.name) for field in fields(config)}


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
        SettingError: no such name or setting, or a value that it does not accept.
    """
    if name not in registry:
        raise SettingError(key, unknown(kind, name, registry))
    cls, given = registry[name], given or {}
    allowed = inspect.signature(cls).parameters
    for setting in given:
        if setting not in allowed:
            raise SettingError(key, unknown(f"setting of {name!r}", setting, allowed))
    for setting, value in given.items():
        _require_type(f"{key}.{name}.{setting}", value, allowed[setting].annotation)
    try:
        return cls(**given)
    except SettingError as error:
        raise error.within(f"{key}.{name}") from None
    except ValueError as error:
        raise SettingError(f"{key}.{name}", error) from None


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
        raise SettingError(key, f"expected {name.get(expected, expected)}, got {value!r}")
