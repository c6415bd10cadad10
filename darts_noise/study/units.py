"""What a study consists of: the networks that it compares, and its units of work.

A unit is one Optuna trial. Unit ``network`` is all that puts a network with one seed into the plane
of test accuracy and noise accuracy, so that a trial has both values. Its steps (cell, training,
noise fit) are its parts, each kept as soon as it is finished. Further noise families and the quick
measurement are units of their own, since they can wait. Unit ``sample`` is all of a proposal.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from darts_noise.noise.families import describe_noise
from darts_noise.study.settings import (
    BY_HAND,
    POSITIVE_CONTROL,
    RANDOM_CELLS,
    WITHOUT_CELLS,
    Control,
    StudyConfig,
)
from darts_noise.train.settings import NoiseFamily

Kind = Literal["network", "noise", "sample"]
Part = Literal["cell", "test", "validation", "noise"]
Protocol = Literal["converged", "quick"]

GIVEN = "given"
"""In place of a control's name: a cell that the config names."""
TITLES = {
    "random": "random cells",
    "all_skip": "all-skip cell",
    "regularised": "λ = 0 cell, drop path and weight decay",
    "resnet18": "ResNet-18",
    "alexnet": "small AlexNet, weight decay",
    "pooled_cnn": "CNN by hand",
    "pooled_cnn_wide": "wide CNN by hand",
}


@dataclass(frozen=True)
class Compared:
    """A network, or a way to get one, that is compared over its seeds.

    Attributes:
        key: its name in files.
        title: its name for a reader.
        seeds: how many.
        noise_weight: λ of the search that it is from, or whose cell it takes or matches; None for
            a network that has nothing of a search.
        control: the name of the control, or `GIVEN`; None for a searched cell.
        own: the settings of a control.
        sources: of a given cell, where that of each seed is.
    """

    key: str
    title: str
    seeds: int
    noise_weight: float | None = None
    control: str | None = None
    own: Control = field(default_factory=Control)
    sources: tuple[str, ...] = ()

    @property
    def has_cell(self) -> bool:
        """Whether it is made of cells."""
        return self.control not in WITHOUT_CELLS

    @property
    def origin(self) -> str | None:
        """The key of the network whose cell this one takes or matches."""
        if self.control is None or self.noise_weight is None:
            return None
        return searched(self.noise_weight, self.seeds).key


def searched(noise_weight: float, seeds: int) -> Compared:
    """Return the cells that are searched with this λ."""
    return Compared(f"lambda_{noise_weight:g}", f"λ = {noise_weight:g}", seeds, noise_weight)


def compared_networks(config: StudyConfig) -> list[Compared]:
    """Return all networks: found cells, λ = 0, those by hand, the other controls, given cells."""
    weights = sorted(config.noise_weights, key=lambda weight: weight == 0)
    found = [searched(weight, config.seeds) for weight in weights]
    controls = [network for name in config.controls for network in _control(config, name)]
    controls.sort(key=lambda network: network.control not in BY_HAND)
    return found + controls + [_given(config, name) for name in config.cells]


def _given(config: StudyConfig, name: str) -> Compared:
    cells = config.cells[name]
    sources = (cells,) * config.seeds if isinstance(cells, str) else tuple(cells)
    return Compared(f"cell_{name}", name, len(sources), control=GIVEN, sources=sources)


def _control(config: StudyConfig, name: str) -> list[Compared]:
    own = config.controls[name]
    seeds = own.seeds or (RANDOM_CELLS if name == "random" else config.seeds)
    if name != "matched":
        weight = 0.0 if name == "regularised" else None
        return [Compared(name, TITLES[name], seeds, weight, name, own)]
    title = "random cells, as many parameters as λ ="
    return [
        Compared(f"matched_{weight:g}", f"{title} {weight:g}", seeds, weight, name, own)
        for weight in config.noise_weights
        if weight > 0
    ]


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
    family: NoiseFamily
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


def units_of(config: StudyConfig) -> list[Unit]:
    """Return all units, in the order in which one worker would make them.

    First what the claim rests on: found cells and networks by hand, all that is measured of them
    but the quick fit of those that no penalty has seen. Then the other controls.
    """
    family = config.noise_family
    networks = compared_networks(config)
    first = [n for n in networks if n.control is None or n.control in BY_HAND]
    positive = [n for n in networks if n.control == POSITIVE_CONTROL]
    rest = [n for n in networks if n not in first and n not in positive]
    claim = [n for n in first if n.control is None and n.noise_weight]

    def fits(
        some: Iterable[Compared], families: Iterable[NoiseFamily], protocol: Protocol
    ) -> list[Unit]:
        order = _by_seed(some)
        return [Unit("noise", n, seed, f, protocol) for f in families for seed, n in order]

    def main(some: Iterable[Compared]) -> list[Unit]:
        return [
            Unit("network" if n.own.test else "noise", n, seed, family)
            for seed, n in _by_seed(some)
        ]

    def quick(some: Iterable[Compared]) -> list[Unit]:
        tested = [n for n in some if n.own.test and config.quick is not None]
        return fits(tested, [family], "quick")

    unseen = config.unseen_families
    others = [n for n in networks if n not in claim]
    units = [*main(first), *main(positive), *quick(claim), *fits(first, unseen, "converged")]
    units += [*main(rest), *fits([*positive, *rest], unseen, "converged"), *quick(others)]
    proposal = Compared("sample", "proposal", config.sample.trials)
    units += [Unit("sample", proposal, number, family) for number in range(proposal.seeds)]
    return units


def _by_seed(networks: Iterable[Compared]) -> list[tuple[int, Compared]]:
    """Seed by seed, so that a study that is stopped has some of everything."""
    networks = list(networks)
    most = max((network.seeds for network in networks), default=0)
    return [(seed, n) for seed in range(most) for n in networks if seed < n.seeds]
