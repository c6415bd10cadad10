"""What a search variant may change, and the registry of their names.

A new variant is one file beside this one with a class under ``@register_variant``, imported in this
package's ``__init__``. Its constructor's keyword arguments are its settings in a config:

    model:
      variants:
        gdas: {temperature: 10.0}

A variant may draw from torch's global generators. The search sets them for each use at each step
(`darts_noise.data.seeds.drawing`), so that its draws depend on nothing else and are the same in
every process and after a resume.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor

from darts_noise.configured import Setting, configured
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.architecture import Architecture

Weights = dict[str, Tensor]


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
    return {
        name: configured("search variant", "variants", _VARIANTS, name, given)
        for name, given in settings.items()
    }
