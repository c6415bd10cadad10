"""What a study consists of: its units of work, the most telling first, and their parts.

A unit is one Optuna trial. Unit ``network`` is all that puts a network with one seed into the plane
of test accuracy and noise accuracy, so that a trial has both values; what it needs one after the
other (cell, training, noise fit) are its parts, each kept as soon as it is finished. Further noise
families and the quick measurement are units of their own, since they can wait.
"""

from dataclasses import dataclass
from typing import Literal

from darts_noise.noise.families import describe_noise
from darts_noise.noise.mixture import Mixture
from darts_noise.study.networks import HAND, Compared, compared_networks
from darts_noise.study.settings import POSITIVE_CONTROL, Protocol, StudySettings

FACTORIES = ("resnet18", "alexnet", "pooled_cnn", "pooled_cnn_wide")
"""Controls that are not made of cells."""

Part = Literal["cell", "test", "noise"]


@dataclass(frozen=True)
class Unit:
    """One piece of work that a worker takes.

    Attributes:
        kind: ``network``, or ``noise`` for one measurement alone.
        network: what is measured.
        seed: of the network, its training and its noise set.
        family: of the noise.
        protocol: of the noise fit.
    """

    kind: Literal["network", "noise"]
    network: Compared
    seed: int
    family: Mixture
    protocol: Protocol = "converged"

    @property
    def key(self) -> str:
        """What it is called in the storage."""
        name = f"{self.network.key}/{self.seed}"
        if self.kind == "network":
            return name
        return f"{name}/{self.protocol}/{describe_noise(self.family)}"

    @property
    def parts(self) -> tuple[Part, ...]:
        """In the order in which they are made."""
        if self.kind == "noise":
            return ("noise",)
        return ("test", "noise") if self.network.control in FACTORIES else ("cell", "test", "noise")

    @property
    def needs(self) -> str | None:
        """The unit whose cell this one needs: of another network, or of the same."""
        origin = self.network.origin
        if self.kind == "network":
            return None if origin is None else f"{origin}/{self.seed}"
        if self.network.control in FACTORIES:
            return None
        return f"{self.network.key}/{self.seed}"

    def describe(self, part: Part) -> str:
        """What is being done, for a reader."""
        what = {
            "cell": "cell" if self.network.control else "search",
            "test": "training",
            "noise": f"{self.protocol} fit of {describe_noise(self.family)}",
        }[part]
        return f"{self.network.title}, seed {self.seed}: {what}"


def units_of(settings: StudySettings) -> list[Unit]:
    """All units, in the order in which one worker would make them."""
    networks = compared_networks(settings)
    first = [n for n in networks if n.control is None or n.control in HAND]
    rest = [n for n in networks if n not in first]
    rest.sort(key=lambda network: network.control != POSITIVE_CONTROL)
    family = settings.noise_family
    units = [
        Unit("network" if network.own.test else "noise", network, seed, family)
        for group in (first, rest)
        for seed, network in _by_seed(group)
    ]
    for unseen in settings.unseen_families:
        units += [Unit("noise", n, seed, unseen) for seed, n in _by_seed(first + rest)]
    if settings.quick is not None:
        tested = [network for network in first + rest if network.own.test]
        units += [Unit("noise", n, seed, family, "quick") for seed, n in _by_seed(tested)]
    return units


def _by_seed(networks: list[Compared]) -> list[tuple[int, Compared]]:
    most = max((network.seeds for network in networks), default=0)
    return [(seed, n) for seed in range(most) for n in networks if seed < n.seeds]
