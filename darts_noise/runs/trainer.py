"""Lightning's Trainer from settings; the one place where a class that a config names is made.

Making a class of any name runs code. So only classes of Lightning and of this project are made, and
those of packages that the user has named: on the command line, after ``--trust``, or as
`RunConfig.trust`.
"""

import importlib.util
import pkgutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentError, ArgumentParser, set_loader
from lightning_fabric.utilities.exceptions import MisconfigurationException

from darts_noise.errors import SettingError, reported
from darts_noise.nets.synchronised import SynchronisedNorms
from darts_noise.runs.settings import OBJECTS, TrainerConfig
from darts_noise.space.shown import shown

PACKAGES = frozenset({"darts_noise", "lightning", "lightning_fabric", "pytorch_lightning"})
AS_IT_STANDS = "as_it_stands"
"""A mode of jsonargparse's parser that reads no YAML in a text, where a class could hide."""
set_loader(AS_IT_STANDS, lambda text: text, json_superset=False)


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
    for timer in trainer.callbacks:  # type: ignore[attr-defined]
        left = timer.time_remaining() if isinstance(timer, pl.callbacks.Timer) else None
        if left is not None and left <= 0:
            raise SettingError("trainer.max_time", f"expected more than 0 seconds, got {left:.0f}")
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
    parser = ArgumentParser(exit_on_error=False, parser_mode=AS_IT_STANDS)
    parser.add_class_arguments(pl.Trainer, "trainer", instantiate=False, sub_configs=False)
    try:
        parsed = parser.parse_object({"trainer": _copied(stated)})
        return dict(parser.instantiate(parsed)["trainer"])
    except (ArgumentError, AttributeError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise reported(text) or SettingError("trainer", text) from None


def _copied(value: Any) -> Any:
    """Return a value with its dictionaries and lists copied, which jsonargparse writes to."""
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _require_trusted(stated: Mapping[str, Any], packages: Collection[str]) -> None:
    """Raise the error of the first class or function of a package that may not be named.

    What counts is where it is defined: ``pytorch_lightning.x.os.system`` is of ``os``. A class
    among the arguments of another is refused, whatever its package: jsonargparse makes those of any
    kind, and to make some of Lightning's runs what their arguments say.
    """
    for key in OBJECTS:
        for text, nested in _names(stated[key]):
            if nested:
                raise SettingError(
                    f"trainer.{key}", f"expected no class in a class's arguments, got {shown(text)}"
                )
            package = _package(text, packages)
            if package is not None and package not in packages:
                raise SettingError(
                    f"trainer.{key}",
                    f"expected classes of Lightning or darts_noise, got {shown(text)}; add "
                    f"--trust {package} if you trust that package and this config",
                )


def _names(
    value: Any, nested: bool = False, above: frozenset[int] = frozenset()
) -> Iterator[tuple[str, bool]]:
    """Yield every string below a value, and whether it names a class below another's."""
    if isinstance(value, str):
        yield value, False
    elif isinstance(value, dict | list) and id(value) not in above:  # an alias may lead back up
        items = value.items() if isinstance(value, dict) else ((None, item) for item in value)
        for name, item in items:
            if nested and name == "class_path":
                yield str(item), True
            yield from _names(item, nested or isinstance(value, dict), above | {id(value)})


def _package(text: str, packages: Collection[str]) -> str | None:
    """Return the package that defines what a dotted name stands for; None where it is no name.

    Nothing is imported but of packages that are trusted.
    """
    root, *rest = text.split(".")
    known = root in sys.modules or (root.isidentifier() and importlib.util.find_spec(root))
    if not rest or not known:
        return None
    if root in packages:
        with suppress(ImportError, AttributeError, ValueError):
            found = pkgutil.resolve_name(text)
            return str(getattr(found, "__module__", None) or root).partition(".")[0]
    return root
