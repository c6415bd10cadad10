"""The search: α, its discretisation, and the bilevel optimisation as a LightningModule."""

from darts_noise.search.architecture import Architecture
from darts_noise.search.discretise import discretise
from darts_noise.search.hypergradients import InnerStep, hypergradient, objective
from darts_noise.search.module import SearchModule
from darts_noise.search.variants import list_variants, register_variant

__all__ = [
    "Architecture",
    "InnerStep",
    "SearchModule",
    "discretise",
    "hypergradient",
    "list_variants",
    "objective",
    "register_variant",
]
