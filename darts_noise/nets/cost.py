"""The parts of a discrete network, and what each of them costs for one image."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from darts_noise.nets.cell import Cell
from darts_noise.nets.network import Network

HEAD_AND_TAIL = ("input_filter", "stem", "stem_pooling", "pool", "projection", "classifier")


class Part(NamedTuple):
    """A module of a network at one of its uses.

    Attributes:
        name: name of an operation of a cell, or of another part of the network.
        module: the module.
        image: ones in the shape of its input for one image.
        output: shape of its output (C, H, W). None if it has several outputs.
        is_operation: whether it is an operation of a cell.
    """

    name: str
    module: nn.Module
    image: Tensor
    output: torch.Size | None
    is_operation: bool = False

    @property
    def label(self) -> str:
        """The name, the shapes, and all layers in one line."""
        shapes = [self.image.shape[1:], *([] if self.output is None else [self.output])]
        sizes = " → ".join("×".join(map(str, shape)) for shape in shapes)
        return f"{self.name} {sizes} {' '.join(str(self.module).split())}"


def parts(net: Network, image_shape: Sequence[int]) -> list[Part]:
    """Return the parts of a network in the order in which one image of (C, H, W) passes them.

    Together they are the whole network, but for sums and concatenations. The network is in eval
    mode.
    """
    modules = [(name, getattr(net, name), False) for name in HEAD_AND_TAIL]
    for cell in net.cells:
        assert isinstance(cell, Cell)
        modules += [("preprocess", module, False) for module in cell.preprocess]
        for node, operations in zip(cell.nodes, cell.operations, strict=True):
            assert isinstance(operations, nn.ModuleList)
            modules += [(n, m, True) for (n, _), m in zip(node, operations, strict=True)]
    found: list[Part] = []

    def watch(name: str, module: nn.Module, is_operation: bool) -> Any:
        def seen(_: nn.Module, given: tuple[Tensor, ...], output: Any) -> None:
            out = output.shape[1:] if isinstance(output, Tensor) else None
            found.append(Part(name, module, torch.ones_like(given[0]), out, is_operation))

        return module.register_forward_hook(seen)

    hooks = [watch(*one) for one in modules]
    with torch.no_grad():
        net(torch.ones(1, *image_shape))
    for hook in hooks:
        hook.remove()
    return found


def multiply_adds(module: nn.Module, image: Tensor) -> int:
    """Return the multiply-adds of a module that is in eval mode: half of torch's FLOP count.

    torch counts convolutions and matrix products, but no biases, pools, norms and activations.
    """
    counter = FlopCounterMode(display=False)
    with parametrize.cached(), torch.no_grad():
        if any(map(parametrize.is_parametrized, module.modules())):
            module(image)  # a bounded weight is computed once for all images: this does not count
        with counter:
            module(image)
    return int(counter.get_total_flops()) // 2
