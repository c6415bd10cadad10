"""Lightning's Trainer from settings; the one place where a class that a config names is made.

Making a class of any name runs code. So only classes of Lightning and of this project are made, and
those of packages that the user has named: on the command line, after ``--trust``, or as
`RunConfig.trust`.
"""

import importlib.util
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentError, ArgumentParser
from lightning_fabric.utilities.exceptions import MisconfigurationException

from darts_noise.errors import SettingError
from darts_noise.nets.synchronised import SynchronisedNorms
from darts_noise.runs.settings import TrainerConfig
from darts_noise.space.shown import shown

OBJECTS = ("accelerator", "callbacks", "logger", "plugins", "profiler", "strategy")
"""The Trainer's arguments whose values may be objects."""
PACKAGES = frozenset({"darts_noise", "lightning", "lightning_fabric", "pytorch_lightning"})


def make_trainer(
    config: TrainerConfig,
    trusted: Collection[str] = (),
    *,
    callbacks: Collection[pl.Callback] = (),
    plugins: Collection[Any] = (),
    **replaced: Any,
) -> pl.Trainer:
    """Return the Trainer of a config.

    Args:
        config: its arguments.
        trusted: packages whose classes the config may name, besides `PACKAGES`.
        callbacks: added to the config's.
        plugins: likewise.
        replaced: arguments in place of the config's.

    Raises:
        SettingError: arguments that the Trainer does not take, such as absent devices, or a class
            of a package that is not trusted.
    """
    stated = {f.name: getattr(config, f.name) for f in fields(config)}
    _require_trusted(stated, PACKAGES.union(trusted))
    made = _instantiated(stated) | replaced
    if made.get("logger") in (None, True):
        made["logger"] = False  # a run adds its own; a logger that is named stays
    for key, more in (("callbacks", callbacks), ("plugins", plugins)):
        own = made.get(key) or []
        made[key] = [*(own if isinstance(own, list) else [own]), *more]
    if made.pop("sync_batchnorm"):
        made["plugins"].append(SynchronisedNorms())
    try:
        trainer = pl.Trainer(**made)
    except (ImportError, TypeError, ValueError, MisconfigurationException) as error:
        raise SettingError("trainer", error) from None
    half = str(config.precision) in ("16", "16-mixed")
    if half and trainer.strategy.root_device.type == "cpu":
        raise SettingError("trainer.precision", "16-mixed needs a GPU; a CPU has bf16-mixed")
    return trainer


def silent_trainer(config: TrainerConfig) -> pl.Trainer:
    """Return a Trainer that shows and writes nothing; see `make_trainer`."""
    return make_trainer(
        config,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def figures_of(trainer: pl.Trainer) -> dict[str, float]:
    """Return the figures of the last epoch; of the last whole one where the training diverged."""
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


def _instantiated(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with the classes that they name made into objects."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(pl.Trainer, "trainer", instantiate=False, sub_configs=False)
    try:
        parsed = parser.parse_object({"trainer": dict(stated)})
        return dict(parser.instantiate(parsed)["trainer"])
    except (ArgumentError, ValueError) as error:
        what = " ".join(str(error).split()).removeprefix("Parser key ")
        raise SettingError("trainer", what) from None


def _require_trusted(stated: Mapping[str, Any], packages: Collection[str]) -> None:
    """Raise the error of the first class of a package that may not be named."""
    for key in OBJECTS:
        for text in _strings(stated[key], frozenset()):
            root, *rest = text.split(".")
            if rest and root not in packages and _is_module(root):
                raise SettingError(
                    f"trainer.{key}",
                    f"expected classes of Lightning or darts_noise, got {shown(text)}; add "
                    f"--trust {root} if you trust that package and this config",
                )


def _strings(value: Any, above: frozenset[int]) -> Iterator[str]:
    """Yield every string below a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list) and id(value) not in above:  # an alias may lead back up
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item, above | {id(value)})


def _is_module(root: str) -> bool:
    """Return whether there is a module of this name, which is not imported."""
    known = root in sys.modules or (root.isidentifier() and importlib.util.find_spec(root))
    return bool(known)
