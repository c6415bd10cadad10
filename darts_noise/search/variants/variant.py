"""The interface of search variants, and their registry.

To add a variant, write a class with ``@register_variant`` in a new file of this folder, and import
the file in ``__init__.py``. The constructor's keyword arguments are the settings in a config:

    model:
      variants:
        gdas: {temperature: 10.0}

A variant may draw from torch's global generators. The search seeds them for each use at each step
(`darts_noise.data.seeds.drawing`). So the random numbers are the same in every process and after a
resume.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from darts_noise.configured import Setting, configured, registering
from darts_noise.errors import SettingError
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.architecture import Architecture
from darts_noise.search.settings import SearchConfig

Weights = dict[str, Tensor]


class Variant:
    """A change to plain DARTS. The methods of this class change nothing; override some of them.

    Attributes:
        implementation: implementation of the supernet that the variant needs. A variant that
            replaces single operations needs ``textbook``: in ``shared`` there are no such modules.
        rebuilds: whether `change_supernet` replaces whole mixed operations. It is called before
            those of other variants, which change single candidates.
        relaxes: whether the variant sets `Architecture.relaxation`. Only one variant can.
    """

    implementation = "shared"
    rebuilds: ClassVar[bool] = False
    relaxes: ClassVar[bool] = False

    def check(self, config: SearchConfig) -> None:
        """Raise a `SettingError` if the settings of the search do not fit the variant."""

    def change_supernet(self, net: SuperNet) -> None:
        """Change a new supernet. The search calls it for the supernet of w and for the twin."""

    def change_architecture(self, arch: Architecture) -> None:
        """Change the relaxation of α, or add parameters to α. The search calls it once."""

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Update schedules before epoch ``epoch``, counted from 0, of ``epochs`` epochs."""

    def decide(
        self, arch: Architecture, step: int, steps: int, objective: Callable[[Weights, int], float]
    ) -> None:
        """Decide edges of the cells before a step of the search.

        Args:
            arch: α. The method may write into its decisions; see `Architecture.add_decisions`.
            step: number of the step, from 0.
            steps: number of steps of the search.
            objective: computes F = L_val + λ · P + Σ weight · T at given relaxed weights, on a
                number of batches. Every call of a step uses the same batches and random numbers.
        """

    def perturb(self, weights: Weights, loss: Callable[[Weights], Tensor]) -> Weights:
        """Return the relaxed weights for the step of w.

        ``loss`` computes the loss of w at given relaxed weights.
        """
        return weights

    def freeze(
        self, net: SuperNet, gradients: list[Tensor], on_validation: Callable[[], list[Tensor]]
    ) -> Collection[int]:
        """Return the positions of the parameters of ``net`` that the step of w leaves as they are.

        Args:
            net: the supernet of w.
            gradients: gradients of the loss on training data, one per parameter of ``net``.
            on_validation: computes the gradients of the loss on a batch of validation data, at the
                same w and the same relaxed weights.
        """
        return ()

    def stop(self, arch: Architecture, curvature: Callable[[], float]) -> str | None:
        """Return the reason to stop the search after this epoch, or None.

        Args:
            arch: α. The method may set it back to earlier values.
            curvature: computes the dominant eigenvalue of the Hessian of L_val with respect to α.
        """
        return None

    def state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs, as plain values and tensors."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state` returned."""


V = TypeVar("V", bound=type[Variant])
_VARIANTS: dict[str, type[Variant]] = {}


def register_variant(name: str) -> Callable[[V], V]:
    """Return a decorator that registers a variant class by name.

    Raises:
        ValueError: the name is taken.
        TypeError: the decorated class is not a `Variant`.
    """
    return registering("search variant", name, _VARIANTS, Variant)


def list_variants() -> list[str]:
    """Return the names of all search variants, sorted."""
    return sorted(_VARIANTS)


def make_variants(settings: Mapping[str, Mapping[str, Setting] | None]) -> dict[str, Variant]:
    """Return the variants of a config by name, in the order of the config.

    Raises:
        ValueError: no such variant or setting, a value that the variant does not accept, or two
            variants that exclude each other.
    """
    made = {
        name: configured("search variant", "variants", _VARIANTS, name, given)
        for name, given in settings.items()
    }
    relaxing = [name for name, variant in made.items() if variant.relaxes]
    if len(relaxing) > 1:
        raise SettingError(
            "variants",
            "expected one variant that defines how α becomes weights, got "
            f"{' and '.join(relaxing)}",
        )
    return made
