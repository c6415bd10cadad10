"""Penalties on noise fit, one per file. Importing this package registers all of them."""

from darts_noise.noise.penalties import gram, lookahead, shared_weights, twin
from darts_noise.noise.penalties.penalty import (
    LossPenalty,
    Penalty,
    PenaltyInputs,
    list_penalties,
    make_penalty,
    penalty_name,
    register_penalty,
)

__all__ = [
    "LossPenalty",
    "Penalty",
    "PenaltyInputs",
    "gram",
    "list_penalties",
    "lookahead",
    "make_penalty",
    "penalty_name",
    "register_penalty",
    "shared_weights",
    "twin",
]
