"""Warnings about a search that fails silently; each warning appears once and says what to try.

After each epoch in which α was updated:

- α does not move: no relaxed weight changes in an epoch in which α was updated.
- The twin does not learn: after `PATIENCE` epochs v fits the noise no better than a guess. The
  penalty is then flat for every architecture, and λ has no effect. A twin of bounded gain, or one
  that sees only smooth images, is not expected to learn.
- Skip connections take over: the collapse of DARTS (DARTS+, arXiv:1909.06035, section 3).

At the end of the search:

- α has hardly moved: the entropy of its relaxed weights is within 2% of its start.
- The penalty never rose: the twin never began to learn. This check holds for any number of epochs.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from darts_noise.space.genotype import Cell, Genotype
from darts_noise.space.operations import get_operation

STILL = 1e-7
"""The largest change of a relaxed weight that may come from rounding."""
PATIENCE = 5
"""Epochs before the first warning about a twin that does not learn or about skip connections."""
LEARNT = 0.99
"""The twin has begun to learn if its loss is below this share of the loss of a guess."""
UNDECIDED = 0.98
"""α has hardly moved if the entropy of its weights is above this share of the largest entropy."""
MOSTLY = 0.5
"""Skip connections take over if more than this share of the normal cell's edges are skips."""


class Symptoms:
    """The checks after each epoch in which α was updated."""

    def __init__(self) -> None:
        self._epochs = 0
        self._weights: dict[str, Tensor] | None = None
        self._learnt = False
        self._guess: float | None = None  # loss of a guess; None without a twin
        self._said: set[str] = set()

    def epoch(
        self,
        weights: Mapping[str, Tensor],
        genotype: Genotype,
        noise_loss: float | None,
        num_classes: int,
    ) -> None:
        """Warn of each symptom that appears for the first time.

        Args:
            weights: the relaxed α from which the genotype is read.
            genotype: the genotype of these weights.
            noise_loss: the twin's loss in nats, averaged over the epoch; None without a twin.
            num_classes: number of classes of the noise set.
        """
        self._epochs += 1
        before, now = self._weights, {k: w.detach().cpu().clone() for k, w in weights.items()}
        self._weights = now
        if before is not None and largest_change(before, now) <= STILL:
            self._warn("α did not move in an epoch: try a larger model.alpha_learning_rate")
        can_learn = genotype.choice("gain") == "free" and genotype.choice("contrast") != "smooth"
        if noise_loss is not None and can_learn:
            self._guess = math.log(num_classes)
            self._learnt = self._learnt or noise_loss < LEARNT * self._guess
            if self._epochs == PATIENCE:
                self._look_at_twin()
        if self._epochs >= PATIENCE and skip_share(genotype.normal) > MOSTLY:
            self._warn(
                "skip connections take over the normal cell: try a config of configs/variants such "
                "as darts_plus or p_darts, fewer epochs or a smaller model.alpha_learning_rate"
            )

    def end(self) -> None:
        """Warn of the symptoms of a whole search. It does nothing if α was never updated."""
        if self._guess is not None:
            self._look_at_twin()
        if self._weights is not None and (share := mean_entropy(self._weights)) > UNDECIDED:
            self._warn(
                f"α has hardly moved (its entropy is {share:.1%} of the entropy at the start), so "
                "the cell is close to a random one: try more trainer.max_epochs, a smaller "
                "data.batch_size or a larger model.alpha_learning_rate"
            )

    def _look_at_twin(self) -> None:
        if not self._learnt:
            self._warn(
                "the twin has not begun to learn the noise (its loss is near log C = "
                f"{self._guess:.2f}), so the penalty has not moved α: the network is blind to this "
                "noise, or the twin is too slow; then try a larger model.learning_rate, more "
                "model.twin_steps or fewer model.noise_samples"
            )

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint, so that a resumed run repeats no warning."""
        return {
            "epochs": self._epochs,
            "weights": self._weights,
            "learnt": self._learnt,
            "guess": self._guess,
            "said": sorted(self._said),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state` returned."""
        self._epochs = state["epochs"]
        weights = state["weights"]
        self._weights = None if weights is None else {k: w.cpu() for k, w in weights.items()}
        self._learnt, self._guess = state["learnt"], state["guess"]
        self._said = set(state["said"])

    def _warn(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            warnings.warn(message, stacklevel=2)


def largest_change(before: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> float:
    """Return the largest absolute change of an entry, or NaN if an entry is NaN.

    >>> largest_change({"a": torch.zeros(2)}, {"a": torch.tensor([0.0, -3.0])})
    3.0
    """
    return float(torch.stack([(now[k] - before[k]).abs().max() for k in before]).max())


def mean_entropy(weights: Mapping[str, Tensor]) -> float:
    """Return the entropy of the rows of relaxed weights, averaged, as a share of the largest.

    The largest entropy of a row is the logarithm of its candidates. An operation with weight 0 is
    not a candidate of the edge.

    >>> mean_entropy({"a": torch.tensor([[0.5, 0.5], [1.0, 0.0]])})
    0.5
    """
    shares = [
        torch.special.entr(rows / rows.sum(-1, keepdim=True)).sum(-1)
        / (rows > 0).sum(-1).clamp(min=2).log()
        for rows in weights.values()
        if rows.shape[-1] > 1
    ]
    return float(torch.cat(shares).mean()) if shares else 0.0


def skip_share(cell: Cell) -> float:
    """Return the share of a cell's edges that are skip connections.

    >>> skip_share(((("skip_connect", 0), ("sep_conv_3x3", 1)),))
    0.5
    """
    names = [name for node in cell for name, _ in node]
    return sum(get_operation(name).kind == "skip" for name in names) / len(names)
