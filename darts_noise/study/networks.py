"""Which networks a study compares, and how many seeds of each."""

from dataclasses import dataclass, field

from darts_noise.study.settings import RANDOM_CELLS, Control, StudySettings

TITLES = {
    "random": "random cells",
    "all_skip": "all-skip cell",
    "regularised": "λ = 0 cell, drop path and weight decay",
    "resnet18": "ResNet-18",
    "alexnet": "small AlexNet, weight decay",
    "pooled_cnn": "CNN by hand",
    "pooled_cnn_wide": "wide CNN by hand",
}
HAND = ("pooled_cnn", "pooled_cnn_wide")


@dataclass(frozen=True)
class Compared:
    """A network, or a way to get one, that is compared over its seeds.

    Attributes:
        key: its name in files.
        title: its name for a reader.
        seeds: how many.
        noise_weight: λ of the search that it is from, or whose cell it is matched to; None for
            a network that has nothing of a search.
        control: the name of the control; None for a searched cell.
        own: the settings of a control.
    """

    key: str
    title: str
    seeds: int
    noise_weight: float | None = None
    control: str | None = None
    own: Control = field(default_factory=Control)

    @property
    def origin(self) -> str | None:
        """The key of the search whose cell this one needs."""
        if self.control in ("matched", "regularised"):
            return searched_key(self.noise_weight or 0.0)
        return None


def searched_key(noise_weight: float) -> str:
    """The key of the cell that is searched with this λ."""
    return f"lambda_{noise_weight:g}"


def compared_networks(settings: StudySettings) -> list[Compared]:
    """All networks, the most telling first: found cells, λ = 0, those by hand, the rest."""
    found = [
        Compared(searched_key(weight), f"λ = {weight:g}", settings.seeds, float(weight))
        for weight in sorted(settings.noise_weights, key=lambda weight: weight == 0)
    ]
    controls: list[Compared] = []
    for name, own in settings.controls.items():
        seeds = own.seeds or (RANDOM_CELLS if name == "random" else settings.seeds)
        if name == "matched":
            controls += [
                Compared(
                    f"matched_{weight:g}",
                    f"random cells, as many parameters as λ = {weight:g}",
                    seeds,
                    float(weight),
                    name,
                    own,
                )
                for weight in settings.noise_weights
                if weight > 0
            ]
        else:
            weight = 0.0 if name == "regularised" else None
            controls.append(Compared(name, TITLES[name], seeds, weight, name, own))
    controls.sort(key=lambda network: network.control not in HAND)
    return found + controls
