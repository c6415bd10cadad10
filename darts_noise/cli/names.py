"""The names of the package's own registries, so that a misspelt one is refused without torch.

Most registries import torch, which takes seconds. A test compares these names with them.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from darts_noise.errors import SettingError, unknown
from darts_noise.space.shown import shortened

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
    *("blur", "dataset", "gaussian", "label_permutation", "random_labels", "random_pixels"),
    *("shuffled_pixels", "uniform", "vertical_flip"),
)
DATASETS = ("cifar10", "cifar100", "digits", "fashion_mnist", "image_folder", "mnist", "svhn")
NOISY_LABELS = ("co_teaching", "none", "small_loss")
ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "hpu", "mps", "tpu")
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
}
"""Key of a setting → the kind of its names, and the names."""


def may_be_extended() -> bool:
    """Return whether other names may be registered.

    Code of the user that registers a space imports the spaces. Any other registry imports torch.
    """
    return not sys.modules.keys().isdisjoint({"torch", "darts_noise.space.spaces"})


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
    word = values.get("trainer.accelerator")
    if isinstance(word, str) and word.islower() and word not in ACCELERATORS:  # not a class
        raise SettingError("trainer.accelerator", unknown("accelerator", word, ACCELERATORS))


def reads_no_file(values: Mapping[str, Any]) -> bool:
    """Return whether the images of a search, and its noise, are installed with the package."""
    noise = _names(values["model.noise_family"])
    return values["data.name"] == "digits" and "dataset" not in noise


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
