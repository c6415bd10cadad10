"""What a search variant may change, and the registry of their names.

A new variant is one file beside this one with a class under ``@register_variant``, imported in this
package's ``__init__``. Its constructor's keyword arguments are its settings in a config:

    model:
      variants:
        gdas: {temperature: 10.0}
"""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor

from darts_noise.naming import unknown
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.architecture import Architecture

Weights = dict[str, Tensor]
Setting = bool | int | float | str
"""In this order: the command line takes the first type that fits, and 4 must not become 4.0."""


class Variant:
    """A departure from plain DARTS. Every method here changes nothing; override what differs.

    Attributes:
        implementation: the supernet's; ``textbook`` for a variant that replaces single candidates,
            since ``shared`` has none.
    """

    implementation = "shared"

    def change_supernet(self, net: SuperNet) -> None:
        """Changes a supernet that has just been made, the twin's as well."""

    def change_architecture(self, arch: Architecture) -> None:
        """Changes α's relaxation or adds parameters to it, once."""

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Called before epoch ``epoch`` (from 0) of ``epochs``: schedules."""

    def perturb(self, weights: Weights, loss: Callable[[Weights], Tensor]) -> Weights:
        """The relaxed weights with which w takes its step; ``loss`` is w's loss at such weights."""
        return weights

    def stop(self, arch: Architecture, curvature: Callable[[], float]) -> str | None:
        """After an epoch: why the search should end now, or None.

        Args:
            arch: α; may be set back to an earlier one.
            curvature: computes the dominant eigenvalue of the validation loss's Hessian in α.
        """
        return None

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, as plain values and tensors."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave."""


V = TypeVar("V", bound=type[Variant])
_VARIANTS: dict[str, type[Variant]] = {}


def register_variant(name: str) -> Callable[[V], V]:
    """Makes a variant known by a name; ``ValueError`` if the name is taken."""
    if name in _VARIANTS:
        raise ValueError(f"search variant {name!r} is registered already")

    def register(cls: V) -> V:
        _VARIANTS[name] = cls
        return cls

    return register


def list_variants() -> list[str]:
    """The names of all search variants, sorted."""
    return sorted(_VARIANTS)


def make_variants(settings: Mapping[str, Mapping[str, Setting] | None]) -> dict[str, Variant]:
    """Variants by name from a config's settings, in their order.

    Raises:
        ValueError: no such variant or setting, or a value that it does not accept.
    """
    made = {}
    for name, given in settings.items():
        if name not in _VARIANTS:
            raise unknown("search variant", name, _VARIANTS)
        cls, given = _VARIANTS[name], given or {}
        allowed = inspect.signature(cls).parameters
        for key in given:
            if key not in allowed:
                raise unknown(f"setting of variant {name!r}", key, allowed)
        for key, value in given.items():
            _require_type(f"model.variants.{name}.{key}", value, allowed[key].annotation)
        try:
            made[name] = cls(**given)
        except ValueError as error:
            raise ValueError(f"model.variants.{name}: {error}") from None
    return made


def _require_type(key: str, value: object, expected: type) -> None:
    """A number is finite; a whole number will do for a float, a bool for neither."""
    of_type = isinstance(value, bool) == (expected is bool) and (
        isinstance(value, expected) or (expected is float and isinstance(value, int))
    )
    if not of_type or (isinstance(value, float) and not math.isfinite(value)):
        name = {int: "a whole number", float: "a finite number", bool: "true or false"}
        raise ValueError(f"{key}: expected {name.get(expected, expected)}, got {value!r}")
