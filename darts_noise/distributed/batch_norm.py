"""Batch norm with the statistics of all processes' images together.

`torch.nn.SyncBatchNorm` works on GPUs only and cannot be differentiated twice, as the second-order
hypergradients ask for; this is made of operations that can.
"""

import torch
from torch import Tensor

from darts_noise.distributed.collectives import gather


def statistics_over_processes(
    mean: Tensor, variance: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of the values of all processes, from those of each.

    By the variances of the groups and of their means (Chan, Golub and LeVeque 1979): a difference
    of a sum of squares and a squared sum would lose what float32 has of a small variance.

    Args:
        mean: (C,), of this process's values.
        variance: (C,), their mean squared distance from it.
        count: how many values that is of each channel; processes may differ.

    Returns:
        Mean (C,), variance (C,) and the number of values (a scalar); differentiable.
    """
    rows = gather(torch.cat([mean, variance, mean.new_full((1,), count)]))
    means, variances, counts = torch.split(rows, [len(mean), len(mean), 1], 1)
    total = counts.sum()
    share = counts / total  # (processes, 1)
    together = (share * means).sum(0)
    spread = variances + (means - together).square()
    return together, (share * spread).sum(0), total


def synchronised_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """`torch.nn.functional.batch_norm` by the batches of all processes.

    Args:
        x: (B, C, H, W), of this process.
        running_mean: (C,), follows in place; None for no running statistics.
        running_var: likewise.
        weight: (C,), the scale; None for 1.
        bias: (C,); None for 0.
        momentum: of the running statistics.
        eps: added to the variance.

    Returns:
        As x in shape and dtype.
    """
    exact = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    local = exact.mean((0, 2, 3))
    centred = exact - local[:, None, None]
    count = x.numel() // x.shape[1]
    mean, variance, total = statistics_over_processes(
        local, centred.square().mean((0, 2, 3)), count
    )
    if running_mean is not None and running_var is not None:
        follow(running_mean, running_var, mean, variance, total, momentum)
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = (local - mean) * scale
    shift = shift if bias is None else shift + bias
    return torch.addcmul(shift[:, None, None], centred, scale[:, None, None]).to(x.dtype)


def follow(
    running_mean: Tensor,
    running_var: Tensor,
    mean: Tensor,
    variance: Tensor,
    count: float | Tensor,
    momentum: float,
) -> None:
    """Moves running statistics towards a batch's, whose variance is made unbiased."""
    with torch.no_grad():
        # `max` of a tensor would ask for its value, which a GPU would be waited for.
        others = (count - 1).clamp(min=1) if isinstance(count, Tensor) else max(count - 1, 1)
        unbiased = variance * (count / others)
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)
