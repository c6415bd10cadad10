"""The settings of a study, in a module that imports neither torch nor Lightning."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from darts_noise.configured import changed, naming_arguments, require_fields
from darts_noise.data.settings import DataConfig
from darts_noise.errors import SettingError, unknown, within
from darts_noise.runs.settings import PLAIN, TrainerConfig, check_trainer, is_plain
from darts_noise.search.settings import SearchConfig
from darts_noise.shown import shown
from darts_noise.train.settings import (
    ADAM_RATES,
    GRADIENT_CLIP,
    MUON_RATES,
    SCALES,
    SEEDS,
    SGD_RATES,
    NoiseFamily,
    NoiseGrid,
    TrainConfig,
)

NEEDS_OPTUNA = "a study needs Optuna: pip install 'optuna>=5,<6'"
CONTROLS: Mapping[str, Mapping[str, Any]] = {
    "random": {},
    "matched": {},
    "batch_norm": {},
    "all_skip": {},
    "regularised": {"drop_path": 0.3, "weight_decay": 1e-3},
    "resnet18": {},
    "alexnet": {"weight_decay": 5e-4, "learning_rate": 0.03},
    "pooled_cnn": {},
    "pooled_cnn_wide": {},
}
"""The controls by name, with the fields of `TrainConfig` that each changes."""
BY_HAND = ("pooled_cnn", "pooled_cnn_wide")
FRONT = ("test_accuracy", "noise_accuracy", "parameters", "multiply_adds")
OBJECTIVE = "objectives/"
"""Figures of a front, and what is before the name of an objective among them."""
WITHOUT_CELLS = ("resnet18", "alexnet", *BY_HAND)
OF_A_SEARCH = ("matched", "batch_norm", "regularised")
"""Controls that need the searched cell of the same seed."""
POSITIVE_CONTROL = "resnet18"
RANDOM_CELLS = 8
"""Default number of seeds of ``random``. Each seed is another cell."""
WEIGHT, RANGE, GROUPS = "noise_weight", ("low", "high", "log"), ("data", "model", "trainer")
"""For proposals: the key of λ, the keys of a range, and the groups of all other keys."""
DECIDED = (
    *("search.model.noise_weight", "search.model.noise_family", "search.model.seed"),
    *("search.data.seed", "train.data.seed", "train.model.seed", "train.model.genotype"),
)
"""Keys of a search and of a training that the study itself sets."""


def _require(holds: bool, key: str, problem: str) -> None:
    if not holds:
        raise SettingError(key, problem)


def _require_plain(key: str, name: str) -> None:
    _require(is_plain(name), key, f"expected {PLAIN}, got {shown(name)}")


@dataclass(frozen=True)
class SearchSetup:
    """The settings of every search of a study. The study sets the seeds, λ and the noise family.

    Args:
        data: the images.
        model: the search.
        trainer: Lightning's Trainer.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: SearchConfig = field(default_factory=SearchConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        check_trainer(self.model, self.trainer)


@dataclass(frozen=True)
class TrainSetup:
    """The settings of every training of a study. The study sets the seeds and the cell.

    Args:
        data: the images.
        model: the network and its recipe.
        trainer: Lightning's Trainer.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: TrainConfig = field(default_factory=TrainConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        limit = self.trainer.limit_test_batches
        _require(
            limit != 0,
            "trainer.limit_test_batches",
            "expected more than 0 batches, because a study tests",
        )


@dataclass(frozen=True)
class Control:
    """The settings of one control.

    Args:
        seeds: number of seeds. null: 8 for random, otherwise the number of the searches.
        test: also train it on the data. false: measure only its noise fit; allowed for a network
            without cells.
        model: fields of `TrainConfig` that differ from the study's training.
        stem_stride: stride of the stem of resnet18.
    """

    seeds: int | None = None
    test: bool = True
    model: dict[str, Any] = field(default_factory=dict)
    stem_stride: int = 1

    def __post_init__(self) -> None:
        require_fields(self, seeds=1, stem_stride=1)


@dataclass(frozen=True)
class Converged:
    """The ``converged`` measurement; see `darts_noise.NoiseGrid` for the last seven.

    Args:
        samples: N of the noise set.
        epochs: largest number of passes over the noise set.
        batch_size: images in a batch.
        sgd_rates: learning rates of SGD.
        adam_rates: learning rates of Adam.
        seeds: number of seeds for each combination.
        gradient_clip: largest norm of the gradient. 0: no clipping.
        enough: stop after a training with this accuracy.
        scales: factors on the initial weights.
        muon_rates: learning rates of Muon.
    """

    samples: int = 1000
    epochs: int = 100
    batch_size: int = 64
    sgd_rates: tuple[float, ...] = SGD_RATES
    adam_rates: tuple[float, ...] = ADAM_RATES
    seeds: int = SEEDS
    gradient_clip: float = GRADIENT_CLIP
    enough: float = 1.0
    scales: tuple[float, ...] = SCALES
    muon_rates: tuple[float, ...] = MUON_RATES

    def __post_init__(self) -> None:
        require_fields(self, samples=2, epochs=1, batch_size=2)
        self.grid()

    def grid(self, **replaced: float) -> NoiseGrid:
        """Return the trainings of one measurement."""
        own = {f.name: getattr(self, f.name) for f in fields(NoiseGrid) if hasattr(self, f.name)}
        return NoiseGrid(**{**own, **replaced})


@dataclass(frozen=True)
class Quick:
    """The ``quick`` measurement: the recipe and the epochs of the training on the data.

    Args:
        samples: images in the noise set. null: the number of training images.
    """

    samples: int | None = None

    def __post_init__(self) -> None:
        require_fields(self, samples=2)


@dataclass(frozen=True)
class Sample:
    """Settings that Optuna proposes, judged by their validation accuracy and noise accuracy.

    Args:
        trials: number of proposals. 0: none.
        settings: noise_weight (λ of the proposals; 1 if it is not proposed), search.<group>.<key>
            or train.<group>.<key>. Each has a list of values, or low, high and optionally log.
        validation_fraction: share of the training images that judge a proposal. Test images are
            never used for this.
        seed: seed of the sampler, the searches and the trainings.
    """

    trials: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    validation_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        require_fields(self, trials=0, seed=0)
        share, key = self.validation_fraction, "validation_fraction"
        _require(0 < share < 1, key, f"expected more than 0 and less than 1, got {share}")
        some = bool(self.settings) or not self.trials
        _require(some, "settings", "expected noise_weight or another setting, got none")
        for key, values in self.settings.items():
            good = bool(values) if isinstance(values, list) else _is_range(values)
            expected = "expected a list of values, or low, high and perhaps log (for a low above 0)"
            _require(good, f"settings.{key}", f"{expected}, got {values}")


def _is_range(values: object) -> bool:
    if not isinstance(values, Mapping) or not {"low", "high"} <= {*values} <= {*RANGE}:
        return False
    low, high = values["low"], values["high"]
    numbers = all(type(value) in (int, float) for value in (low, high))
    return numbers and low < high and (low > 0 or not values.get("log"))


@naming_arguments
@dataclass(frozen=True)
class StudyConfig:
    """The settings of a study.

    Args:
        search: the settings of every search.
        train: the settings of every training on the data.
        name: name of the study's folder. null: the name of the config file, or of the data set.
        noise_weights: values of λ for the searches. 0 is the control.
        parameters: target number of parameters of every network of cells; sets its channels to the
            nearest match. null: use train.model.channels.
        seeds: number of seeds of each network, counted from 0.
        noise_family: noise family of the searches. Its noise fit is measured first.
        unseen_families: further noise families to measure. No search uses them.
        controls: the controls by name, with their own settings.
        strategies: further searches of each λ, by name, with the keys of search.model that differ.
            Without strategy, the name is the strategy. Without strategy_steps, the budget is the
            number of gradient steps of the search with search.model of the same λ and seed.
        front: two figures whose Pareto front the study lists and draws: test_accuracy,
            noise_accuracy, parameters, multiply_adds, or objectives/NAME for an objective of the
            searches. null: none.
        cells: further cells to compare, by name: a published name, a .json file or a run directory,
            or a list with one for each seed.
        converged: settings of the noise measurement.
        quick: also measure noise_family with the protocol quick. null: do not.
        sample: settings that a sampler proposes, after everything else.
        threads: CPU threads of each worker.
        storage: URL of a database that workers on several machines share. null: a file in the
            study's folder.
        heartbeat: seconds between two heartbeats of a worker. If it misses two, another worker gets
            its unit.

    Raises:
        SettingError: a value out of range, an unknown control, or settings that contradict each
            other.
    """

    search: SearchSetup = field(default_factory=SearchSetup)
    train: TrainSetup = field(default_factory=TrainSetup)
    name: str | None = None
    noise_weights: list[float] = field(default_factory=lambda: [0.0, 1.0])
    parameters: int | None = None
    seeds: int = 3
    noise_family: NoiseFamily = "uniform"
    unseen_families: list[NoiseFamily] = field(default_factory=list)
    controls: dict[str, Control] = field(default_factory=dict)
    strategies: dict[str, Any] = field(default_factory=dict)
    front: tuple[str, str] | None = None
    cells: dict[str, str | list[str]] = field(default_factory=dict)
    converged: Converged = field(default_factory=Converged)
    quick: Quick | None = field(default_factory=Quick)
    sample: Sample = field(default_factory=Sample)
    threads: int = 1
    storage: str | None = None
    heartbeat: int = 60

    def __post_init__(self) -> None:
        require_fields(self, seeds=1, threads=1, heartbeat=1, parameters=1)
        if self.name is not None:
            _require_plain("name", self.name)
        weights = self.noise_weights
        good = all(type(w) in (int, float) and 0 <= w < math.inf for w in weights)
        good = good and len({f"{weight:g}" for weight in weights}) == len(weights)
        expected = "expected distinct numbers from 0, which differ in their first six digits"
        _require(good, "noise_weights", f"{expected}, got {weights}")
        valid = [*FRONT, *(f"{OBJECTIVE}{name}" for name in self._objectives)]
        for name in self.front or ():
            if name not in valid:
                raise SettingError("front", unknown("figure", name, valid))
        _require(not self.front or len({*self.front}) == 2, "front", "expected two figures")
        own = self.parameters is not None or self.train.model.parameters is None
        _require(own, "train.model.parameters", "expected as a key of the study itself")
        for name, cells in self.cells.items():
            _require_plain("cells", name)
            expected = "expected a cell, or a list with one for each seed"
            _require(bool(cells), f"cells.{name}", expected)
        quick: object = self.quick
        if isinstance(quick, Mapping):  # from a file; the controls likewise
            with within("quick"):
                object.__setattr__(self, "quick", changed(Quick(), quick))
        controls = {name: self._control(name, own) for name, own in self.controls.items()}
        object.__setattr__(self, "controls", controls)
        strategies = {name: self._strategy(name, own) for name, own in self.strategies.items()}
        object.__setattr__(self, "strategies", strategies)
        alone = not strategies or self.strategy != "darts" or self.search.model.candidates > 1
        expected = "expected 2 or more with strategies, so that each F is that of a cell alone"
        _require(alone, "search.model.candidates", expected)
        with within("sample"), within("settings"):
            for key, values in self.sample.settings.items():
                for value in [values["low"], values["high"]] if _is_range(values) else values:
                    self.proposed({key: value})

    def _control(self, name: str, own: object) -> Control:
        """Return a control with all settings that differ from the study's trainings."""
        if name not in CONTROLS:
            raise SettingError("controls", unknown("control", name, CONTROLS))
        if not isinstance(own, Control | Mapping | None):
            raise SettingError(f"controls.{name}", f"expected settings, got {shown(own)}")
        with within("controls"), within(name):
            control = own if isinstance(own, Control) else changed(Control(), own or {})
            control = replace(control, model={**CONTROLS[name], **control.model})
            with within("model"):
                for key in sorted(control.model.keys() & {"parameters", "genotype", "seed"}):
                    raise SettingError(key, "expected none, because the study sets it")
                changed(self.train.model, control.model)
        seeds, weights = control.seeds or 0, self.noise_weights
        for holds, key, expected in (
            (control.test or name in WITHOUT_CELLS, ".test", "true, because it is made of cells"),
            (
                name not in OF_A_SEARCH or seeds <= self.seeds,
                ".seeds",
                f"at most the {self.seeds} of the searches, got {seeds}",
            ),
            (name != "regularised" or 0 in weights, "", "0 among noise_weights, whose cell it has"),
            (name != "matched" or any(weights), "", "a noise weight of more than 0 to match"),
            (name != "batch_norm" or any(weights), "", "a noise weight of more than 0"),
        ):
            _require(holds, f"controls.{name}{key}", f"expected {expected}")
        return control

    def _strategy(self, name: str, own: object) -> dict[str, Any]:
        """Return all fields of `SearchConfig` in which a further search differs."""
        _require_plain("strategies", name)
        expected = "expected another name, because search.model is the search of this name"
        _require(name != self.strategy, f"strategies.{name}", expected)
        if not isinstance(own, Mapping | None):
            raise SettingError(f"strategies.{name}", f"expected settings, got {shown(own)}")
        with within("strategies"), within(name):
            settings = {"strategy": name, **(own or {})}
            for key in sorted(settings.keys() & {key.split(".")[-1] for key in DECIDED}):
                raise SettingError(key, "expected none, because the study sets it")
            if settings["strategy"] != "darts":
                settings = {"race": 0, "variants": None, **settings}
            changed(self.search.model, settings)
        return settings

    @property
    def _objectives(self) -> set[str]:
        """The names of the objectives of all searches."""
        own = [of.get("objectives") for of in self.strategies.values() if isinstance(of, Mapping)]
        given = [self.search.model.objectives, *own]
        return {n for names in given for n in ([names] if isinstance(names, str) else names or ())}

    @property
    def strategy(self) -> str:
        """The name of the strategy of search.model."""
        setting = self.search.model.strategy
        return setting if isinstance(setting, str) else next(iter(setting), "")

    @property
    def families(self) -> tuple[NoiseFamily, ...]:
        """All measured families, the family of the searches first."""
        return (self.noise_family, *self.unseen_families)

    @property
    def most_penalised(self) -> SearchConfig:
        """The settings of its searches with the largest λ."""
        weight = max(self.noise_weights, default=1.0)
        return replace(self.search.model, noise_weight=weight, noise_family=self.noise_family)

    def proposed(self, proposal: Mapping[str, Any]) -> "StudyConfig":
        """Return the study of one proposal. It holds out validation images to judge the proposal.

        Args:
            proposal: key → value, as in `Sample.settings`.

        Raises:
            SettingError: no such key, or an invalid value.
        """
        sample, train = self.sample, self.train
        data = replace(train.data, validation_fraction=sample.validation_fraction)
        setups: dict[str, Any] = {"search": self.search, "train": replace(train, data=data)}
        for key, value in proposal.items():
            setup, _, rest = key.partition(".")
            group, _, name = rest.partition(".")
            if key == WEIGHT:
                _require(type(value) in (int, float), key, f"expected numbers, got {value!r}")
                continue
            known = setup in setups and group in GROUPS
            expected = "expected noise_weight, search.<group>.<key> or train.<group>.<key>"
            _require(known, key, expected)
            _require(key not in DECIDED, key, "expected none, because the study sets it")
            if key == "train.model.channels":
                free = self.parameters is None
                _require(free, key, "expected none beside parameters, which sets the channels")
            with within(setup):
                with within(group):
                    part = changed(getattr(setups[setup], group), {name: value})
                setups[setup] = replace(setups[setup], **{group: part})
        weights = [proposal.get(WEIGHT, 1.0)]
        own: dict[str, Any] = {"controls": {}, "strategies": {}, "sample": Sample(), **setups}
        return replace(self, noise_weights=weights, **own)
