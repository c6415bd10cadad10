"""The search: α, its discretisation, and the bilevel optimisation as a LightningModule."""

from darts_noise.search.architecture import Architecture
from darts_noise.search.discretise import discretise
from darts_noise.search.module import SearchModule

__all__ = ["Architecture", "SearchModule", "discretise"]
