"""The settings of a search, in a module that imports neither torch nor Lightning.

The constructor checks bounds. The search checks names of a registry (space, penalty, variants,
noise families, hypergradient) when it makes the object.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from darts_noise.configured import Setting, naming_arguments, require_fields, require_seed
from darts_noise.errors import SettingError, unknown
from darts_noise.space.genotype import MAX_NODES
from darts_noise.space.macro import require_candidates
from darts_noise.train.settings import OPTIMISERS

Choices = dict[str, list[str | float] | str | float]
"""Macro choices by name, each with its candidates, or with one value."""


@naming_arguments
@dataclass(frozen=True)
class SearchConfig:
    """The settings of a search: the search space, the noise-fit penalty and the optimisers.

    α are the architecture weights, w the weights of the supernet, and v the weights of its twin.
    The twin is a second supernet that trains on noise only.

    Args:
        space: search space: the operations that compete; see darts_noise.list_spaces().
        nodes: nodes of a cell. null: the number that the space defines.
        macro: macro choices by name, each with a list of candidates. The list replaces the
            candidates in the space. A choice that the space lacks is added. Other choices of the
            space stay as they are. One value, or a list with one, fixes the choice. With a race
            or the strategy random: also a list of such mappings, whose combinations compete, as in
            [{gain: free}, {gain: bounded, logit_scale: [256, 1024]}].
        channels: channels of a state before the first reduction.
        num_cells: cells of the supernet, with reductions at one and two thirds.
        stem: stem of the network: small (images of 8×8 to 28×28 pixels), cifar or imagenet.
        stem_stride: stride of the small or cifar stem: 1, 2 or 4.
        noise_weight: λ, the weight of the noise-fit penalty. 0: no penalty and no twin.
        penalty: noise-fit penalty; see darts_noise.list_penalties(). With settings:
            {twin: {form: log}}.
        objectives: what the search minimises besides: objectives by name, each with its weight
            (default: 1; 0: measure it only) and its settings; see darts_noise.list_objectives().
            {adversarial: {weight: 1.0, eps: 0.1}, multiply_adds: {weight: 0.5}}.
        noise_family: noise that the cell must not fit; see darts_noise.list_noise(). Several
            families with a weight each: {uniform: 2, random_pixels: 1}.
        noise_samples: images in the noise set.
        supernet: implementation of the supernet: shared (fast) or textbook (slower, easier to
            change). Both compute the same function. With bounded gain or average reductions it is
            always textbook.
        hypergradient: gradient with respect to α: first_order, finite_difference, exact or neumann.
        variants: a search variant, or several with settings; see darts_noise.list_variants().
        strategy: what proposes cells; see darts_noise.list_strategies(). darts: the differentiable
            search. Any other strategy proposes cells, which are trained alone. With settings:
            {random: {rungs: 3}}.
        strategy_steps: budget of gradient steps of a strategy other than darts. null: the steps
            of 20 cells that are trained in full.
        twin_steps: updates of the twin per search step.
        twin_optimiser: optimiser of the twin: sgd, adam or muon. null: the same as optimiser.
        twin_learning_rate: learning rate of the twin at the start. null: the same as learning_rate.
        twin_restart: epochs after which the twin gets new weights and its cosine schedule starts
            again. 0: never.
        race: largest number of combinations of the space's macro choices that race before α is
            searched. They are trained in a few reference cells, and α is searched with the best
            combination. 0: no race; α decides the macro choices.
        race_cells: reference cells in which each combination is trained. One halves the time, but
            a single random cell may have no convolution at all.
        candidates: discrete cells that are trained at the end; the search returns the cell with the
            smallest F = L_val + λ·P + Σ weight·T over the objectives T. Without objectives, the
            cells of the race with its best combination compete too. 1: take the strongest
            operations of α and train nothing. P is ``penalty`` if that is a function of the noise
            loss, otherwise the penalty ``twin``.
        candidate_epochs: epochs for which each candidate is trained on the data.
        candidate_parameters: number of parameters of a candidate's network; sets its width. null:
            the width is ``channels``.
        warmup_epochs: epochs at the start in which w and v are trained and α is fixed.
        optimiser: optimiser of w and v: sgd, adam or muon, with a cosine schedule. adam needs
            fewer steps, and muon the fewest; its usual learning rate is 0.02.
        learning_rate: learning rate of w and v at the start.
        learning_rate_min: learning rate of w and v at the end.
        momentum: momentum of w and v; only with sgd.
        weight_decay: weight decay of w and v; only with sgd.
        gradient_clip: largest gradient norm of w and of v. 0: no clipping.
        alpha_learning_rate: learning rate of α; its optimiser is Adam.
        alpha_betas: the two betas of Adam for α.
        alpha_weight_decay: weight decay of α.
        seed: seed of all random numbers of the search.

    Raises:
        SettingError: a value out of range.
    """

    space: str = "darts"
    nodes: int | None = None
    macro: Choices | list[Choices] | None = None
    channels: int = 16
    num_cells: int = 8
    stem: str = "cifar"
    stem_stride: int = 1
    noise_weight: float = 1.0
    penalty: dict[str, dict[str, Setting] | None] | str = "twin"
    objectives: dict[str, dict[str, Setting] | None] | str | None = None
    noise_family: dict[str, Any] | str = "uniform"
    noise_samples: int = 1000
    supernet: str = "shared"
    hypergradient: str = "first_order"
    variants: str | dict[str, dict[str, Setting] | None] | None = None
    strategy: dict[str, dict[str, Setting] | None] | str = "darts"
    strategy_steps: int | None = None
    twin_steps: int = 1
    twin_optimiser: str | None = None
    twin_learning_rate: float | None = None
    twin_restart: int = 0
    race: int = 0
    race_cells: int = 2
    candidates: int = 1
    candidate_epochs: int = 40
    candidate_parameters: int | None = None
    warmup_epochs: int = 0
    optimiser: str = "sgd"
    learning_rate: float = 0.025
    learning_rate_min: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    gradient_clip: float = 5.0
    alpha_learning_rate: float = 3e-4
    alpha_betas: tuple[float, float] = (0.5, 0.999)
    alpha_weight_decay: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("variants", "objectives"):
            if isinstance(value := getattr(self, key), str):
                if value[:1] in ("{", "["):  # YAML of another form
                    expected = "expected a name, or a mapping from names to settings"
                    raise SettingError(key, f"{expected}, as in {{NAME: {{}}}}, got {value!r}")
                object.__setattr__(self, key, {value: None})
        require_fields(self, **LEAST)
        require_seed(self.seed)
        if self.race < 0 or self.race == 1:
            raise SettingError("race", f"expected 0 (no race), or 2 or more, got {self.race}")
        if self.nodes is not None and not 1 <= self.nodes <= MAX_NODES:
            raise SettingError("nodes", f"expected 1 to {MAX_NODES}, or null, got {self.nodes}")
        self._check_macro()
        for key in ("strategy_steps", "candidate_parameters"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise SettingError(key, f"expected 1 or more, or null, got {value}")
        if not all(0 <= beta < 1 for beta in self.alpha_betas):
            raise SettingError(
                "alpha_betas", f"expected two numbers from 0 to 1, got {self.alpha_betas}"
            )
        self._check_rates()
        self._check_optimisers()
        self._check_objectives()

    @property
    def rate_of_twin(self) -> float:
        """The twin's learning rate at the start."""
        own = self.twin_learning_rate
        return self.learning_rate if own is None else own

    @property
    def optimiser_of_twin(self) -> str:
        """The twin's optimiser."""
        return self.optimiser if self.twin_optimiser is None else self.twin_optimiser

    @property
    def macros(self) -> list[dict[str, Sequence[str | float]]]:
        """The mappings of ``macro``, with a list of candidates for each choice."""
        return [
            {k: v if isinstance(v, list | tuple) else [v] for k, v in choices.items()}
            for choices in _mappings(self.macro)
        ]

    def _check_macro(self) -> None:
        mappings = _mappings(self.macro)
        if not mappings or not all(isinstance(choices, Mapping) for choices in mappings):
            raise SettingError(
                "macro",
                "expected choices with their candidates, as in {gain: [free, bounded]}, or a list "
                f"of such mappings, got {self.macro!r}",
            )
        for choices in self.macros:
            for name, values in choices.items():
                require_candidates(name, values)
        is_darts = "darts" in ([self.strategy] if isinstance(self.strategy, str) else self.strategy)
        if len(mappings) > 1 and not self.race and is_darts:
            raise SettingError(
                "macro",
                "expected one mapping, because only a race (model.race above 1) and the strategy "
                f"random compare several, got a list of {len(mappings)}",
            )

    def _check_rates(self) -> None:
        rate = self.twin_learning_rate
        if rate is not None and not 0 <= rate < math.inf:
            raise SettingError("twin_learning_rate", f"expected 0 or more, or null, got {rate}")
        rates = {"learning_rate": self.learning_rate, "twin_learning_rate": self.rate_of_twin}
        for key, rate in rates.items():
            if self.learning_rate_min > rate:
                raise SettingError(
                    "learning_rate_min",
                    f"expected at most {key} ({rate:g}), got {self.learning_rate_min:g}",
                )

    def _check_objectives(self) -> None:
        assert not isinstance(self.objectives, str)
        for name, given in (self.objectives or {}).items():
            key = f"objectives.{name}"
            if not isinstance(given, Mapping | None):
                raise SettingError(key, f"expected settings, as in {{weight: 1.0}}, got {given!r}")
            weight: Any = (given or {}).get("weight", 1.0)
            if type(weight) not in (int, float) or not 0 <= weight < math.inf:
                raise SettingError(f"{key}.weight", f"expected 0 or more, got {weight!r}")

    def _check_optimisers(self) -> None:
        for key in ("optimiser", "twin_optimiser"):
            kind = getattr(self, key)
            if kind is None:
                continue
            if kind not in OPTIMISERS:
                raise SettingError(key, unknown("optimiser", kind, OPTIMISERS))
            if kind != "sgd" and self.hypergradient != "first_order":
                raise SettingError(
                    key,
                    f"expected 'sgd' with hypergradient {self.hypergradient!r}, which "
                    f"differentiates through a step of SGD, got {kind!r}",
                )


def _mappings(macro: Any) -> list[Any]:
    return list(macro) if isinstance(macro, list | tuple) else [macro or {}]


LEAST = {
    "channels": 1,
    "noise_weight": 0,
    "noise_samples": 1,
    "twin_steps": 1,
    "twin_restart": 0,
    "race_cells": 1,
    "candidates": 1,
    "candidate_epochs": 1,
    "warmup_epochs": 0,
    "learning_rate": 0,
    "learning_rate_min": 0,
    "momentum": 0,
    "weight_decay": 0,
    "gradient_clip": 0,
    "alpha_learning_rate": 0,
    "alpha_weight_decay": 0,
    "num_cells": 3,  # two reduction cells and at least one normal cell
}
"""The smallest valid value of each numeric setting."""


def require_no_twin_settings(config: SearchConfig, penalty: str) -> None:
    """Raise a `SettingError` if a setting is stated that a penalty without a twin ignores."""
    without_twin = {
        "hypergradient": "first_order",
        "twin_steps": 1,
        "twin_optimiser": None,
        "twin_learning_rate": None,
        "twin_restart": 0,
    }
    for key, only in without_twin.items():
        if (value := getattr(config, key)) != only:
            raise SettingError(
                key, f"expected {only} with penalty {penalty!r}, which has no twin, got {value}"
            )


def require_no_supernet_settings(config: SearchConfig) -> None:
    """Raise a `SettingError` if a setting is stated that contradicts training single cells."""
    for key, only in (("variants", None), ("race", 0)):
        if (value := getattr(config, key)) != only:
            expected = "null" if only is None else only
            raise SettingError(
                key,
                f"expected {expected} with strategy {config.strategy!r}, which has no α "
                f"and proposes the macro choices itself, got {value}",
            )
