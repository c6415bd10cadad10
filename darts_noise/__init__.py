"""Differentiable architecture search for cells that learn the data and cannot learn noise.

>>> import darts_noise as dn
>>> net = dn.create_model("darts_v2", num_classes=10, channels=4, num_cells=3)
>>> dn.load_genotype("darts_v2").normal[0]
(('sep_conv_3x3', 0), ('sep_conv_3x3', 1))

The names are imported with the first one that is used: torch and Lightning take seconds, which a
script's ``--help`` need not wait for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darts_noise.data import ImageDataModule, list_datasets, load_dataset, register_dataset
    from darts_noise.nets import (
        Cell,
        FeatureNetwork,
        Network,
        SuperNet,
        SynchronisedNorms,
        create_model,
    )
    from darts_noise.noise import (
        list_noise,
        list_penalties,
        make_noise,
        noise_fit_penalty,
        register_noise,
        register_penalty,
    )
    from darts_noise.pretrained import (
        BundleConfig,
        BundleImages,
        list_pretrained,
        load_pretrained,
        pretrained_config,
        save_pretrained,
    )
    from darts_noise.search import (
        Architecture,
        InnerStep,
        SearchModule,
        hypergradient,
        list_variants,
        objective,
        register_variant,
    )
    from darts_noise.space import (
        Genotype,
        Space,
        list_genotypes,
        list_operations,
        list_spaces,
        load_genotype,
        register_operation,
        register_space,
    )
    from darts_noise.train import (
        NoiseFit,
        NoiseFitMetric,
        NoiseGrid,
        NoiseRun,
        TrainModule,
        noise_fit,
    )

__all__ = [
    "Architecture",
    "BundleConfig",
    "BundleImages",
    "Cell",
    "FeatureNetwork",
    "Genotype",
    "ImageDataModule",
    "InnerStep",
    "Network",
    "NoiseFit",
    "NoiseFitMetric",
    "NoiseGrid",
    "NoiseRun",
    "SearchModule",
    "Space",
    "SuperNet",
    "SynchronisedNorms",
    "TrainModule",
    "create_model",
    "hypergradient",
    "list_datasets",
    "list_genotypes",
    "list_noise",
    "list_operations",
    "list_penalties",
    "list_pretrained",
    "list_spaces",
    "list_variants",
    "load_dataset",
    "load_genotype",
    "load_pretrained",
    "make_noise",
    "noise_fit",
    "noise_fit_penalty",
    "objective",
    "pretrained_config",
    "register_dataset",
    "register_noise",
    "register_operation",
    "register_penalty",
    "register_space",
    "register_variant",
    "save_pretrained",
]

PARTS = ("data", "space", "nets", "noise", "search", "train", "pretrained")

if not TYPE_CHECKING:  # a type checker reads the imports above

    def __getattr__(name: str) -> Any:
        if name in PARTS:
            return import_module(f"{__name__}.{name}")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        for part in [import_module(f"{__name__}.{part}") for part in PARTS]:
            if name in part.__all__:
                globals()[name] = getattr(part, name)
        return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *PARTS})
