"""The settings of a study, which are the keys of its YAML file.

Searches and trainings are settled by the configs of ``search.py`` and ``train.py``: a study names
one of each and states what differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from darts_noise.train.settings import ADAM_RATES, GRADIENT_CLIP, SEEDS, SGD_RATES, NoiseGrid

Protocol = Literal["converged", "quick"]
Family = dict[str, Any] | str
"""A noise family or several, as for `darts_noise.make_noise`."""

CONTROLS: Mapping[str, Mapping[str, Any]] = {
    "random": {},
    "matched": {},
    "all_skip": {},
    "regularised": {"drop_path": 0.3, "weight_decay": 1e-3},
    "resnet18": {},
    "alexnet": {"weight_decay": 5e-4, "learning_rate": 0.03},
    "pooled_cnn": {},
    "pooled_cnn_wide": {},
}
"""Every control, with what its training has in place of the study's."""
POSITIVE_CONTROL = "resnet18"
RANDOM_CELLS = 8
"""Seeds of ``random`` where the config says nothing: each is another cell."""


@dataclass(frozen=True)
class Script:
    """Settings of ``search.py`` or ``train.py``.

    Attributes:
        config: one of their files, found from the study's file.
        data: keys that differ from it.
        model: keys that differ from it.
        trainer: keys that differ from it.
    """

    config: str
    data: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Control:
    """What a control has of its own.

    Attributes:
        seeds: how many; those of the searches when absent, but 8 random cells.
        test: train it on the data as well; false measures its noise fit alone, which networks of
            cells cannot do without.
        model: keys of train.py that differ from the study's training.
        stem_stride: of resnet18.
    """

    seeds: int | None = None
    test: bool = True
    model: dict[str, Any] = field(default_factory=dict)
    stem_stride: int = 1


@dataclass(frozen=True)
class Converged:
    """The ``converged`` measurement; see `darts_noise.NoiseGrid` for the last five.

    Attributes:
        samples: N of the noise set.
        epochs: passes over it, at most.
        batch_size: images in a batch.
        sgd_rates: learning rates of SGD.
        adam_rates: learning rates of Adam.
        seeds: trainings with each.
        gradient_clip: largest norm of a gradient; 0 for none.
        enough: accuracy after which no further training is made.
    """

    samples: int = 1000
    epochs: int = 100
    batch_size: int = 64
    sgd_rates: list[float] = field(default_factory=lambda: list(SGD_RATES))
    adam_rates: list[float] = field(default_factory=lambda: list(ADAM_RATES))
    seeds: int = SEEDS
    gradient_clip: float = GRADIENT_CLIP
    enough: float = 1.0

    def grid(self, weight_decay: float = 0.0, enough: float | None = None) -> NoiseGrid:
        """The trainings of one measurement; `enough` in place of this one's."""
        return NoiseGrid(
            sgd_rates=tuple(self.sgd_rates),
            adam_rates=tuple(self.adam_rates),
            seeds=self.seeds,
            weight_decay=weight_decay,
            gradient_clip=self.gradient_clip,
            enough=self.enough if enough is None else enough,
        )


@dataclass(frozen=True)
class Quick:
    """The ``quick`` measurement: the recipe and the epochs of the training on the data.

    Attributes:
        samples: N of the noise set; as many as there are images to train on when absent.
    """

    samples: int | None = None


@dataclass(frozen=True)
class Sample:
    """Settings that Optuna's sampler proposes, judged by validation accuracy and noise accuracy.

    Attributes:
        trials: how many proposals; 0 for none.
        settings: noise_weight, search.<group>.<key> or train.<group>.<key>, each with a list of
            values or with low, high and perhaps log.
        validation_fraction: of the training images, which judge a proposal; never the test set.
        seed: of the sampler, the searches and the trainings.
    """

    trials: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    validation_fraction: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class StudySettings:
    """The whole of a study.

    Attributes:
        search: the settings of every search.
        train: the settings of every training on the data.
        name: of the study's folder; that of the file when absent.
        noise_weights: λ of the searches; 0 is the control.
        parameters: of every network of cells, each of which gets the channels that come nearest;
            null for the channels of its training.
        seeds: each network has the seeds 0 to this number less one.
        noise_family: what the searches are against, and what is measured first.
        unseen_families: what is measured too, of which no search knew.
        controls: by name, with what is their own.
        cells: by name, cells that are compared too, such as one found on other data: a published
            name, a .json or a run directory, or a list with one for each seed.
        converged: how the noise fit is measured.
        quick: the quick measurement as well, on noise_family; null for none.
        sample: proposals of settings, after everything else.
        threads: of each worker.
        storage: URL of a database that workers on several machines share; null for a file.
        heartbeat: seconds between signs of life; without two, a worker's unit goes to another.
    """

    search: Script
    train: Script
    name: str | None = None
    noise_weights: list[float] = field(default_factory=lambda: [0.0, 1.0])
    parameters: int | None = None
    seeds: int = 3
    noise_family: Family = "uniform"
    unseen_families: list[Family] = field(default_factory=list)
    controls: dict[str, Control | None] = field(default_factory=dict)
    cells: dict[str, str | list[str]] = field(default_factory=dict)
    converged: Converged = field(default_factory=Converged)
    quick: Quick | None = field(default_factory=Quick)
    sample: Sample = field(default_factory=Sample)
    threads: int = 1
    storage: str | None = None
    heartbeat: int = 60

    @property
    def families(self) -> tuple[Family, ...]:
        """All that are measured, that of the searches first."""
        return (self.noise_family, *self.unseen_families)

    def control(self, name: str) -> Control:
        """What a control has of its own; in YAML it may be nothing."""
        return self.controls[name] or Control()
