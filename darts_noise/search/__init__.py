"""The search: α, its discretisation, and the bilevel optimisation as a LightningModule."""

from darts_noise.search.architecture import Architecture
from darts_noise.search.discretise import discretise
from darts_noise.search.hypergradient import hypergradient
from darts_noise.search.module import SearchModule
from darts_noise.search.variants import list_variants, register_variant

__all__ = [
    "Architecture",
    "SearchModule",
    "discretise",
    "hypergradient",
    "list_variants",
    "register_variant",
]
