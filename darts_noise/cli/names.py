"""The names of the package's own registries, so that a misspelt one is refused without torch.

Most registries import torch, which takes seconds. A test compares these names with them.
"""

import ast
import difflib
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from darts_noise.errors import SettingError, unknown
from darts_noise.runs.settings import OBJECTS
from darts_noise.shown import shortened

SPACES = (
    *("bounded", "darts", "extended", "low_pass", "nas_bench_201", "noise"),
    *("robust_darts_s1", "robust_darts_s2", "robust_darts_s3", "robust_darts_s4"),
)
STEMS = ("cifar", "imagenet", "small")
SUPERNETS = ("shared", "textbook")
METHODS = ("exact", "finite_difference", "first_order", "neumann")
PENALTIES = ("gram", "lookahead", "shared", "twin")
VARIANTS = (
    *("darts_plus", "darts_pt", "drnas", "gdas", "oles", "p_darts", "pc_darts", "reinmax"),
    *("robust_darts", "smooth_darts_adversarial", "smooth_darts_random", "snas"),
)
OBJECTIVES = ("adversarial", "latency", "multiply_adds", "prunability")
STRATEGIES = ("darts", "enas", "evolution", "nas", "random", "random_labels", "random_shared")
NOISE = (
    *("blur", "dataset", "gaussian", "label_permutation", "random_labels", "random_phases"),
    *("random_pixels", "shuffled_pixels", "uniform", "vertical_flip"),
)
DATASETS = ("cifar10", "cifar100", "digits", "fashion_mnist", "image_folder", "mnist", "svhn")
NOISY_LABELS = ("co_teaching", "none", "small_loss")
SECTIONS = (
    *("capacity", "critical_period", "frequency", "influence", "input_gradients"),
    *("label_complexity", "time_to_fit", "two_phases", "wrong_labels"),
)
ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "hpu", "mps", "tpu")
TRAINER_STRATEGIES = (
    *("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true"),
    *("ddp_fork", "ddp_fork_find_unused_parameters_false", "ddp_fork_find_unused_parameters_true"),
    *("ddp_notebook", "ddp_notebook_find_unused_parameters_false"),
    *("ddp_notebook_find_unused_parameters_true", "ddp_spawn"),
    *("ddp_spawn_find_unused_parameters_false", "ddp_spawn_find_unused_parameters_true"),
    *("deepspeed", "deepspeed_stage_1", "deepspeed_stage_2", "deepspeed_stage_2_offload"),
    *("deepspeed_stage_3", "deepspeed_stage_3_offload", "deepspeed_stage_3_offload_nvme"),
    *("fsdp", "fsdp_cpu_offload", "single_device", "single_tpu", "single_xla", "xla", "xla_debug"),
)
PROFILERS = ("advanced", "pytorch", "simple", "xla")
OF_LIGHTNING: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "accelerator": ("accelerators", ACCELERATORS),
    "callbacks": ("callbacks", ()),
    "logger": ("loggers", ()),
    "plugins": ("plugins", ()),
    "profiler": ("profilers", PROFILERS),
    "strategy": ("strategies", TRAINER_STRATEGIES),
}
"""Argument of the Trainer → Lightning's package of its classes, and the names that are no class."""
BUILT_IN: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "data.name": ("data set", DATASETS),
    "model.space": ("space", SPACES),
    "model.stem": ("stem", STEMS),
    "model.supernet": ("supernet", SUPERNETS),
    "model.hypergradient": ("method", METHODS),
    "model.penalty": ("penalty", PENALTIES),
    "model.variants": ("search variant", VARIANTS),
    "model.objectives": ("objective", OBJECTIVES),
    "model.strategy": ("strategy", STRATEGIES),
    "model.noise_family": ("noise family", NOISE),
    "model.noisy_labels": ("method", NOISY_LABELS),
    "noise_family": ("noise family", NOISE),
    "unseen_families": ("noise family", NOISE),
}
"""Key of a setting → the kind of its names, and the names."""


def may_be_extended() -> bool:
    """Return whether other names may be registered: further spaces, or any if torch is imported."""
    spaces = sys.modules.get("darts_noise.space.spaces")
    return "torch" in sys.modules or (spaces is not None and spaces.list_spaces() != [*SPACES])


def require_built_in(values: Mapping[str, Any]) -> None:
    """Raise the error of the registry for the first name that the package does not have.

    Args:
        values: key of a setting → its value. Other keys are ignored.

    Raises:
        SettingError: an unknown name.
    """
    for key, (kind, valid) in BUILT_IN.items():
        for name in _names(values.get(key)):
            if name not in valid:
                raise SettingError(key, unknown(kind, shortened(name), valid))
    for key in ("model.noise_family", "noise_family", "unseen_families"):
        for name in _datasets(values.get(key)):
            if name not in DATASETS and not Path(name).expanduser().is_dir():
                problem = f"no such folder, and {unknown('data set', shortened(name), DATASETS)}"
                raise SettingError(key, f"'dataset:{name}': {problem}")
    for key in OBJECTS:
        for word in _classes(values.get(f"trainer.{key}")):
            _require_class(key, word)


def _require_class(key: str, word: str) -> None:
    """Raise a `SettingError` if no package has the class that an argument of the Trainer names.

    The source of its module is read and not run. What the source cannot tell is left to Lightning.
    """
    package, names = OF_LIGHTNING[key]
    if word in names:
        return
    module, _, name = word.rpartition(".")
    if not module and word.islower():
        example = f"a class as in pytorch_lightning.{package}.NAME"
        problem = unknown(key, shortened(word), names) if names else f"expected {example}"
        raise SettingError(f"trainer.{key}", problem if names else f"{problem}, got {word!r}")
    root, *below = (module or f"pytorch_lightning.{package}").split(".")
    spec = find_spec(root) if root.isidentifier() else None
    if spec is None or spec.origin is None:
        raise SettingError(f"trainer.{key}", f"no Python package {root!r}, got {shortened(word)!r}")
    file = Path(spec.origin)
    for part in below:
        folder = file.parent / part
        file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    if not file.is_file():
        return
    found = _names_in(ast.parse(file.read_text("utf-8")))
    is_close = module or difflib.get_close_matches(name, found, 1, 0.8)
    if name not in found and "__getattr__" not in found and is_close:
        close = difflib.get_close_matches(name, found, 1)
        hint = f": did you mean {close[0]!r}?" if close else ""
        raise SettingError(f"trainer.{key}", f"{'.'.join([root, *below])} has no {name!r}{hint}")


def _names_in(tree: ast.Module) -> set[str]:
    """Return the names that a module defines or imports, also inside of an ``if`` or ``try``."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def _classes(value: Any) -> Iterator[str]:
    """Yield the classes that an argument of the Trainer names, as texts or as ``class_path``.

    >>> list(_classes(["a.B", {"class_path": "c.D", "init_args": {"e": "f"}}, True]))
    ['a.B', 'c.D']
    """
    for item in value if isinstance(value, list) else [value]:
        word = item.get("class_path") if isinstance(item, Mapping) else item
        if isinstance(word, str):
            yield word


def reads_no_file(values: Mapping[str, Any]) -> bool:
    """Return whether the images of a search, and its noise, are installed with the package."""
    noise = _names(values["model.noise_family"])
    return values["data.name"] == "digits" and "dataset" not in noise


def _datasets(value: Any) -> Iterator[str]:
    """Yield the data sets and folders that a noise family or several name.

    >>> list(_datasets(["dataset:mnist", {"dataset": {"name": "a/b", "weight": 2}, "blur": 1}]))
    ['mnist', 'a/b']
    """
    if isinstance(value, str):
        family, colon, name = value.partition(":")
        if family == "dataset" and colon:
            yield name
    elif isinstance(value, list):
        for item in value:
            yield from _datasets(item)
    elif isinstance(value, Mapping):
        for family, settings in value.items():
            yield from _datasets(family)
            if family == "dataset" and isinstance(settings, Mapping) and "name" in settings:
                yield str(settings["name"])


def _names(value: Any) -> Iterator[str]:
    """Yield the names in a value: a name, a mapping from names to settings, or a list of these.

    >>> list(_names(["uniform", {"dataset:mnist": 1, "blur": None}]))
    ['uniform', 'dataset', 'blur']
    """
    if isinstance(value, str):
        if value[:1] not in ("{", "["):  # YAML of a wrong form, which the settings refuse
            yield value.partition(":")[0]
    elif isinstance(value, Mapping | list):
        for item in value:
            yield from _names(item)
