"""Tracking with Weights & Biases, without prompts and crashes.

Tracking never ends a run: this module catches every error of W&B and reports it in one line. W&B is
imported only when it is used, so ``--help`` and ``--wandb off`` do not wait for it.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from darts_noise.atomic import write_text
from darts_noise.errors import unknown
from darts_noise.wandb_key import has_key

Table = tuple[Sequence[str], Iterable[Sequence[Any]]]  # names of the columns, rows
MODES = ("auto", "online", "offline", "off")
ALIASES = {"run": "online", "shared": "online", "dryrun": "offline", "disabled": "off"}
"""Other values of WANDB_MODE that W&B accepts → our names."""
PROJECT = "darts_noise"
"""The W&B project if neither the user nor the environment names one."""
LIGHTNING_AXIS = "trainer/global_step"
"""The figure over which WandbLogger logs all others."""
ON_CARD = {
    "val/accuracy": ("validation_accuracy",),
    "test/accuracy": ("test_accuracy",),
    "test/loss": ("test_loss",),
    "noise/accuracy": ("noise_accuracy", "twin_noise_accuracy"),
    "noise/penalty": ("penalty",),
}
"""A logged figure → the keys of a card that hold its last value."""


def require_mode(mode: str) -> None:
    """Raise a ``ValueError`` that lists the valid modes unless ``mode`` is one."""
    if mode not in MODES:
        raise unknown("value for wandb", mode, MODES)


def resolve_mode(mode: str) -> tuple[str, str]:
    """Return ``online``, ``offline`` or ``off`` for the user's mode, and the reason in one line.

    With ``auto``, the environment variable ``WANDB_MODE`` decides.

    Raises:
        ValueError: the mode does not exist.
    """
    require_mode(mode)
    asked = mode
    if mode == "auto":
        named = os.environ.get("WANDB_MODE", "").lower()
        asked = ALIASES.get(named, named)
        if asked not in MODES[1:]:
            asked = "online" if has_key() else "auto"
    if asked == "auto":
        return "offline", "W&B: no API key, so the run is tracked offline (upload: wandb sync)"
    if asked == "online" and not has_key():
        return "offline", "W&B: online was asked for but there is no API key; tracked offline"
    return asked, f"W&B: {asked}"


def start_tracking(
    run: Path, *, kind: str, mode: str, project: str | None, config: Mapping[str, Any]
) -> tuple[WandbLogger | None, str]:
    """Return a logger with a started W&B run, or None, and a message of one line.

    Args:
        run: the run's directory. W&B writes to ``wandb/`` in it. A second call with the same
            directory continues the W&B run.
        kind: ``search``, ``train`` or ``control``, the job type in W&B.
        mode: see `resolve_mode`.
        project: the W&B project. None: the environment's ``WANDB_PROJECT``, or `PROJECT`. The
            entity is the environment's ``WANDB_ENTITY`` or the default of the account.
        config: the resolved configuration. W&B gets it flat, so that a parameter of a sweep, such
            as ``model.noise_weight``, and the setting are the same key.

    Raises:
        ValueError: the mode does not exist. Errors of W&B itself are never raised.
    """
    mode, why = resolve_mode(mode)
    if mode == "off":
        return None, why
    project = project or os.environ.get("WANDB_PROJECT") or PROJECT
    failures: list[str] = []
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            return _logger(run, kind, attempt, project, config), "; ".join(
                [*failures, "tracked offline"] if failures else [why]
            )
        except Exception as error:  # any error, of W&B or of the system
            failures.append(f"W&B: {attempt} failed ({_reason(error)})")
    return None, "; ".join([*failures, "not tracked"])


def _logger(
    run: Path, kind: str, mode: str, project: str, config: Mapping[str, Any]
) -> WandbLogger:
    import wandb

    # Beside a run that the caller has begun, a new one; otherwise ours is W&B's current run.
    how: Any = "default" if wandb.run is None else "create_new"
    settings = wandb.Settings(console="off", silent=True, init_timeout=30, reinit=how)
    wandb.setup(settings)  # or W&B warns about some of them
    kept = run / "wandb" / "run_id"
    known = kept.read_text("utf-8") if kept.is_file() else None
    experiment = None
    if getattr(rank_zero_only, "rank", 0) == 0:
        # Not by WandbLogger: it would take over and end a run that the caller has begun, and its
        # `offline` would change the environment of the process.
        experiment = wandb.init(
            project=project,
            name=run.name,
            id=known,
            dir=str(run),
            job_type=kind,
            config=flat(config),
            mode=mode,  # type: ignore[arg-type]
            resume="allow",
            settings=settings,
        )
        experiment.define_metric(LIGHTNING_AXIS)
        experiment.define_metric("*", step_metric=LIGHTNING_AXIS, step_sync=True)
        write_text(kept, experiment.id)
    return WandbLogger(
        project=project, name=run.name, id=known, save_dir=str(run), experiment=experiment
    )


def flat(settings: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """Return nested settings under the names of their options.

    >>> flat({"seed": 0, "model": {"noise_weight": 1.0, "variants": None}})
    {'seed': 0, 'model.noise_weight': 1.0, 'model.variants': None}
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        is_group = isinstance(value, Mapping) and value
        found |= flat(value, f"{group}{name}.") if is_group else {f"{group}{name}": value}
    return found


def set_axis(logger: WandbLogger | None, axis: str, figures: Iterable[str]) -> None:
    """Draw these figures over another figure in the W&B workspace, such as the steps of a search.

    The sections of the workspace are the parts of the names before the first ``/``.
    """

    def send(logger: WandbLogger) -> None:
        logger.experiment.define_metric(axis)
        for name in figures:
            # Each by its own name: a pattern would conflict with Lightning's pattern for all
            # figures.
            logger.experiment.define_metric(name, step_metric=axis)

    _send(logger, "the axis", send)


def log_images(logger: WandbLogger | None, images: Mapping[str, Path]) -> None:
    """Show the existing PNG files in the W&B run, as ``drawings/<name>``.

    Repeated drawings with the same name get a slider.
    """

    def send(logger: WandbLogger) -> None:
        import wandb

        present = {name: str(path) for name, path in images.items() if path.is_file()}
        if present:
            drawings = {f"drawings/{name}": wandb.Image(path) for name, path in present.items()}
            logger.experiment.log(drawings)

    _send(logger, "images", send)


def log_tables(logger: WandbLogger | None, tables: Mapping[str, Table]) -> None:
    """Show tables as ``tables/<name>``."""

    def send(logger: WandbLogger) -> None:
        for name, (columns, rows) in tables.items():
            logger.log_table(f"tables/{name}", list(columns), [list(row) for row in rows])

    _send(logger, "tables", send)


def log_summary(logger: WandbLogger | None, figures: Mapping[str, Any]) -> None:
    """Set the figures that W&B lists and sorts runs by.

    Logged figures whose last value is among them, by `ON_CARD`, are removed from the summary.
    """

    def send(logger: WandbLogger) -> None:
        summary = logger.experiment.summary
        summary.update(dict(figures))
        for logged, keys in ON_CARD.items():
            if any(key in figures for key in keys):
                del summary[logged]

    _send(logger, "summary", send)


def log_artifact(logger: WandbLogger | None, name: str, kind: str, files: Sequence[Path]) -> None:
    """Attach the existing files as one artifact that the run has made."""

    def send(logger: WandbLogger) -> None:
        logger.experiment.log_artifact(_artifact(name, kind, files))

    _send(logger, "artifact", send)


def use_artifact(logger: WandbLogger | None, name: str, kind: str, files: Sequence[Path]) -> None:
    """Record that the run uses an artifact with this name and exactly these files.

    W&B identifies artifacts by their content, so this is the artifact of an earlier run. W&B
    records the use only online.
    """

    def send(logger: WandbLogger) -> None:
        if not logger.experiment.offline:
            logger.experiment.use_artifact(_artifact(name, kind, files))

    _send(logger, "artifact", send)


def finish(logger: WandbLogger | None, status: int = 0) -> None:
    """End the W&B run after everything is on disk or uploaded.

    Args:
        logger: the logger of the run.
        status: exit status of the run. W&B shows a run as failed unless it is 0.
    """
    _send(logger, "the end of the run", lambda logger: logger.experiment.finish(status))


@rank_zero_only
def _send(logger: WandbLogger | None, what: str, send: Callable[[WandbLogger], object]) -> None:
    """Send something to W&B, if there is a logger and this is the first process.

    An error of W&B becomes a warning of one line.
    """
    if logger is None:
        return
    try:
        send(logger)
    except Exception as error:
        warnings.warn(f"W&B did not take {what}: {_reason(error)}", stacklevel=4)


def _artifact(name: str, kind: str, files: Sequence[Path]) -> Any:
    import wandb

    artifact = wandb.Artifact(name, type=kind)
    for file in files:
        if file.is_file():
            artifact.add_file(str(file))
    return artifact


def _reason(error: Exception) -> str:
    """Return the message of an error in one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else f"{text[:119]}…"
