"""Weights & Biases: where a run is tracked, without a prompt and without a crash.

Tracking is never worth a run: whatever W&B raises is caught here and told in one line.

W&B is imported where it is used: neither ``--help`` nor ``--wandb off`` need wait for it.
"""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from darts_noise.atomic import write_text
from darts_noise.errors import unknown
from darts_noise.wandb_key import has_key

Table = tuple[Sequence[str], Iterable[Sequence[Any]]]  # names of the columns, rows
MODES = ("auto", "online", "offline", "off")
ENVIRONMENT_MODES = {  # what W&B accepts in WANDB_MODE → the same in our words
    "online": "online",
    "run": "online",
    "shared": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "off",
    "off": "off",
}


def require_mode(mode: str) -> None:
    """Raises the ``ValueError`` that lists the valid modes unless ``mode`` is one."""
    if mode not in MODES:
        raise unknown("value for wandb", mode, MODES)


def resolve_mode(mode: str) -> tuple[str, str]:
    """``online``, ``offline`` or ``off`` for what the user asked, and why, in one line.

    The environment's ``WANDB_MODE`` decides where the user leaves it at ``auto``.

    Raises:
        ValueError: a mode that does not exist.
    """
    require_mode(mode)
    if mode == "auto":
        asked = ENVIRONMENT_MODES.get(os.environ.get("WANDB_MODE", "").lower())
        if asked is not None:
            mode = asked
        elif not has_key():
            return "offline", "W&B: no API key, so the run is tracked offline (upload: wandb sync)"
        else:
            mode = "online"
    if mode == "online" and not has_key():
        return "offline", "W&B: online was asked for but there is no API key; tracked offline"
    return mode, f"W&B: {mode}"


def start_tracking(
    run: Path, *, kind: str, mode: str, project: str, config: Mapping[str, Any]
) -> tuple[WandbLogger | None, str]:
    """A logger whose W&B run has begun, or None; and one line that says what happened.

    Args:
        run: the run's directory; W&B writes to ``wandb/`` in it. A second call for the same one
            continues its W&B run.
        kind: ``search`` or ``train``, W&B's job type.
        mode: see `resolve_mode`.
        project: the W&B project.
        config: the resolved configuration.

    Raises:
        ValueError: a mode that does not exist. Nothing that W&B itself does wrong is raised.
    """
    mode, why = resolve_mode(mode)
    if mode == "off":
        return None, why
    failures: list[str] = []
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            return _logger(run, kind, attempt, project, config), "; ".join(
                [*failures, "tracked offline"] if failures else [why]
            )
        except Exception as error:  # W&B's own, the system's, its validator's: no matter which
            reason = " ".join(str(error).split()) or type(error).__name__
            failures.append(f"W&B: {attempt} failed ({_shortened(reason)})")
    return None, "; ".join([*failures, "not tracked"])


def _logger(
    run: Path, kind: str, mode: str, project: str, config: Mapping[str, Any]
) -> WandbLogger:
    import wandb

    quiet = wandb.Settings(console="off", silent=True, init_timeout=30)
    wandb.setup(quiet)  # before Lightning passes on settings that W&B warns about
    kept = run / "wandb" / "run_id"
    logger = WandbLogger(
        project=project,
        name=run.name,
        id=kept.read_text("utf-8") if kept.is_file() else None,
        save_dir=str(run),
        job_type=kind,
        config=dict(config),
        # Not WandbLogger's own `offline`, which changes the environment of the process.
        mode=mode,
        settings=quiet,
    )
    _ = logger.experiment  # begins the run
    if logger.version is not None:  # on the first process
        write_text(kept, logger.version)
    return logger


@rank_zero_only
def set_axis(logger: WandbLogger | None, axis: str, figures: Iterable[str]) -> None:
    """Draws these figures over another one, such as the steps of a search, in the W&B workspace.

    Its sections are the parts of the figures' names before the first ``/``.
    """
    if logger is None:
        return
    with _told("the axis"):
        logger.experiment.define_metric(axis)
        for name in figures:
            # By its own name: a pattern would contend with Lightning's, which is for all figures.
            logger.experiment.define_metric(name, step_metric=axis)


@rank_zero_only
def log_images(logger: WandbLogger | None, images: Mapping[str, Path]) -> None:
    """Shows those of the PNG files that exist in the W&B run, under ``drawings/`` and their names;
    those that come again get a slider."""
    if logger is None:
        return
    import wandb

    with _told("images"):
        present = {
            f"drawings/{name}": wandb.Image(str(path))
            for name, path in images.items()
            if path.is_file()
        }
        if present:
            logger.experiment.log(present)


@rank_zero_only
def log_tables(logger: WandbLogger | None, tables: Mapping[str, Table]) -> None:
    """Shows tables under ``tables/`` and their names."""
    if logger is None or not tables:
        return
    import wandb

    with _told("tables"):
        logger.experiment.log(
            {
                f"tables/{name}": wandb.Table(columns=list(columns), data=[list(r) for r in rows])
                for name, (columns, rows) in tables.items()
            }
        )


@rank_zero_only
def log_summary(logger: WandbLogger | None, figures: Mapping[str, Any]) -> None:
    """The figures by which W&B lists and sorts its runs."""
    if logger is None:
        return
    with _told("summary"):
        logger.experiment.summary.update(dict(figures))


@rank_zero_only
def log_artifact(logger: WandbLogger | None, name: str, kind: str, files: Sequence[Path]) -> None:
    """Attaches those of the files that exist as one artifact, which the run has made."""
    if logger is None:
        return
    with _told("artifact"):
        logger.experiment.log_artifact(_artifact(name, kind, files))


@rank_zero_only
def use_artifact(logger: WandbLogger | None, name: str, kind: str, files: Sequence[Path]) -> None:
    """Says that the run has begun from an artifact: the one of this name with these very files.

    W&B knows artifacts by their content, so this is the one that an earlier run has made. It keeps
    what was used only online.
    """
    if logger is None or logger.experiment.offline:
        return
    with _told("artifact"):
        logger.experiment.use_artifact(_artifact(name, kind, files))


def _artifact(name: str, kind: str, files: Sequence[Path]) -> Any:
    import wandb

    artifact = wandb.Artifact(name, type=kind)
    for file in files:
        if file.is_file():
            artifact.add_file(str(file))
    return artifact


@rank_zero_only
def finish(logger: WandbLogger | None) -> None:
    """Ends the W&B run, so that all of it is on disk or uploaded."""
    if logger is not None:
        with _told("the end of the run"):
            logger.experiment.finish()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turns what W&B raises into a warning of one line."""
    try:
        yield
    except Exception as error:
        reason = _shortened(" ".join(str(error).split()) or type(error).__name__)
        warnings.warn(f"W&B did not take {what}: {reason}", stacklevel=3)


def _shortened(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:119]}…"
