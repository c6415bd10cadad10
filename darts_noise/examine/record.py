"""Results of sections as JSON: dataclasses of plain values, which are checked when they are read.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Curve:
...     name: str
...     points: tuple[tuple[int, float], ...] = ()
>>> as_json(Curve("loss", ((1, 2.5),)))
{'name': 'loss', 'points': [[1, 2.5]]}
>>> from_json(Curve, {"name": "loss", "points": [[1, 2]]})
Curve(name='loss', points=((1, 2.0),))
>>> from_json(Curve, {"name": "loss"})  # as in a file that is older than the field
Curve(name='loss', points=())
>>> as_json(Curve("loss", ((1, float("inf")),)))  # JSON has no such number
{'name': 'loss', 'points': [[1, 'Infinity']]}
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from darts_noise.shown import shown

NOT_FINITE = ("Infinity", "-Infinity", "NaN")


def as_json(value: Any) -> Any:
    """Return a value as JSON: dataclasses become objects, and tuples become lists.

    Infinity and NaN become texts.
    """
    return json.loads(json.dumps(value, default=asdict), parse_constant=str)


def from_json(kind: Any, value: Any, place: str = "result") -> Any:
    """Return the value of a type, such as a dataclass, from what `as_json` made of it.

    Args:
        kind: a dataclass, ``tuple[...]``, ``Mapping[str, ...]``, a union, or a plain type.
        value: the JSON value.
        place: name of the value, for messages.

    Raises:
        ValueError: the value has another form. The message names its place.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = {field.name: get_type_hints(kind)[field.name] for field in fields(kind)}
        needed = {field.name for field in fields(kind) if field.default is MISSING}
        if not isinstance(value, dict) or not needed <= value.keys() <= hints.keys():
            raise ValueError(f"{place}: expected {', '.join(hints)}, got {shown(value)}")
        return kind(**{k: from_json(hints[k], v, f"{place}.{k}") for k, v in value.items()})
    if origin is tuple and isinstance(value, list):
        kinds = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        if len(kinds) == len(value):
            each = zip(kinds, value, strict=True)
            return tuple(from_json(k, v, f"{place}[{i}]") for i, (k, v) in enumerate(each))
    if origin is Mapping and isinstance(value, dict):
        return {k: from_json(arguments[1], v, f"{place}.{k}") for k, v in value.items()}
    if origin in (Union, UnionType):
        for one in arguments:
            try:
                return from_json(one, value, place)
            except ValueError:
                continue
    if kind is float and (type(value) is int or value in NOT_FINITE):
        return float(value)
    if type(value) is kind or (kind is type(None) and value is None):
        return value
    name = getattr(kind, "__name__", str(kind))
    raise ValueError(f"{place}: expected {name}, got {shown(value)}")
