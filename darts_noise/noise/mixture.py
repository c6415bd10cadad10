"""Read the setting ``noise_family``: the families of a noise set and their shares.

    noise_family: uniform
    noise_family: shuffled_pixels:own             # text after a colon is the first setting's value
    noise_family: {uniform: 2, random_pixels: 1}  # names to weights
    noise_family:
      dataset:mnist: {labels: random, weight: 0.5}
      uniform: 0.5

The settings of a family are the keyword-only arguments of its function.
"""

import hashlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

from darts_noise.errors import SettingError, unknown

KEY = "family"
WEIGHT = "weight"

Mixture = str | Mapping[str, Any]
"""The name of a family, or a mapping of names to weights or to settings (with a weight)."""


@dataclass(frozen=True, eq=False)
class Part:
    """One family of a noise set.

    Attributes:
        family: name of the family.
        settings: the settings that were given.
        weight: more than 0. The share of the family is its weight / the sum of all weights.
    """

    family: str
    settings: Mapping[str, str]
    weight: float

    @property
    def key(self) -> str:
        """The family, with the name of its data set. A folder counts by its name only."""
        name = self.settings.get("name")
        return self.family if name is None else f"{self.family}:{Path(name).name}"

    def __str__(self) -> str:
        """Format as ``uniform``, ``dataset:mnist`` or ``dataset:mnist (random labels)``."""
        name, labels = (self.settings.get(key) for key in ("name", "labels"))
        shown = self.family if name is None else f"{self.family}:{name}"
        return shown if labels is None else f"{shown} ({labels} labels)"


def read_mixture(family: Mixture, known: Mapping[str, Callable[..., Any]]) -> list[Part]:
    """Return the parts of a noise set. Their order does not depend on the order in the setting.

    Args:
        family: the setting.
        known: families by name.

    Returns:
        At least one part. A family with weight 0 is checked and then skipped.

    Raises:
        ValueError: a family or setting is unknown, a weight is not a finite number of 0 or more, or
            no weight is above 0. The message is one line with the setting and the allowed values.
    """
    if isinstance(family, str) and family[:1] not in ("{", "["):
        family = {family: None}
    if not isinstance(family, Mapping):
        raise SettingError(
            KEY,
            f"expected a name, or names with a weight each as in {{uniform: 2, random_pixels: 1}}, "
            f"with a space after each colon, got {family!r}",
        )
    parts = [_read_part(str(entry), value, known) for entry, value in family.items()]
    if not any(part.weight for part in parts):
        given = ", ".join(map(str, parts)) or "no family"
        raise SettingError(KEY, f"expected a weight above 0 for one family or more, got {given}")
    ordered = sorted(parts, key=lambda part: (str(part), sorted(part.settings.items())))
    return [part for part in ordered if part.weight]


def shares(parts: list[Part], size: int) -> list[int]:
    """Return the number of images of each part: its share of `size`, to within one image.

    The method is largest remainders, in exact arithmetic. The sum is `size`.

    Raises:
        ValueError: a part gets no image.
    """
    if size < 1:
        raise SettingError("samples", f"expected at least 1, got {size}")
    weights = [Fraction(part.weight) for part in parts]
    exact = [weight * size / sum(weights) for weight in weights]
    counts = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: size - sum(counts)]:
        counts[i] += 1
    for part, count in zip(parts, counts, strict=True):
        if not count:
            raise SettingError(
                "samples",
                f"expected enough for an image of each family, got {size}, of which "
                f"{part} has none with a weight of {part.weight:g}",
            )
    return counts


def draw_keys(parts: Sequence[Part]) -> list[int]:
    """Return the keys of the random draws of the parts, in addition to the seed.

    The family is in the key, so that two families with one seed have unrelated labels. If parts
    have the same family and data set, the key of each after the first has its settings too.
    """
    keys: list[str] = []
    for part in parts:
        key = part.key
        keys.append(f"{key} {sorted(part.settings.items())}" if key in keys else key)
    return [int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") for key in keys]


def describe(parts: list[Part]) -> str:
    """Format the parts for a card: ``uniform``, or ``33.3% random_pixels + 66.7% uniform``."""
    if len(parts) == 1:
        return str(parts[0])
    total = sum(part.weight for part in parts)
    return " + ".join(f"{100 * part.weight / total:.1f}% {part}" for part in parts)


def _read_part(entry: str, value: Any, known: Mapping[str, Callable[..., Any]]) -> Part:
    name, colon, first = entry.partition(":")
    if name not in known:
        raise SettingError(KEY, f"{unknown('noise family', name, known)}")
    parameters = inspect.signature(known[name]).parameters.values()
    allowed = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    given: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {WEIGHT: value}
    weight = given.pop(WEIGHT, None)
    weight = 1.0 if weight is None else weight
    if not _is_weight(weight):
        raise SettingError(
            KEY, f"expected a finite weight of 0 or more for {entry!r}, got {weight!r}"
        )
    if colon:
        if not allowed:
            raise SettingError(
                KEY, f"expected {name!r} alone, which takes nothing behind a colon, got {entry!r}"
            )
        given = {next(iter(allowed)): first, **given}
    for key, setting in given.items():
        if key not in allowed:
            kind = f"setting of noise family {name!r}"
            raise SettingError(KEY, f"{unknown(kind, str(key), [*allowed, WEIGHT])}")
        _check(name, key, setting, get_args(allowed[key].annotation))
    for key, parameter in allowed.items():
        if key not in given and parameter.default is parameter.empty:
            raise SettingError(KEY, f"expected the {key} of {name!r} as in {name}:{key.upper()}")
    return Part(name, given, float(weight))


def _is_weight(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value < math.inf  # type: ignore[operator]


def _check(family: str, key: str, value: object, choices: tuple[object, ...]) -> None:
    """Require one of the choices of the annotation or, if it has no choices, a text."""
    if choices and value not in choices:
        listed = " or ".join(map(str, choices))
        raise SettingError(KEY, f"expected {listed} for {key} of {family!r}, got {value!r}")
    if not isinstance(value, str) or not value:
        raise SettingError(KEY, f"expected a text for {key} of {family!r}, got {value!r}")
