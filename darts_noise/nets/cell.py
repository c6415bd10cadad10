"""One discrete cell as a module.

The computation is that of DARTS (arXiv:1806.09055, section 2.1): each node is the sum of its
operations, the output is the concatenation of the states that the genotype names.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from darts_noise.nets.plan import CellPlan
from darts_noise.space.genotype import Genotype
from darts_noise.space.operations import get_operation
from darts_noise.space.operations.convolution import ReluConvBn
from darts_noise.space.operations.identity import FactorizedReduce


def preprocessing(plan: CellPlan, affine: bool) -> tuple[nn.Module, nn.Module]:
    """The two modules that bring a cell's inputs to its own width and size."""
    first: nn.Module
    if plan.reduction_last:
        first = FactorizedReduce(plan.channels_before_last, plan.channels, affine)
    else:
        first = ReluConvBn(plan.channels_before_last, plan.channels, 1, 1, affine)
    return first, ReluConvBn(plan.channels_last, plan.channels, 1, 1, affine)


class Cell(nn.Module):
    """A discrete cell.

    Maps the outputs of the last cell but one (B, C₋₂, H₋₂, W₋₂) and of the last cell (B, C₋₁, H, W)
    to (B, C · len(concat), H', W') with H' = ⌈H/2⌉ in a reduction cell and H otherwise;
    H₋₂ = 2H where the last cell was a reduction.
    """

    def __init__(self, genotype: Genotype, plan: CellPlan) -> None:
        super().__init__()
        self.preprocess = nn.ModuleList(preprocessing(plan, affine=True))
        self.nodes: Sequence[Sequence[tuple[str, int]]] = getattr(genotype, plan.kind)
        self.concat: tuple[int, ...] = getattr(genotype, f"{plan.kind}_concat")
        self.out_channels = plan.channels * len(self.concat)
        self.operations = nn.ModuleList(
            nn.ModuleList(
                get_operation(name).build(
                    plan.channels, 2 if plan.reduction and predecessor < 2 else 1, True
                )
                for name, predecessor in node
            )
            for node in self.nodes
        )

    def forward(self, first: Tensor, second: Tensor, drop_path: float = 0.0) -> Tensor:
        """The cell's output.

        Args:
            first: output of the last cell but one.
            second: output of the last cell.
            drop_path: probability with which each operation but the identity gives zeros for a
                sample, in train mode (Larsson et al. 2017, arXiv:1605.07648).
        """
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
