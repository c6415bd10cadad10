"""What a study consists of: the networks that it compares, and its units of work.

A unit is what a worker takes and makes at one go: the cell of a network and seed, its training on
the data, or one fit of noise.
"""

from collections.abc import Iterable, Iterator
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

Part = Literal["cell", "test", "validation", "converged", "quick"]
PROTOCOLS: tuple[Part, ...] = ("converged", "quick")
"""Parts that are noise fits."""
GIVEN, PROPOSAL = "given", "proposal"
"""In place of a control's name: a cell that the config names; a search with proposed settings."""
TITLES = {
    "random": "random cells",
    "matched": "random cells, as many parameters as",
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
        seeds: how many; of proposals, how many there are.
        noise_weight: λ of the search that it is from, or whose cell it takes or matches; None for
            a network that has nothing of a search.
        control: the name of the control, `GIVEN` or `PROPOSAL`; None for a searched cell.
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


def searched(noise_weight: float, seeds: int = 1) -> Compared:
    """Return the cells that are searched with this λ."""
    return Compared(f"lambda_{noise_weight:g}", f"λ = {noise_weight:g}", seeds, noise_weight)


def compared_networks(config: StudyConfig) -> list[Compared]:
    """Return all networks: found cells, λ = 0, those by hand, the other controls, given cells."""
    weights = sorted(config.noise_weights, key=lambda weight: weight == 0)
    controls = [network for name in config.controls for network in _control(config, name)]
    controls.sort(key=lambda network: network.control not in BY_HAND)
    networks = [searched(weight, config.seeds) for weight in weights] + controls
    for name, cells in config.cells.items():
        sources = (cells,) * config.seeds if isinstance(cells, str) else tuple(cells)
        networks.append(
            Compared(f"cell_{name}", name, len(sources), control=GIVEN, sources=sources)
        )
    return networks


def _control(config: StudyConfig, name: str) -> Iterator[Compared]:
    own, title = config.controls[name], TITLES[name]
    seeds = own.seeds or (RANDOM_CELLS if name == "random" else config.seeds)
    if name != "matched":
        yield Compared(name, title, seeds, 0.0 if name == "regularised" else None, name, own)
        return
    for weight in filter(None, config.noise_weights):
        like = searched(weight).title
        yield Compared(f"matched_{weight:g}", f"{title} {like}", seeds, weight, name, own)


@dataclass(frozen=True)
class Unit:
    """One piece of work.

    Attributes:
        network: what is measured.
        seed: of the network, its training and its noise set; of a proposal, its number.
        part: the cell, the training with a test or without, or the protocol of a noise fit.
        family: of the noise.
    """

    network: Compared
    seed: int
    part: Part
    family: NoiseFamily | None = None

    @property
    def key(self) -> str:
        """What it is called in the storage."""
        key = f"{self.network.key}/{self.seed}/{self.part}"
        return key if self.family is None else f"{key}/{describe_noise(self.family)}"

    @property
    def needs(self) -> str | None:
        """The unit whose cell this one needs: of the same network, or of another."""
        network = self.network
        if self.part != "cell":
            return f"{network.key}/{self.seed}/cell" if network.has_cell else None
        if network.control is None or network.noise_weight is None:
            return None
        return f"{searched(network.noise_weight).key}/{self.seed}/cell"

    def __str__(self) -> str:
        """What is being done, for a reader."""
        is_search = self.network.control in (None, PROPOSAL)
        what = ("search" if is_search else "cell") if self.part == "cell" else "training"
        if self.family is not None:
            what = f"{self.part} fit of {describe_noise(self.family)}"
        number = "number" if self.network.control == PROPOSAL else "seed"
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
    others = [n for n in networks if n not in claim]

    def main(some: Iterable[Compared], test: Part = "test") -> Iterator[Unit]:
        for seed, network in _by_seed(some):
            if network.has_cell:
                yield Unit(network, seed, "cell")
            if network.own.test:
                yield Unit(network, seed, test)
            yield Unit(network, seed, "converged", family)

    def unseen(some: Iterable[Compared]) -> Iterator[Unit]:
        for other in config.unseen_families:
            yield from (Unit(n, seed, "converged", other) for seed, n in _by_seed(some))

    def quick(some: Iterable[Compared]) -> Iterator[Unit]:
        if config.quick is not None:
            tested = [n for n in some if n.own.test]
            yield from (Unit(n, seed, "quick", family) for seed, n in _by_seed(tested))

    return [
        *main(first),
        *main(positive),
        *quick(claim),
        *unseen(first),
        *main(rest),
        *unseen([*positive, *rest]),
        *quick(others),
        *main([Compared("sample", PROPOSAL, config.sample.trials, control=PROPOSAL)], "validation"),
    ]


def _by_seed(networks: Iterable[Compared]) -> list[tuple[int, Compared]]:
    """Seed by seed, so that a study that is stopped has some of everything."""
    networks = list(networks)
    most = max((network.seeds for network in networks), default=0)
    return [(seed, n) for seed in range(most) for n in networks if seed < n.seeds]
