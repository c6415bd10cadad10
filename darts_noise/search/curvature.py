"""The curvature of a loss in α: the dominant eigenvalue of its Hessian."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_noise.data.batches import Batch
from darts_noise.distributed.collectives import average_over_processes
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.architecture import Architecture
from darts_noise.search.gradients import constant


def dominant_eigenvalue(loss: Tensor, parameters: Sequence[Tensor], iterations: int = 20) -> float:
    """The eigenvalue of largest magnitude of ∂²loss/∂parameters², by power iteration.

    Each iteration is one exact Hessian-vector product. The start depends on the shapes alone.

    Args:
        loss: scalar with a graph that can be differentiated twice; of several processes, the mean
            is what counts.
        parameters: what the Hessian is taken in, all of it as one vector.
        iterations: at the most; it ends early when the value has settled to 1e-4.
    """
    gradients = torch.autograd.grad(
        loss, parameters, create_graph=True, allow_unused=True, materialize_grads=True
    )
    generator = torch.Generator().manual_seed(0)
    vector = [torch.randn(p.shape, generator=generator).to(p.device, p.dtype) for p in parameters]
    value = 0.0
    for _ in range(iterations):
        norm = torch.stack([v.square().sum() for v in vector]).sum().sqrt()
        if norm == 0:
            return 0.0
        vector = [v / norm for v in vector]
        product = average_over_processes(
            torch.autograd.grad(
                gradients,
                parameters,
                grad_outputs=vector,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        )
        last = value
        value = float(sum((v * p).sum() for v, p in zip(vector, product, strict=True)))
        vector = [p.detach() for p in product]
        if abs(value - last) <= 1e-4 * abs(value):
            break
    return value


def curvature_in_alpha(net: SuperNet, arch: Architecture, batch: Batch) -> float:
    """`dominant_eigenvalue` of a batch's loss in α, at fixed w and the expected relaxation."""
    images, labels = batch
    with torch.enable_grad(), constant(net):
        loss = F.cross_entropy(net(images, arch.expected()), labels)
        return dominant_eigenvalue(loss, list(arch.parameters()))
