"""torch.compile of a discrete network, for training.

Only the forward pass in train mode is compiled. The network does not change: its state_dict keeps
its keys, and evaluation runs uncompiled.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torchvision.ops import stochastic_depth

from darts_noise.nets.network import Network, WithAuxiliary


def stochastic_depth_by_rows(input: Tensor, p: float, mode: str, training: bool = True) -> Tensor:
    """Return torchvision's ``stochastic_depth`` with mode ``row``, computed so that `p` may vary.

    Args:
        input: (B, ...).
        p: the probability that a sample becomes zero. The other samples are divided by 1 - p.
        mode: ``row``.
        training: if false, return the input.
    """
    assert mode == "row"
    if not training or p == 0:
        return input
    row = [input.shape[0]] + [1] * (input.ndim - 1)
    kept = torch.rand(row, device=input.device) >= p
    return input * (kept / (1 - p)).to(input.dtype)


@cache
def _compile_drop_path_for_all_rates() -> None:
    """Make the compiler trace `stochastic_depth_by_rows` instead of torchvision's function.

    The compiler treats the rate of ``bernoulli_`` as a constant. The rate rises every epoch, so
    torchvision's function would compile the network again in every epoch. After eight compilations
    torch.compile gives up and runs the network uncompiled.
    """
    torch.compiler.substitute_in_graph(stochastic_depth)(stochastic_depth_by_rows)


def compile_forward(
    net: Network, backend: str | Callable[..., object] = "inductor"
) -> Callable[[Tensor], Tensor | WithAuxiliary]:
    """Return a compiled function that computes ``net(x)`` with the network's own weights.

    The compiler runs at the first call, and its errors are not caught. The function uses later
    values of the weights and of ``net.drop_path``.

    Args:
        net: the network; not changed.
        backend: the backend of torch.compile.
    """
    _compile_drop_path_for_all_rates()
    # Compile the bound method, not the module: a compiled module would be a second child of its
    # owner and appear in the owner's state_dict.
    compiled: Callable[[Tensor], Tensor | WithAuxiliary] = torch.compile(
        net.forward, backend=backend
    )
    return compiled
