"""The networks that a study compares, and its units of work.

A unit is the work that one worker does at a time, for one network and seed: find the cell, train on
the data, or measure the fit to one noise family.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from darts_noise.errors import about, within
from darts_noise.noise.families import describe_noise
from darts_noise.search.parts import make_parts
from darts_noise.space.published import load_genotype
from darts_noise.study.settings import (
    BY_HAND,
    POSITIVE_CONTROL,
    RANDOM_CELLS,
    WITHOUT_CELLS,
    Control,
    StudyConfig,
)
from darts_noise.train.noisy_labels import make_selection
from darts_noise.train.settings import NoiseFamily

Part = Literal["cell", "test", "validation", "converged", "quick"]
PROTOCOLS: tuple[Part, ...] = ("converged", "quick")
"""The parts that measure noise fit."""
GIVEN, PROPOSAL = "given", "proposal"
"""Instead of a control's name: a cell that the config names, or a search with proposed settings."""
OF_PENALISED = ("matched", "batch_norm")
"""Controls that there are for the cells of each λ of more than 0."""
TITLES = {
    "random": "random cells",
    "matched": "random cells, as many parameters as",
    "batch_norm": "batch norm in the cells of",
    "all_skip": "all-skip cell",
    "regularised": "λ = 0 cell, drop path and weight decay",
    "resnet18": "ResNet-18",
    "alexnet": "small AlexNet, weight decay",
    "pooled_cnn": "CNN by hand",
    "pooled_cnn_wide": "wide CNN by hand",
}


@dataclass(frozen=True)
class Compared:
    """A network, or a way to find one, that a study compares over its seeds.

    Attributes:
        key: its name in files.
        title: its name for a reader.
        seeds: number of seeds, or of proposals.
        noise_weight: λ of the search that finds the cell, or whose cell is used or matched. None:
            the network does not depend on a search.
        control: the name of the control, `GIVEN` or `PROPOSAL`. None for a searched cell.
        own: the control's own settings.
        sources: for a given cell, the genotype of each seed.
        strategy: in a study of strategies, the name of the one that searches.
        settings: fields of `SearchConfig` in which its search differs from the study's.
        takes_steps: whether its budget is the gradient steps of the study's search.
    """

    key: str
    title: str
    seeds: int
    noise_weight: float | None = None
    control: str | None = None
    own: Control = field(default_factory=Control)
    sources: tuple[str, ...] = ()
    strategy: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    takes_steps: bool = False

    @property
    def has_cell(self) -> bool:
        """Whether the network is made of cells."""
        return self.control not in WITHOUT_CELLS


def searched(noise_weight: float, seeds: int = 1) -> Compared:
    """Return the network of the cells that are searched with this λ."""
    return Compared(f"lambda_{noise_weight:g}", f"λ = {noise_weight:g}", seeds, noise_weight)


def compared_networks(config: StudyConfig) -> list[Compared]:
    """Return all networks: searched cells, λ = 0, strategies, networks by hand, the other ones."""
    weights = sorted(config.noise_weights, key=lambda weight: weight == 0)
    searches = [searched(weight, config.seeds) for weight in weights]
    if config.strategies:
        of_study = config.strategy
        searches = [
            replace(one, title=f"{of_study}, {one.title}", strategy=of_study) for one in searches
        ]
    for name, settings in config.strategies.items():
        has_steps = replace(config.search.model, **settings).strategy_steps is not None
        takes_steps = settings["strategy"] != "darts" and not has_steps
        for weight in weights:
            searches.append(
                Compared(
                    f"strategy_{name}_{weight:g}",
                    f"{name}, {searched(weight).title}",
                    config.seeds,
                    weight,
                    strategy=name,
                    settings=settings,
                    takes_steps=takes_steps,
                )
            )
    controls = [network for name in config.controls for network in _control(config, name)]
    controls.sort(key=lambda network: network.control not in BY_HAND)
    networks = searches + controls
    for name, cells in config.cells.items():
        sources = (cells,) * config.seeds if isinstance(cells, str) else tuple(cells)
        networks.append(
            Compared(f"cell_{name}", name, len(sources), control=GIVEN, sources=sources)
        )
    return networks


def _control(config: StudyConfig, name: str) -> Iterator[Compared]:
    own, title = config.controls[name], TITLES[name]
    seeds = own.seeds or (RANDOM_CELLS if name == "random" else config.seeds)
    if name not in OF_PENALISED:
        yield Compared(name, title, seeds, 0.0 if name == "regularised" else None, name, own)
        return
    for weight in filter(None, config.noise_weights):
        like = searched(weight).title
        yield Compared(f"{name}_{weight:g}", f"{title} {like}", seeds, weight, name, own)


@dataclass(frozen=True)
class Unit:
    """One unit of work.

    Attributes:
        network: the network.
        seed: seed of the network, its training and its noise set, or the number of a proposal.
        part: the cell, the training with a test or a validation, or the protocol of a noise fit.
        family: the noise family of a noise fit.
    """

    network: Compared
    seed: int
    part: Part
    family: NoiseFamily | None = None

    @property
    def key(self) -> str:
        """The name of the unit in the storage."""
        key = f"{self.network.key}/{self.seed}/{self.part}"
        return key if self.family is None else f"{key}/{describe_noise(self.family)}"

    @property
    def needs(self) -> str | None:
        """The key of the unit whose cell, or whose gradient steps, this unit needs, or None."""
        network = self.network
        if self.part != "cell":
            return f"{network.key}/{self.seed}/cell" if network.has_cell else None
        is_search = network.control is None and not network.takes_steps
        if is_search or network.noise_weight is None:
            return None
        return f"{searched(network.noise_weight).key}/{self.seed}/cell"

    def __str__(self) -> str:
        """Return a description of the work, for a reader."""
        is_search = self.network.control in (None, PROPOSAL)
        what = ("search" if is_search else "cell") if self.part == "cell" else "training"
        if self.family is not None:
            what = f"{self.part} fit of {describe_noise(self.family)}"
        number = "number" if self.network.control == PROPOSAL else "seed"
        return f"{self.network.title}, {number} {self.seed}: {what}"


def check_names(config: StudyConfig) -> None:
    """Raise a `SettingError` for the first noise family, part of a search or cell that is invalid.

    It needs no data, so that a mistake is answered without a wait.
    """
    names: list[str] = []
    for family in config.families:
        with about("unseen_families" if names else "noise_family"):
            name = describe_noise(family)
            if name in names:
                raise ValueError(f"expected distinct ones, other than {names[0]}, got {name}")
            names.append(name)
    search = config.most_penalised
    with within("search"), within("model"):
        make_parts(search)
    with within("train"), within("model"):
        make_selection(config.train.model.noisy_labels)
    for name, settings in config.strategies.items():
        with within("strategies"), within(name):
            make_parts(replace(search, **settings))
    for name, cells in config.cells.items():
        with about(f"cells.{name}"):
            for source in [cells] if isinstance(cells, str) else cells:
                load_genotype(source)


def units_of(config: StudyConfig) -> list[Unit]:
    """Return all units, in the order in which one worker would do them.

    The evidence for the claim comes first: searched cells and networks by hand, except the quick
    fits of networks without a penalty. The other controls follow.
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
    """Return (seed, network) by seed, so that a stopped study has results of every network."""
    networks = list(networks)
    most = max((network.seeds for network in networks), default=0)
    return [(seed, n) for seed in range(most) for n in networks if seed < n.seeds]
