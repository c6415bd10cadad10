"""Batch norm with statistics over the images of all processes.

`torch.nn.SyncBatchNorm` works only on GPUs and is not twice differentiable, which second-order
hypergradients need. This implementation is twice differentiable.
"""

import torch
from torch import Tensor

from darts_noise.distributed.collectives import gather


def statistics_over_processes(
    mean: Tensor, variance: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute mean and variance over all processes from the mean and variance of each process.

    The variance is the mean of the processes' variances plus the variance of their means (Chan,
    Golub and LeVeque 1979). The formula E[x²] − E[x]² would lose the precision of float32 for a
    small variance.

    Args:
        mean: (C,), mean of this process's values.
        variance: (C,), mean squared distance of these values from the mean.
        count: number of values per channel. It may differ between processes.

    Returns:
        Mean (C,), variance (C,) and number of values (a scalar). They are differentiable.
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
    """Apply `torch.nn.functional.batch_norm` with statistics over the batches of all processes.

    Args:
        x: (B, C, H, W), the batch of this process.
        running_mean: (C,), updated in place. None: no running statistics.
        running_var: (C,), updated in place. None: no running statistics.
        weight: (C,), the scale. None: 1.
        bias: (C,), the shift. None: 0.
        momentum: momentum of the running statistics.
        eps: number that is added to the variance.

    Returns:
        A tensor with the shape and dtype of x.
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
    """Update running statistics with the mean and the unbiased variance of a batch."""
    with torch.no_grad():
        # `max` of a tensor would read its value and wait for the GPU.
        others = (count - 1).clamp(min=1) if isinstance(count, Tensor) else max(count - 1, 1)
        unbiased = variance * (count / others)
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)
