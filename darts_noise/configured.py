"""Make objects from settings: a config from keywords, and a registered object from its name.

The settings of a registered class are the keyword arguments of its constructor. Search variants and
penalties are made here, so that both give the same errors for a wrong name, setting or type.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import wraps
from os import PathLike
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from darts_noise.errors import SettingError, unknown

Setting = bool | int | float | str
"""The order matters: the command line takes the first type that fits, and 4 must not become 4.0."""

LARGEST_SEED = 2**32 - 1
"""The largest seed that NumPy accepts."""

T = TypeVar("T")
C = TypeVar("C", bound=type)


F = TypeVar("F", bound=Callable[..., Any])


def naming_arguments(function: F) -> F:
    """Decorate a function or a class so that wrong arguments are answered in one line.

    A misspelt argument is answered with the nearest one. A dataclass also requires the types of its
    fields.

    Raises:
        SettingError: in the decorated function: an argument does not exist, or its value has
            another type.

    >>> @naming_arguments
    ... def double(number=1):
    ...     return 2 * number
    >>> double(numbr=3)
    Traceback (most recent call last):
    darts_noise.errors.SettingError: numbr: unknown argument 'numbr': did you mean 'number'? ...
    """
    if isinstance(function, type):
        function.__init__ = _checked(function.__init__, function)  # type: ignore[misc]
        return function
    return cast(F, _checked(function))


def _checked(function: Callable[..., T], cls: type | None = None) -> Callable[..., T]:
    valid = [name for name in inspect.signature(function).parameters if name != "self"]

    @wraps(function)
    def checked(*args: Any, **given: Any) -> T:
        for key in given:
            if key not in valid:
                raise SettingError(key, unknown("argument", key, valid))
        if cls is not None and is_dataclass(cls):
            args = (args[0], *map(_plain, args[1:]))
            given = {key: _plain(value) for key, value in given.items()}
            # A positional value beyond the last field is refused by the class itself.
            _require_types(cls, {**dict(zip(valid, args[1:], strict=False)), **given})
        return function(*args, **given)

    return checked


def _plain(value: Any) -> Any:
    """Return numbers and arrays of NumPy and PyTorch as those of Python, also within a list.

    >>> import numpy as np
    >>> _plain([np.int64(3), np.array([0.5])]), _plain("cifar")
    ([3, [0.5]], 'cifar')
    """
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "ndim") else value


def _require_types(cls: type, given: Mapping[str, Any]) -> None:
    """Require the types of fields. The class itself checks mappings, infinity and NaN.

    >>> class Sizes:
    ...     rates: tuple[float, ...]
    >>> _require_types(Sizes, {"rates": [0.1, "two"]})
    Traceback (most recent call last):
    darts_noise.errors.SettingError: rates[1]: expected a finite number, got 'two'
    """
    hints = get_type_hints(cls)
    for key, value in given.items():
        is_form = accepts_mapping(hints[key]) and isinstance(value, str | list | tuple)
        if not is_form and not isinstance(value, Mapping):
            _require_type(key, value, hints[key], finite=False)


def require_kinds(**values: tuple[object, type]) -> None:
    """Raise a ``SettingError`` that names the first argument of another class. None is allowed.

    >>> require_kinds(data=("digits", dict))
    Traceback (most recent call last):
    darts_noise.errors.SettingError: data: expected a dn.dict, got 'digits'
    """
    for key, (value, kind) in values.items():
        if value is not None and not isinstance(value, kind):
            raise SettingError(key, f"expected a dn.{kind.__name__}, got {value!r}")


def require_at_least(least: float, **values: float | None) -> None:
    """Raise a ``SettingError`` that names the first number that is too small, or not finite.

    None is allowed.

    >>> require_at_least(1, samples=0)
    Traceback (most recent call last):
    darts_noise.errors.SettingError: samples: expected 1 or more, got 0
    """
    for key, value in values.items():
        # Written so that NaN is refused as well.
        if value is not None and not least <= value < math.inf:
            raise SettingError(key, f"expected {least} or more, got {value}")


def require_fields(config: object, **least: float) -> None:
    """Do the same as `require_at_least` for fields of a config, each with its smallest value."""
    for key, lowest in least.items():
        require_at_least(lowest, **{key: getattr(config, key)})


def require_seed(seed: int) -> None:
    """Raise a SettingError for a seed that NumPy does not accept."""
    if not 0 <= seed <= LARGEST_SEED:
        raise SettingError("seed", f"expected 0 to {LARGEST_SEED}, got {seed}")


def config_of(cls: type[T], given: object, settings: Mapping[str, Any]) -> T:
    """Make the config of a module from the module's arguments.

    Args:
        cls: the dataclass of the config.
        given: a config, or the value of the first field, or None for the defaults.
        settings: other fields by name. They replace the fields of a given config.

    Raises:
        SettingError: a field does not exist or does not accept its value.
    """
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for key in settings:
        if key not in names:
            raise SettingError(key, unknown("setting", key, names))
    if isinstance(given, cls):
        return replace(given, **settings)  # type: ignore[type-var]
    return cls(**settings) if given is None else cls(given, **settings)  # type: ignore[call-arg]


def fields_of(config: Any) -> dict[str, Any]:
    """Return the fields of a config by name, without converting their values."""
    return {field.name: getattr(config, field.name) for field in fields(config)}


def changed(config: T, changes: Mapping[str, Any]) -> T:
    """Change some fields of a config to values from a file.

    Raises:
        SettingError: a field does not exist, or its value has the wrong type or is invalid.
    """
    hints = get_type_hints(type(config))
    for key, value in changes.items():
        _require_type(key, value, hints.get(key, Any))
    return config_of(type(config), config, changes)


def registering(
    kind: str, name: str, registry: dict[str, Any], base: type, *taken: str
) -> Callable[[C], C]:
    """Return a decorator that adds a class to a registry.

    Args:
        kind: the kind of the classes, for messages, such as ``objective``.
        name: the name of the class in configs.
        registry: classes by name.
        base: the class that all of them extend.
        taken: further names that are not free.

    Raises:
        ValueError: the name is taken.
        TypeError: the decorated class does not extend `base`.
    """
    if name in (*taken, *registry):
        raise ValueError(f"{kind} {name!r} is registered already")

    def register(cls: C) -> C:
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise TypeError(f"{kind} {name!r}: expected a subclass of dn.{base.__name__}")
        registry[name] = cls
        return cls

    return register


def configured(
    kind: str,
    key: str,
    registry: Mapping[str, Callable[..., T]],
    name: str,
    given: Mapping[str, Setting] | None,
) -> T:
    """Make an object of a registered class from its name and settings.

    Args:
        kind: the kind of the classes, for messages, such as ``penalty``.
        key: the config key that contains the name.
        registry: classes by name.
        name: name of the class.
        given: settings of the object. The other settings have their defaults.

    Raises:
        SettingError: a name or setting does not exist, or a value is invalid.
    """
    if name not in registry:
        raise SettingError(key, unknown(kind, name, registry))
    cls, given = registry[name], given or {}
    allowed = inspect.signature(cls, eval_str=True).parameters
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
    except Exception as error:  # the class of a user may raise anything
        raise SettingError(f"{key}.{name}", f"{type(error).__name__}: {error}") from error


def name_and_settings(
    kind: str, key: str, example: str, setting: object
) -> tuple[str, Mapping[str, Setting] | None]:
    """Return the name and the settings of a config key that holds one object of a registered class.

    Args:
        kind: the kind of the classes, for messages, such as ``penalty``.
        key: the config key.
        example: a name with its settings, for messages: ``{twin: {form: log}}``.
        setting: a name, or a mapping of one name to its settings.

    Raises:
        SettingError: the setting is neither.
    """
    if isinstance(setting, str) and setting[:1] not in ("{", "["):
        return setting, None
    if not isinstance(setting, Mapping) or len(setting) != 1:
        raise SettingError(
            key,
            f"expected the name of a {kind}, or one with its settings as in {example}, with a "
            f"space after each colon, got {setting!r}",
        )
    [(name, given)] = setting.items()
    if not isinstance(given, Mapping | None):
        below = example.partition(": ")[2].removesuffix("}")
        raise SettingError(f"{key}.{name}", f"expected settings, as in {below}, got {given!r}")
    return str(name), given


NAMES: Mapping[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "a word",
    list: "a list",
    tuple: "a list",
    dict: "lines of key: value",
    Mapping: "lines of key: value",
    NoneType: "null",
}


def _require_type(key: str, value: object, expected: Any, finite: bool = True) -> None:
    """Require the expected type, also of what a list or a mapping holds.

    An int is also a float. A bool is no number. Infinity and NaN are no floats if `finite`.

    >>> _require_type("lengths", [2, "five"], tuple[int, ...])
    Traceback (most recent call last):
    darts_noise.errors.SettingError: lengths[1]: expected a whole number, got 'five'
    """
    kinds = alternatives(expected)
    fitting = [k for k in kinds if k is Any or _is_of(value, get_origin(k) or k, finite)]
    if not fitting:
        names = [NAMES.get(get_origin(kind) or kind, f"a {kind.__name__}") for kind in kinds]
        wanted = " or ".join(dict.fromkeys(names))
        raise SettingError(key, f"expected {wanted}, got {value!r}")
    inner = get_args(fitting[0])
    if isinstance(value, Mapping) and inner:
        for name, item in value.items():
            _require_type(f"{key}.{name}", item, inner[1], finite)
    elif isinstance(value, list | tuple) and inner:
        alike = get_origin(fitting[0]) is not tuple or inner[-1] is ...
        if not alike and len(value) != len(inner):
            raise SettingError(key, f"expected {len(inner)} values, got {value!r}")
        for index, item in enumerate(value):
            _require_type(f"{key}[{index}]", item, inner[0 if alike else index], finite)


def alternatives(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def accepts_mapping(kind: Any) -> bool:
    """Return whether a mapping is a value of a type.

    >>> accepts_mapping(str | dict[str, int] | None), accepts_mapping(int)
    (True, False)
    """
    return any((get_origin(one) or one) in (dict, Mapping) for one in alternatives(kind))


ACCEPTED: Mapping[Any, tuple[type, ...]] = {
    float: (int, float),
    str: (str, PathLike),
    list: (list, tuple),
    tuple: (list, tuple),
}
"""The types that a field of a type accepts, where that is not the type alone."""


def _is_of(value: object, kind: type, finite: bool) -> bool:
    if finite and kind is float and isinstance(value, float) and not math.isfinite(value):
        return False
    accepted = isinstance(value, ACCEPTED.get(kind, (kind,)))
    return accepted and (kind is bool or not isinstance(value, bool))
