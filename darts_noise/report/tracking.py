"""Weights & Biases: where a run is tracked, without a prompt and without a crash."""

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import wandb
from pytorch_lightning.loggers import WandbLogger

from darts_noise.naming import unknown

MODES = ("auto", "online", "offline", "off")


def require_mode(mode: str) -> None:
    """Raises the ``ValueError`` that lists the valid modes unless ``mode`` is one."""
    if mode not in MODES:
        raise unknown("value for wandb", mode, MODES)


def has_key() -> bool:
    """Whether W&B would find an API key without asking: in the environment or in a netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def resolve_mode(mode: str) -> tuple[str, str]:
    """``online``, ``offline`` or ``off`` for what the user asked, and why, in one line.

    The environment's ``WANDB_MODE`` decides where the user leaves it at ``auto``.

    Raises:
        ValueError: a mode that does not exist.
    """
    require_mode(mode)
    if mode == "auto" and (asked := os.environ.get("WANDB_MODE", "").lower()):
        mode = {"disabled": "off", "dryrun": "offline", "run": "online"}.get(asked, asked)
        mode = mode if mode in MODES else "auto"
    if mode == "auto":
        mode = "online" if has_key() else "offline"
        if mode == "offline":
            return mode, "W&B: no API key, so the run is tracked offline (upload: wandb sync)"
    if mode == "online" and not has_key():
        return "offline", "W&B: online was asked for but there is no API key; tracked offline"
    return mode, f"W&B: {mode}"


def start_tracking(
    run: Path, *, kind: str, mode: str, project: str, config: Mapping[str, Any]
) -> tuple[WandbLogger | None, str]:
    """A logger whose W&B run has begun, or None; and one line that says what happened.

    Args:
        run: the run's directory; W&B writes to ``wandb/`` in it.
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
    wandb.setup(wandb.Settings(silent=True))  # Lightning passes on settings that W&B warns about
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            logger = WandbLogger(
                project=project,
                name=run.name,
                save_dir=str(run),
                job_type=kind,
                config=dict(config),
                # Not WandbLogger's own `offline`, which changes the environment of the process.
                mode=attempt,
                settings=wandb.Settings(console="off", silent=True, init_timeout=30),
            )
            _ = logger.experiment
        except (wandb.Error, OSError) as error:
            reason = " ".join(str(error).split())[:120]
            why = f"W&B: {attempt} failed ({reason})"
            continue
        return logger, why if attempt == mode else f"{why}; tracked offline"
    return None, f"{why}; not tracked"


def log_images(logger: WandbLogger | None, images: Mapping[str, Path]) -> None:
    """Shows PNG files in the W&B run under these names."""
    if logger is not None:
        present = {name: wandb.Image(str(path)) for name, path in images.items() if path.is_file()}
        logger.experiment.log(present)


def log_artifact(
    logger: WandbLogger | None, name: str, kind: str, files: list[Path], summary: Mapping[str, Any]
) -> None:
    """Attaches files as one artifact and figures as the run's summary."""
    if logger is None:
        return
    artifact = wandb.Artifact(name, type=kind)
    for file in files:
        if file.is_file():
            artifact.add_file(str(file))
    logger.experiment.log_artifact(artifact)
    logger.experiment.summary.update(dict(summary))


def finish(logger: WandbLogger | None) -> None:
    """Ends the W&B run, so that all of it is on disk or uploaded."""
    if logger is not None:
        logger.experiment.finish()
