"""Objects made from settings: a config from keywords, and one of a registry from its name.

The keyword arguments of a registered class's constructor are its settings. Search variants and
penalties are made here, so that a wrong name, setting or type is answered the same way for both.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

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


def changed(config: T, changes: Mapping[str, Any]) -> T:
    """A config with some of its fields changed, as a file states them.

    Raises:
        SettingError: no such field, or a value of another type or that it does not accept.
    """
    hints = get_type_hints(type(config))
    for key, value in changes.items():
        _require_type(key, value, hints.get(key, Any))
    return config_of(type(config), config, changes)


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


NAMES: Mapping[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "a word",
    list: "a list",
    tuple: "a list",
    dict: "lines of key: value",
    NoneType: "null",
}


def _require_type(key: str, value: object, expected: Any) -> None:
    """A number is finite; a whole number will do for a float, a bool for neither."""
    kinds = [expected] if get_origin(expected) in (None, list, tuple, dict) else get_args(expected)
    kinds = [get_origin(kind) or kind for kind in kinds]
    if Any not in kinds and not any(_is_of(value, kind) for kind in kinds):
        names = " or ".join(dict.fromkeys(NAMES.get(kind, kind.__name__) for kind in kinds))
        raise SettingError(key, f"expected {names}, got {value!r}")


def _is_of(value: object, kind: type) -> bool:
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    kinds = (list, tuple) if kind is tuple else kind
    return isinstance(value, kinds) and (kind is bool or not isinstance(value, bool))
