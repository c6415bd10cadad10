"""What a study's YAML file may say.

Searches and trainings are settled by the configs of ``search.py`` and ``train.py``: a study names
one of each and states what differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from darts_noise.naming import unknown
from darts_noise.noise.families import describe_noise, require_noise
from darts_noise.noise.mixture import Mixture
from darts_noise.train.noise_grid import NoiseGrid

CONTROLS: Mapping[str, Mapping[str, Any]] = {
    "random": {},
    "matched": {},
    "all_skip": {},
    "regularised": {"drop_path": 0.3, "weight_decay": 1e-3},
    "resnet18": {},
    "alexnet": {"weight_decay": 5e-4, "learning_rate": 0.01},
    "pooled_cnn": {"learning_rate": 0.03},
    "pooled_cnn_wide": {"learning_rate": 0.03},
}
"""Every control, with what its training has in place of the study's. The networks without norms
diverge at the rates of those that have them."""

POSITIVE_CONTROL = "resnet18"
RANDOM_CELLS = 8
"""Seeds of ``random`` where the config says nothing: each is another cell."""

T = TypeVar("T")


@dataclass(frozen=True)
class Script:
    """Settings of ``search.py`` or ``train.py``.

    Attributes:
        config: one of their config files.
        data: keys that differ from it; likewise `model` and `trainer`.
    """

    config: str
    data: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Control:
    """What a control has of its own.

    Attributes:
        seeds: how many; those of the searches when absent.
        test: train it on the data as well; false measures its noise fit alone.
        model: keys of ``train.py`` that differ from the study's training.
        stem_stride: of ``resnet18``.
    """

    seeds: int | None = None
    test: bool = True
    model: Mapping[str, Any] = field(default_factory=dict)
    stem_stride: int = 1


@dataclass(frozen=True)
class Quick:
    """The ``quick`` measurement: on as many images as there are to train on, with their recipe.

    Attributes:
        samples: N; as many as there are images when absent.
    """

    samples: int | None = None


@dataclass(frozen=True)
class Converged:
    """The ``converged`` measurement; see `darts_noise.NoiseGrid` for the last six."""

    samples: int = 1000
    epochs: int = 100
    batch_size: int = 64
    sgd_rates: tuple[float, ...] = NoiseGrid.sgd_rates
    adam_rates: tuple[float, ...] = NoiseGrid.adam_rates
    seeds: int = NoiseGrid.seeds
    gradient_clip: float = NoiseGrid.gradient_clip
    enough: float = 1.0

    def grid(self, weight_decay: float = 0.0, enough: float | None = None) -> NoiseGrid:
        """The trainings of one measurement; `enough` in place of this one's."""
        return NoiseGrid(
            sgd_rates=self.sgd_rates,
            adam_rates=self.adam_rates,
            seeds=self.seeds,
            weight_decay=weight_decay,
            gradient_clip=self.gradient_clip,
            enough=self.enough if enough is None else enough,
        )


@dataclass(frozen=True)
class StudySettings:
    """The whole of a study.

    Attributes:
        name: of its folder.
        search: of every search.
        train: of every training on the data.
        noise_weights: λ of the searches; 0 is the control.
        seeds: each network has seeds 0 to this number less one.
        noise_family: what the searches are against, and what is measured first.
        unseen_families: what is measured too, of which no search knew.
        controls: by name.
        converged: how the noise fit is measured.
        quick: the quick measurement as well, on `noise_family`; null for none.
        threads: of each worker.
        storage: URL of a database that workers on several machines share; a file in the study's
            folder when absent.
        heartbeat: seconds between a worker's signs of life; its work is taken up by another after
            two without one.
    """

    name: str
    search: Script
    train: Script
    noise_weights: tuple[float, ...] = (0.0, 1.0)
    seeds: int = 3
    noise_family: Mixture = "uniform"
    unseen_families: tuple[Mixture, ...] = ()
    controls: Mapping[str, Control] = field(default_factory=dict)
    converged: Converged = field(default_factory=Converged)
    quick: Quick | None = field(default_factory=Quick)
    threads: int = 1
    storage: str | None = None
    heartbeat: int = 60

    @property
    def families(self) -> tuple[Mixture, ...]:
        """All that are measured, that of the searches first."""
        return (self.noise_family, *self.unseen_families)


def load_settings(path: str | Path) -> StudySettings:
    """The settings in a YAML file, checked; configs that it names are found from its folder.

    Raises:
        ValueError: a file that cannot be read, an unknown key or a value out of range; one line
            that names the key.
    """
    path = Path(path)
    try:
        given = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ValueError(f"{path}: {reason}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(given, dict):
        raise ValueError(f"{path}: expected lines of key: value, got {given!r}")
    given = {"name": path.stem, **given}
    for key in ("search", "train"):
        if key not in given:
            raise ValueError(f"{key}: expected the settings of {key}.py, starting with its config")
        script = _section(Script, key, given[key])
        file = (path.parent / str(script.config)).resolve()
        if not file.is_file():
            raise ValueError(f"{key}.config: no such file: {file}")
        given[key] = Script(str(file), script.data, script.model, script.trainer)
    controls = _mapping("controls", given.get("controls"))
    for name in controls:
        if name not in CONTROLS:
            raise ValueError(f"controls: {unknown('control', name, CONTROLS)}")
    given["controls"] = {
        name: _section(Control, f"controls.{name}", own) for name, own in controls.items()
    }
    given["converged"] = _section(Converged, "converged", given.get("converged"))
    if given.get("quick", {}) is not None:
        given["quick"] = _section(Quick, "quick", given.get("quick"))
    settings = _section(StudySettings, "", given)
    _check(settings)
    return settings


def _mapping(key: str, given: object) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ValueError(f"{key}: expected lines of key: value below it, got {given!r}")
    return given


def _section(cls: type[T], place: str, given: object) -> T:
    """The dataclass of a section; its fields are the keys that there are."""
    stated = _mapping(place or "config", given)
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]  # only dataclasses come here
    for key, value in stated.items():
        if key not in names:
            error = unknown("config key", str(key), names)
            raise ValueError(f"{place}: {error}" if place else str(error))
        if isinstance(value, list):
            stated[key] = tuple(value)
    try:
        return cls(**stated)
    except TypeError:
        needed = "config" if cls is Script else "search, train"
        raise ValueError(f"{place or 'config'}: expected the key {needed}, got none") from None


def _check(settings: StudySettings) -> None:
    least: dict[str, Any] = {
        "seeds": (settings.seeds, 1),
        "threads": (settings.threads, 1),
        "heartbeat": (settings.heartbeat, 1),
        "converged.samples": (settings.converged.samples, 2),
        "converged.epochs": (settings.converged.epochs, 1),
        "converged.batch_size": (settings.converged.batch_size, 2),
    }
    for name, control in settings.controls.items():
        if control.seeds is not None:
            least[f"controls.{name}.seeds"] = (control.seeds, 1)
        dependent = name in ("matched", "regularised")
        if dependent and control.seeds is not None and control.seeds > settings.seeds:
            raise ValueError(
                f"controls.{name}.seeds: expected at most the {settings.seeds} of the searches, "
                f"got {control.seeds}"
            )
    for key, (value, lowest) in least.items():
        if type(value) is not int or value < lowest:
            raise ValueError(f"{key}: expected a whole number from {lowest}, got {value!r}")
    weights = settings.noise_weights
    numbers = all(isinstance(w, int | float) and w >= 0 for w in weights)
    if not weights or not numbers or len(set(weights)) < len(weights):
        raise ValueError(f"noise_weights: expected distinct numbers from 0, got {list(weights)}")
    if "regularised" in settings.controls and 0 not in weights:
        raise ValueError("controls.regularised: expected 0 among noise_weights, whose cell it has")
    if "matched" in settings.controls and not any(weights):
        raise ValueError("controls.matched: expected a noise weight of more than 0 to match")
    for key in ("noise_family", "noise_weight"):
        if key in settings.search.model:
            raise ValueError(f"search.model.{key}: expected it as {key}s or {key} of the study")
    for family in settings.families:
        require_noise(family)
    names = [describe_noise(family) for family in settings.families]
    if len(set(names)) < len(names):
        raise ValueError(f"unseen_families: expected others than the searched, got {names[1:]}")
    settings.converged.grid()


Protocol = Literal["converged", "quick"]
