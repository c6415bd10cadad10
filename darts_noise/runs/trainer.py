"""Make Lightning's Trainer from settings. Only this module makes classes that a config names.

Making a class of any name can run any code. So only classes of trusted packages are made:
Lightning, this project, and the packages that the user names on the command line, after ``--trust``
or as `RunConfig.trust`.
"""

import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentError, ArgumentParser, set_loader
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import loggers

from darts_noise.configured import fields_of
from darts_noise.errors import SettingError, reported
from darts_noise.nets.synchronised import SynchronisedNorms
from darts_noise.runs.settings import OBJECTS, TrainerConfig
from darts_noise.shown import shown

PACKAGES = frozenset({"darts_noise", "lightning", "lightning_fabric", "pytorch_lightning"})
WRITING = {
    "advanced": "pytorch_lightning.profilers.AdvancedProfiler",
    "simple": "pytorch_lightning.profilers.SimpleProfiler",
}
"""Names of Lightning's profilers that write a file only if they are told where."""
AS_IT_STANDS = "as_it_stands"
"""A mode of jsonargparse's parser that does not read text as YAML. A class could hide there."""
set_loader(AS_IT_STANDS, lambda text: text, json_superset=False)


def make_trainer(
    config: TrainerConfig,
    trusted: Collection[str] = (),
    *,
    folder: Path | None = None,
    callbacks: Collection[pl.Callback] = (),
    plugins: Collection[Any] = (),
    **replaced: Any,
) -> pl.Trainer:
    """Return the Trainer of a config.

    Args:
        config: the arguments of the Trainer.
        trusted: packages whose classes the config may name, besides `PACKAGES`.
        folder: folder for loggers and profilers of Lightning that state none. None: the current
            folder.
        callbacks: further callbacks.
        plugins: further plugins.
        replaced: arguments that replace arguments of the config.

    Raises:
        SettingError: arguments that the Trainer does not accept, such as missing devices, or a
            class of a package that is not trusted.
    """
    stated = fields_of(config)
    _require_trusted(stated, PACKAGES.union(trusted))
    stated["logger"] = _in_folder(stated["logger"], folder or Path())
    if stated["profiler"] in WRITING:  # what it prints otherwise goes to a silent logger
        where = {"dirpath": str(folder or Path()), "filename": f"{stated['profiler']}_profile"}
        stated["profiler"] = {"class_path": WRITING[stated["profiler"]], "init_args": where}
    made = _instantiated(stated) | replaced
    if made.get("logger") in (None, True):
        made["logger"] = False  # a run adds its own loggers; named loggers stay
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
    """Return a Trainer that prints and writes nothing; see `make_trainer`."""
    return make_trainer(
        config,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def figures_of(trainer: pl.Trainer) -> dict[str, float]:
    """Return the figures of the last epoch, or of the last complete epoch after divergence."""
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


def _instantiated(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments, with objects of the classes that they name."""
    parser = ArgumentParser(exit_on_error=False, parser_mode=AS_IT_STANDS)
    parser.add_class_arguments(pl.Trainer, "trainer", instantiate=False, sub_configs=False)
    try:
        parsed = parser.parse_object({"trainer": _copied(stated)})
        return dict(parser.instantiate(parsed)["trainer"])
    except (ArgumentError, AttributeError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        if match := re.search(r"Problem with given class_path '[\w.]*?(\w+)': (.*?) (- |$)", text):
            keys = [f"trainer.{key}" for key in OBJECTS if match[1] in str(stated.get(key))]
            raise SettingError(keys[0] if keys else "trainer", f"{match[1]}: {match[2]}") from None
        raise reported(text) or SettingError("trainer", text) from None


def _in_folder(logger: Any, folder: Path) -> Any:
    """Return what names a logger of Lightning, with its folder if none is stated."""
    if isinstance(logger, list):
        return [_in_folder(one, folder) for one in logger]
    named = {"class_path": logger} if isinstance(logger, str) else logger
    if not isinstance(named, dict) or not isinstance(named.get("class_path"), str):
        return logger
    arguments = named.get("init_args") or {}
    cls = getattr(loggers, named["class_path"].rpartition(".")[2], None)
    taken = {} if cls is None else inspect.signature(cls).parameters
    if "save_dir" not in taken or not isinstance(arguments, dict) or "dir" in arguments:
        return logger
    return {**named, "init_args": {"save_dir": str(folder), **arguments}}


def _copied(value: Any) -> Any:
    """Return a value with copied dictionaries and lists, because jsonargparse changes them."""
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _require_trusted(stated: Mapping[str, Any], packages: Collection[str]) -> None:
    """Raise a `SettingError` for the first class or function of a package that is not trusted.

    The package that defines it counts: ``pytorch_lightning.x.os.system`` belongs to ``os``. A class
    in the arguments of another class is always refused: jsonargparse makes classes of any kind
    there, and some classes of Lightning run code that their arguments name.
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
    """Yield every string in a value, and whether it names a class in a class's arguments."""
    if isinstance(value, str):
        yield value, False
    elif isinstance(value, dict | list) and id(value) not in above:  # an alias may form a loop
        items = value.items() if isinstance(value, dict) else ((None, item) for item in value)
        for name, item in items:
            if nested and name == "class_path":
                yield str(item), True
            yield from _names(item, nested or isinstance(value, dict), above | {id(value)})


def _package(text: str, packages: Collection[str]) -> str | None:
    """Return the package that defines the object of a dotted name, or None if it is not a name.

    Only trusted packages are imported.
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
