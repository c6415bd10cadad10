"""torch.compile of a discrete network, for its training.

What is compiled is the network's forward in train mode alone. The network stays as it is: its
state_dict has the keys of a plain one, and evaluation runs it without the compiler.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torchvision.ops import stochastic_depth

from darts_noise.nets.network import Network, WithAuxiliary


def stochastic_depth_by_rows(input: Tensor, p: float, mode: str, training: bool = True) -> Tensor:
    """torchvision's ``stochastic_depth`` of mode ``row``, in operations that take `p` as it comes.

    Args:
        input: (B, ...).
        p: the probability of zeros for a sample; the other samples are divided by 1 - p.
        mode: ``row``.
        training: false leaves the input as it is.
    """
    assert mode == "row"
    if not training or p == 0:
        return input
    row = [input.shape[0]] + [1] * (input.ndim - 1)
    kept = torch.rand(row, device=input.device) >= p
    return input * (kept / (1 - p)).to(input.dtype)


@cache
def _compile_drop_path_for_all_rates() -> None:
    """Tells the compiler to trace `stochastic_depth_by_rows` in place of torchvision's function.

    The compiler takes the rate of ``bernoulli_`` for a constant. The rate rises from epoch to
    epoch, so each would compile the network anew, and after eight torch.compile gives up and runs
    it uncompiled.
    """
    torch.compiler.substitute_in_graph(stochastic_depth)(stochastic_depth_by_rows)


def compile_forward(
    net: Network, backend: str | Callable[..., object] = "inductor"
) -> Callable[[Tensor], Tensor | WithAuxiliary]:
    """A function that computes ``net(x)`` compiled, on the network's own weights.

    The compiler runs at the first call; what it raises is not caught. The function sees later
    changes of the weights and of ``net.drop_path``.

    Args:
        net: the network; not changed.
        backend: of torch.compile.
    """
    _compile_drop_path_for_all_rates()
    # The bound method and not the module: a compiled module would be a second child of whoever
    # holds it, and show in its state_dict.
    compiled: Callable[[Tensor], Tensor | WithAuxiliary] = torch.compile(
        net.forward, backend=backend
    )
    return compiled
