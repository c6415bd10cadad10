"""Objectives beside the validation loss, one idea per file. Importing this package registers all of
them."""

from darts_noise.search.objectives import adversarial, costs, prunability
from darts_noise.search.objectives.objective import (
    Objective,
    ObjectiveInputs,
    Objectives,
    SearchedNetworks,
    TrainedCell,
    list_objectives,
    make_objectives,
    register_objective,
)

__all__ = [
    "Objective",
    "ObjectiveInputs",
    "Objectives",
    "SearchedNetworks",
    "TrainedCell",
    "adversarial",
    "costs",
    "list_objectives",
    "make_objectives",
    "prunability",
    "register_objective",
]
