"""Cells that are easily trained on random labels: RLNAS (Zhang et al. 2021, arXiv:2101.11834).

Shared weights are trained on the training images with random labels, each step on a random cell. A
cell is worth the angle between its initial and its trained weights: the larger, the better. So it
rewards what the noise-fit penalty of this package punishes.

The weights of a cell form one vector (Hu et al. 2020, arXiv:2004.13431, algorithm 1, which the
paper uses). The details are those of the authors' code, github.com/megvii-model/RLNAS, folder
darts_search_space: the vector has the weights of each path through a cell, from an input to a node.
So the weights of an operation occur once for each path that contains it. An operation without
parameters has constants: the identity matrix for a skip connection, and for each channel of a
pooling a k×k kernel of 1/k². Here, a low-pass filter has its kernel. All other weights occur once.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.data.seeds import Stream, generator
from darts_noise.nets.macro_layers import candidates
from darts_noise.nets.mixed.textbook import MixedCell
from darts_noise.nets.supernet import SuperNet
from darts_noise.noise.draws import drawn_labels
from darts_noise.reading_record import Reading
from darts_noise.search.candidate import Candidate
from darts_noise.search.strategies.cells import ordered
from darts_noise.search.strategies.evolution import Evolution
from darts_noise.search.strategies.shared import RandomShared
from darts_noise.search.strategies.strategy import register_strategy
from darts_noise.space.genotype import Cell, Genotype
from darts_noise.space.operations.pooling import BlurPool
from darts_noise.space.spaces import Space


def path_counts(nodes: Cell) -> list[list[int]]:
    """Return for each operation of a cell the number of paths from an input to a node through it.

    >>> path_counts(((("conv_3x3", 0), ("conv_3x3", 1)), (("conv_3x3", 0), ("conv_3x3", 2))))
    [[2, 2], [1, 2]]
    """
    to = [1, 1]  # paths that end in a state
    for pairs in nodes:
        to.append(sum(to[predecessor] for _, predecessor in pairs))
    from_ = [1] * len(to)  # paths that begin in a state, the empty one included
    for node, pairs in reversed(list(enumerate(nodes))):
        for _, predecessor in pairs:
            from_[predecessor] += from_[node + 2]
    return [[to[p] * from_[node + 2] for _, p in pairs] for node, pairs in enumerate(nodes)]


def weights_of(operation: nn.Module, channels: int) -> list[Tensor]:
    """Return the parameters of an operation, or its constants if it has none."""
    return list(operation.parameters()) or list(_constants(operation, channels))


def _constants(operation: nn.Module, channels: int) -> Iterator[Tensor]:
    for layer in operation.modules():
        if isinstance(layer, nn.Identity):
            yield torch.eye(channels)
        elif isinstance(layer, nn.AvgPool2d | nn.MaxPool2d):
            side = cast(int, layer.kernel_size)
            yield torch.full((channels, side, side), 1 / side**2)
        elif isinstance(layer, BlurPool):
            yield layer.kernel


def weight_vector(net: SuperNet, genotype: Genotype) -> Tensor:
    """Return the weights of the discrete network of a cell in a textbook supernet: (weights,).

    Macro choices other than ``pooling`` have the same weights for all their values.
    """
    found: list[Tensor] = [p for name, p in net.named_parameters() if not name.startswith("cells.")]
    which = candidates(net.space, "pooling").index(genotype.choice("pooling"))
    counts = {kind: path_counts(getattr(genotype, kind)) for kind in ("normal", "reduce")}
    for plan, cell in zip(net.plans, list(net.cells)[which * len(net.plans) :], strict=False):
        assert isinstance(cell, MixedCell)
        found += [p for name, p in cell.named_parameters() if not name.startswith("mixed.")]
        for node, pairs in enumerate(getattr(genotype, plan.kind)):
            for place, (name, predecessor) in enumerate(pairs):
                operation = cell.operation(name, predecessor, node)
                found += weights_of(operation, plan.channels) * counts[plan.kind][node][place]
    device = net.classifier.weight.device
    return torch.cat([part.detach().flatten().to(device) for part in found])


def angle_between(one: Tensor, other: Tensor) -> float:
    """Return the angle between two vectors in radians."""
    one, other = (F.normalize(vector.double(), dim=0) for vector in (one, other))
    # arccos(one · other) would lose half of the digits of a small angle.
    return 2 * math.atan2(float((one - other).norm()), float((one + other).norm()))


@register_strategy("random_labels")
class RandomLabels(RandomShared):
    """Ranks cells by how far their weights turn in a training on random labels.

    The cells come from regularised evolution, which maximises the angle. The paper uses a genetic
    algorithm.

    Args:
        share: share of the budget in gradient steps for the shared weights, more than 0, at most 1.
        samples: number of cells that evolution proposes.
        population: number of cells in the population; see `Evolution`.
        sample: number of cells that are drawn for a tournament.
    """

    def __init__(
        self, share: float = 0.5, samples: int = 100, population: int = 10, sample: int = 3
    ) -> None:
        super().__init__(share, samples)
        self.evolution = Evolution(population, sample)

    def start(self, space: Space) -> None:
        super().start(space)
        self.evolution.start(space)
        real = self.shared.trainings.data.train
        source = generator(self.shared.config.seed, Stream.RANDOM_LABELS)
        self.shared = self.shared.on(replace(real, labels=drawn_labels(len(real), real, source)))

    def train(self, steps: int) -> None:
        self.initial = copy.deepcopy(self.shared.w.net)
        super().train(steps)

    def rank(self) -> list[Genotype]:
        found: dict[Genotype, float] = {}
        for _ in range(self.samples):
            cell = ordered(self.evolution.ask().genotype)
            found[cell] = self.angle(cell)
            unread = Reading(math.inf, 0.0)
            self.evolution.tell(Candidate(cell, unread, None, -found[cell]))
        return sorted(found, key=found.__getitem__, reverse=True)

    def angle(self, cell: Genotype) -> float:
        """Return the angle between the initial and the trained weights of a cell in radians."""
        initial, trained = (weight_vector(net, cell) for net in (self.initial, self.shared.w.net))
        return angle_between(initial, trained)
