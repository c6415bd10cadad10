"""One discrete cell as a module.

The computation is from DARTS (arXiv:1806.09055, section 2.1). Each node is the sum of its
operations. The output is the concatenation of the states that the genotype names.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from darts_noise.configured import naming_arguments
from darts_noise.errors import SettingError
from darts_noise.nets.gain import choose_layers
from darts_noise.nets.integers import require_integers
from darts_noise.nets.macro_layers import average
from darts_noise.nets.plan import CellPlan
from darts_noise.space.genotype import Genotype
from darts_noise.space.macro import Value
from darts_noise.space.operations import dense, get_operation
from darts_noise.space.operations.convolution import ReluConvBn
from darts_noise.space.operations.identity import FactorisedReduce
from darts_noise.space.published import load_genotype


def preprocessing(plan: CellPlan, affine: bool, reduction: Value) -> tuple[nn.Module, nn.Module]:
    """Make the two modules that convert a cell's inputs to the cell's width and size."""
    first: nn.Module
    if plan.reduction_last and reduction == "average":
        convolution = ReluConvBn(plan.channels_before_last, plan.channels, 1, 1, affine)
        first = nn.Sequential(average(2), convolution)
    elif plan.reduction_last:
        first = FactorisedReduce(plan.channels_before_last, plan.channels, affine)
    else:
        first = ReluConvBn(plan.channels_before_last, plan.channels, 1, 1, affine)
    return first, ReluConvBn(plan.channels_last, plan.channels, 1, 1, affine)


def build_operation(
    name: str, channels: int, stride: int, affine: bool, reduction: Value
) -> nn.Module:
    """Build an operation; with an average reduction, its stride is a pooling before it."""
    if stride == 1 or reduction == "strided":
        return get_operation(name).build(channels, stride, affine)
    return nn.Sequential(average(stride), get_operation(name).build(channels, 1, affine))


def dropped(x: Tensor, rate: float) -> Tensor:
    """Replace samples by zeros with a probability, and divide the others by 1 less it (B, C, H, W).

    The function of torchvision, ``stochastic_depth``, draws by ``bernoulli_``. Its rate is a
    constant for torch.compile, which would compile anew when the rate rises, in every epoch.
    """
    kept = torch.rand_like(x[:, :1, :1, :1], dtype=torch.float32) >= rate
    return x * (kept / (1 - rate)).to(x.dtype)


@naming_arguments
class Cell(nn.Module):
    """A discrete cell, for a network of cells or as a block in any other module.

    The first input is the output of the block before the last, (B, in_channels[0], H₋₂, W₋₂). The
    second input is the output of the last block, (B, in_channels[1], H, W). If there is only one
    input, the cell uses it twice. The output is (B, out_channels, H', W'), with H' = ⌈H/2⌉ and
    W' = ⌈W/2⌉ in a reduction cell, and H' = H and W' = W in a normal cell. H₋₂ is H, or 2H up to
    one pixel if the last block has halved the map.

    Attributes:
        out_channels: channels times the number of states that the genotype concatenates.

    Args:
        genotype: a published name, a `Genotype`, a path to a ``.json`` file or the folder of a run.
            A cell uses only the macro choices ``normalisation``, ``reduction``, ``gain`` and
            ``initialisation``; the others apply to networks.
        in_channels: channels of the two inputs; one number if both have the same.
        channels: channels of each state of the cell.
        reduction: whether to build the reduction cell. Default: the normal cell.
        reduction_last: whether the first input is twice as high and wide as the second. Default:
            False.

    Raises:
        ValueError: the genotype does not exist, or there are fewer channels than 1 (2 if a map is
            halved).

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
        given: tuple[int, ...] = in_channels
        if len(given) != 2:
            raise SettingError("in_channels", f"expected a number or two, got {len(given)} numbers")
        require_integers(channels=channels)
        for number in given:
            require_integers(in_channels=number)
        for name, least in (("in_channels", min(in_channels)), ("channels", channels)):
            if least < 1:
                raise ValueError(f"{name}: expected at least 1, got {least}")
        plan = CellPlan(*in_channels, channels, reduction, reduction_last)
        how = genotype.choice("reduction")
        self.preprocess = nn.ModuleList(preprocessing(plan, True, how))
        self.nodes: Sequence[Sequence[tuple[str, int]]] = getattr(genotype, plan.kind)
        self.concat: tuple[int, ...] = getattr(genotype, f"{plan.kind}_concat")
        self.out_channels = channels * len(self.concat)
        self.operations = nn.ModuleList(
            nn.ModuleList(
                build_operation(
                    name, channels, 2 if reduction and predecessor < 2 else 1, True, how
                )
                for name, predecessor in node
            )
            for node in self.nodes
        )
        self.bounded = genotype.choice("gain") == "bounded"
        choose_layers(self, genotype)

    def steps(self) -> list[nn.Module]:
        """Return the preprocessing of both inputs and all operations."""
        operations = [step for node in self.operations for step in node.children()]
        return [*self.preprocess, *operations]

    def forward(
        self, first: Tensor, second: Tensor | None = None, drop_path: float = 0.0
    ) -> Tensor:
        """Return the cell's output (B, out_channels, H', W').

        Args:
            first: (B, in_channels[0], H₋₂, W₋₂), output of the block before the last.
            second: (B, in_channels[1], H, W), output of the last block. None (default): `first`.
            drop_path: probability that an operation gives zeros for a sample, in train mode
                (Larsson et al. 2017, arXiv:1605.07648). The identity is never dropped. Default: 0.
        """
        second = first if second is None else second
        states = [self.preprocess[0](first), self.preprocess[1](second)]
        for node, operations in zip(self.nodes, self.operations, strict=True):
            terms = []
            assert isinstance(operations, nn.ModuleList)
            for (_, predecessor), operation in zip(node, operations, strict=True):
                term = operation(states[predecessor])
                if self.training and drop_path > 0 and not isinstance(operation, nn.Identity):
                    term = dropped(term, drop_path)
                terms.append(term)
            state = sum(terms[1:], start=terms[0])
            states.append(state / len(terms) if self.bounded else state)
        output = dense.concatenated([states[i] for i in self.concat])
        # n states of gain 1 have a gain of √n together.
        return output / math.sqrt(len(self.concat)) if self.bounded else output
