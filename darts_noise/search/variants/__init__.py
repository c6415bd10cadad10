"""Variants of the search, one idea per file. Importing this package registers all variants."""

from darts_noise.search.variants import (
    darts_pt,
    drnas,
    gumbel,
    oles,
    p_darts,
    pc_darts,
    reinmax,
    smooth_darts,
    stopping,
)
from darts_noise.search.variants.variant import (
    Variant,
    list_variants,
    make_variants,
    register_variant,
)

__all__ = [
    "Variant",
    "darts_pt",
    "drnas",
    "gumbel",
    "list_variants",
    "make_variants",
    "oles",
    "p_darts",
    "pc_darts",
    "register_variant",
    "reinmax",
    "smooth_darts",
    "stopping",
]
