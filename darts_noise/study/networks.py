"""Which networks a study compares, and how many seeds of each."""

from dataclasses import dataclass, field

from darts_noise.study.settings import RANDOM_CELLS, Control, StudySettings

HAND = ("pooled_cnn", "pooled_cnn_wide")
FACTORIES = ("resnet18", "alexnet", *HAND)
"""Controls that are not made of cells."""
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
        return self.control not in FACTORIES

    @property
    def origin(self) -> str | None:
        """The key of the network whose cell this one takes or matches."""
        if self.control is None or self.noise_weight is None:
            return None
        return searched_key(self.noise_weight)


def searched_key(noise_weight: float) -> str:
    """The key of the cell that is searched with this λ."""
    return f"lambda_{noise_weight:g}"


def searched(noise_weight: float, seeds: int) -> Compared:
    """The cells that are searched with this λ."""
    return Compared(searched_key(noise_weight), f"λ = {noise_weight:g}", seeds, noise_weight)


def compared_networks(settings: StudySettings) -> list[Compared]:
    """All networks: found cells, λ = 0, those by hand, the other controls, given cells."""
    weights = sorted(settings.noise_weights, key=lambda weight: weight == 0)
    found = [searched(weight, settings.seeds) for weight in weights]
    controls = [network for name in settings.controls for network in _control(settings, name)]
    controls.sort(key=lambda network: network.control not in HAND)
    return found + controls + [_given(settings, name) for name in settings.cells]


def _given(settings: StudySettings, name: str) -> Compared:
    cells = settings.cells[name]
    sources = (cells,) * settings.seeds if isinstance(cells, str) else tuple(cells)
    return Compared(f"cell_{name}", name, len(sources), control=GIVEN, sources=sources)


def _control(settings: StudySettings, name: str) -> list[Compared]:
    own = settings.control(name)
    seeds = own.seeds or (RANDOM_CELLS if name == "random" else settings.seeds)
    if name != "matched":
        weight = 0.0 if name == "regularised" else None
        return [Compared(name, TITLES[name], seeds, weight, name, own)]
    return [
        Compared(
            f"matched_{weight:g}",
            f"random cells, as many parameters as λ = {weight:g}",
            seeds,
            weight,
            name,
            own,
        )
        for weight in settings.noise_weights
        if weight > 0
    ]
