"""One discrete cell as a module.

The computation is that of DARTS (arXiv:1806.09055, section 2.1): each node is the sum of its
operations, the output is the concatenation of the states that the genotype names.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from darts_noise.nets.integers import require_integers
from darts_noise.nets.macro import choose_normalisation
from darts_noise.nets.plan import CellPlan
from darts_noise.space.genotype import Genotype
from darts_noise.space.operations import get_operation
from darts_noise.space.operations.convolution import ReluConvBn
from darts_noise.space.operations.identity import FactorizedReduce
from darts_noise.space.published import load_genotype


def preprocessing(plan: CellPlan, affine: bool) -> tuple[nn.Module, nn.Module]:
    """The two modules that bring a cell's inputs to its own width and size."""
    first: nn.Module
    if plan.reduction_last:
        first = FactorizedReduce(plan.channels_before_last, plan.channels, affine)
    else:
        first = ReluConvBn(plan.channels_before_last, plan.channels, 1, 1, affine)
    return first, ReluConvBn(plan.channels_last, plan.channels, 1, 1, affine)


class Cell(nn.Module):
    """A discrete cell, in a network of cells or as a block in any other module.

    It has two inputs, the output of the block before the last, (B, in_channels[0], H₋₂, W₋₂), and
    of the last, (B, in_channels[1], H, W), and gives (B, out_channels, H', W') with
    H' = ⌈H/2⌉ and W' = ⌈W/2⌉ in a reduction cell, H and W otherwise. H₋₂ = H, or up to one pixel
    2H where the block between the two has halved the map. A block with one input takes it twice.

    Attributes:
        out_channels: channels times the number of states that the genotype concatenates.

    Args:
        genotype: a published name, a `Genotype`, a path to a ``.json`` or a run directory; of its
            macro choices a cell has the normalisation, the others are a network's.
        in_channels: of the two inputs, one number where they have as many.
        channels: of each state of the cell.
        reduction: the reduction cell in place of the normal one.
        reduction_last: whether the first input is twice as high and wide as the second.

    Raises:
        ValueError: no such genotype, or fewer channels than 1 (2 where a map is halved).

    >>> block = Cell("darts_v2", in_channels=24, channels=8)
    >>> block(torch.zeros(2, 24, 16, 16)).shape
    torch.Size([2, 32, 16, 16])
    """

    def __init__(
        self,
        genotype: str | Path | Genotype,
        in_channels: int | tuple[int, int],
        channels: int,
        *,
        reduction: bool = False,
        reduction_last: bool = False,
    ) -> None:
        super().__init__()
        genotype = load_genotype(genotype)
        if not isinstance(in_channels, tuple):
            in_channels = (in_channels, in_channels)
        require_integers(in_channels=in_channels[0], channels=channels)
        for name, least in (("in_channels", min(in_channels)), ("channels", channels)):
            if least < 1:
                raise ValueError(f"{name}: expected at least 1, got {least}")
        plan = CellPlan(*in_channels, channels, reduction, reduction_last)
        self.preprocess = nn.ModuleList(preprocessing(plan, affine=True))
        self.nodes: Sequence[Sequence[tuple[str, int]]] = getattr(genotype, plan.kind)
        self.concat: tuple[int, ...] = getattr(genotype, f"{plan.kind}_concat")
        self.out_channels = channels * len(self.concat)
        self.operations = nn.ModuleList(
            nn.ModuleList(
                get_operation(name).build(channels, 2 if reduction and predecessor < 2 else 1, True)
                for name, predecessor in node
            )
            for node in self.nodes
        )
        choose_normalisation(self, genotype.choice("normalisation"))

    def steps(self) -> list[nn.Module]:
        """What a signal goes through: the preprocessing of both inputs, and every operation."""
        operations = [step for node in self.operations for step in node.children()]
        return [*self.preprocess, *operations]

    def forward(
        self, first: Tensor, second: Tensor | None = None, drop_path: float = 0.0
    ) -> Tensor:
        """The cell's output (B, out_channels, H', W').

        Args:
            first: (B, in_channels[0], H₋₂, W₋₂), output of the block before the last.
            second: (B, in_channels[1], H, W), output of the last block; the first again when
                absent.
            drop_path: probability with which each operation but the identity gives zeros for a
                sample, in train mode (Larsson et al. 2017, arXiv:1605.07648).
        """
        second = first if second is None else second
        states = [self.preprocess[0](first), self.preprocess[1](second)]
        for node, operations in zip(self.nodes, self.operations, strict=True):
            terms = []
            assert isinstance(operations, nn.ModuleList)
            for (_, predecessor), operation in zip(node, operations, strict=True):
                term = operation(states[predecessor])
                if drop_path > 0 and not isinstance(operation, nn.Identity):
                    term = stochastic_depth(term, drop_path, "row", self.training)
                terms.append(term)
            states.append(sum(terms[1:], start=terms[0]))
        return torch.cat([states[i] for i in self.concat], dim=1)
