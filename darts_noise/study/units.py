"""What a study consists of: its units of work, the most telling first, and their parts.

A unit is one Optuna trial. Unit ``network`` is all that puts a network with one seed into the plane
of test accuracy and noise accuracy, so that a trial has both values; what it needs one after the
other (cell, training, noise fit) are its parts, each kept as soon as it is finished. Further noise
families and the quick measurement are units of their own, since they can wait. Unit ``sample`` is
all of a proposal.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from darts_noise.noise.families import describe_noise
from darts_noise.study.networks import HAND, Compared, compared_networks
from darts_noise.study.settings import POSITIVE_CONTROL, Family, Protocol, StudySettings

Kind = Literal["network", "noise", "sample"]
Part = Literal["cell", "test", "validation", "noise"]


@dataclass(frozen=True)
class Unit:
    """One piece of work that a worker takes.

    Attributes:
        kind: what is made.
        network: what is measured; of a proposal, a name alone.
        seed: of the network, its training and its noise set; of a proposal, its number.
        family: of the noise.
        protocol: of the noise fit.
    """

    kind: Kind
    network: Compared
    seed: int
    family: Family
    protocol: Protocol = "converged"

    @property
    def key(self) -> str:
        """What it is called in the storage."""
        name = f"{self.network.key}/{self.seed}"
        if self.kind != "noise":
            return name
        return f"{name}/{self.protocol}/{describe_noise(self.family)}"

    @property
    def parts(self) -> tuple[Part, ...]:
        """In the order in which they are made."""
        if self.kind == "noise":
            return ("noise",)
        if self.kind == "sample":
            return ("cell", "validation", "noise")
        return ("cell", "test", "noise") if self.network.has_cell else ("test", "noise")

    @property
    def needs(self) -> str | None:
        """The unit whose cell this one needs: of the same network, or of another."""
        if self.kind == "noise":
            return f"{self.network.key}/{self.seed}" if self.network.has_cell else None
        origin = self.network.origin
        return None if origin is None else f"{origin}/{self.seed}"

    def describe(self, part: Part) -> str:
        """What is being done, for a reader."""
        what = {
            "cell": "cell" if self.network.control else "search",
            "test": "training",
            "validation": "training",
            "noise": f"{self.protocol} fit of {describe_noise(self.family)}",
        }[part]
        number = "number" if self.kind == "sample" else "seed"
        return f"{self.network.title}, {number} {self.seed}: {what}"


def units_of(settings: StudySettings) -> list[Unit]:
    """All units, in the order in which one worker would make them.

    First what the claim rests on: found cells and networks by hand, all that is measured of them
    but the quick fit of those that no penalty has seen. Then the other controls.
    """
    family = settings.noise_family
    networks = compared_networks(settings)
    first = [n for n in networks if n.control is None or n.control in HAND]
    positive = [n for n in networks if n.control == POSITIVE_CONTROL]
    rest = [n for n in networks if n not in first and n not in positive]
    claim = [n for n in first if n.control is None and n.noise_weight]

    def fits(
        some: Iterable[Compared], families: Iterable[Family], protocol: Protocol
    ) -> list[Unit]:
        order = _by_seed(some)
        return [Unit("noise", n, seed, f, protocol) for f in families for seed, n in order]

    def main(some: Iterable[Compared]) -> list[Unit]:
        return [
            Unit("network" if n.own.test else "noise", n, seed, family)
            for seed, n in _by_seed(some)
        ]

    def quick(some: Iterable[Compared]) -> list[Unit]:
        tested = [n for n in some if n.own.test and settings.quick is not None]
        return fits(tested, [family], "quick")

    unseen = settings.unseen_families
    others = [n for n in networks if n not in claim]
    units = [*main(first), *main(positive), *quick(claim), *fits(first, unseen, "converged")]
    units += [*main(rest), *fits([*positive, *rest], unseen, "converged"), *quick(others)]
    proposal = Compared("sample", "proposal", settings.sample.trials)
    units += [Unit("sample", proposal, number, family) for number in range(proposal.seeds)]
    return units


def _by_seed(networks: Iterable[Compared]) -> list[tuple[int, Compared]]:
    """Seed by seed, so that a study that is stopped has some of everything."""
    networks = list(networks)
    most = max((network.seeds for network in networks), default=0)
    return [(seed, n) for seed in range(most) for n in networks if seed < n.seeds]
