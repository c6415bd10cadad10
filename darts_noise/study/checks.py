"""What the settings of a study may be; each refusal is one line that names the key."""

from typing import Any

from darts_noise.errors import SettingError, unknown
from darts_noise.noise.families import describe_noise, require_noise
from darts_noise.runs.settings import PLAIN, is_plain
from darts_noise.space.published import load_genotype
from darts_noise.space.shown import shown
from darts_noise.study.networks import FACTORIES
from darts_noise.study.sample import check_sample
from darts_noise.study.settings import CONTROLS, StudySettings

FROM_SEARCH = {"matched", "regularised"}
"""Controls that need the searched cell of the same seed."""
OWN_KEYS = ("noise_family", "noise_weight")


def check_settings(settings: StudySettings) -> None:
    """Raises ``ValueError`` for the first setting that is out of bounds or an unknown name."""
    _check_name("name", settings.name or "")
    _check_numbers(settings)
    _check_controls(settings)
    _check_families(settings)
    _check_cells(settings)
    for key in OWN_KEYS:
        if key in settings.search.model:
            raise ValueError(f"search.model.{key}: expected it as a key of the study itself")
    try:
        settings.converged.grid()
    except ValueError as error:
        raise ValueError(f"converged.{error}") from None
    check_sample(settings)


def _check_name(key: str, name: str) -> None:
    """A name that files are called by."""
    if not is_plain(name):
        raise ValueError(f"{key}: expected {PLAIN}, got {shown(name)}")


def _check_cells(settings: StudySettings) -> None:
    for name, cells in settings.cells.items():
        _check_name("cells", name)
        if not cells:
            raise ValueError(f"cells.{name}: expected a cell, or a list with one for each seed")
        for source in [cells] if isinstance(cells, str) else cells:
            try:
                load_genotype(source)
            except ValueError as error:
                raise ValueError(f"cells.{name}: {error}") from None


def _check_numbers(settings: StudySettings) -> None:
    converged, sample = settings.converged, settings.sample
    least: dict[str, tuple[Any, int]] = {
        "seeds": (settings.seeds, 1),
        "threads": (settings.threads, 1),
        "heartbeat": (settings.heartbeat, 1),
        "converged.samples": (converged.samples, 2),
        "converged.epochs": (converged.epochs, 1),
        "converged.batch_size": (converged.batch_size, 2),
        "sample.trials": (sample.trials, 0),
        "sample.seed": (sample.seed, 0),
    }
    if settings.parameters is not None:
        least["parameters"] = (settings.parameters, 1)
    if settings.quick is not None and settings.quick.samples is not None:
        least["quick.samples"] = (settings.quick.samples, 2)
    for key, (value, lowest) in least.items():
        if value < lowest:
            raise ValueError(f"{key}: expected {lowest} or more, got {value}")
    weights = settings.noise_weights
    if not all(0 <= w < float("inf") for w in weights) or len(set(weights)) < len(weights):
        raise ValueError(f"noise_weights: expected distinct numbers from 0, got {weights}")
    if not 0 < sample.validation_fraction < 1:
        raise ValueError(
            "sample.validation_fraction: expected more than 0 and less than 1, got "
            f"{sample.validation_fraction}"
        )


def _check_controls(settings: StudySettings) -> None:
    for name in settings.controls:
        if name not in CONTROLS:
            raise ValueError(f"controls: {unknown('control', name, CONTROLS)}")
        seeds = settings.control(name).seeds
        if seeds is not None and seeds < 1:
            raise ValueError(f"controls.{name}.seeds: expected 1 or more, got {seeds}")
        stride = settings.control(name).stem_stride
        if stride < 1:
            raise ValueError(f"controls.{name}.stem_stride: expected 1 or more, got {stride}")
        if not settings.control(name).test and name not in FACTORIES:
            raise ValueError(
                f"controls.{name}.test: expected true for a network of cells; false is for "
                f"{', '.join(FACTORIES)}"
            )
        if name in FROM_SEARCH and seeds is not None and seeds > settings.seeds:
            raise ValueError(
                f"controls.{name}.seeds: expected at most the {settings.seeds} of the searches, "
                f"got {seeds}"
            )
    if "regularised" in settings.controls and 0 not in settings.noise_weights:
        raise ValueError("controls.regularised: expected 0 among noise_weights, whose cell it has")
    if "matched" in settings.controls and not any(settings.noise_weights):
        raise ValueError("controls.matched: expected a noise weight of more than 0 to match")


def _check_families(settings: StudySettings) -> None:
    for key, families in (
        ("noise_family", [settings.noise_family]),
        ("unseen_families", settings.unseen_families),
    ):
        for family in families:
            try:
                require_noise(family)
            except SettingError as error:
                raise SettingError(key, error.problem) from None
    names = [describe_noise(family) for family in settings.families]
    if len(set(names)) < len(names):
        raise ValueError(
            f"unseen_families: expected distinct ones other than {names[0]}, got "
            f"{', '.join(names[1:])}"
        )
