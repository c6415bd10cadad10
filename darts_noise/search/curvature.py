"""The curvature of a loss with respect to α: the dominant eigenvalue of its Hessian."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_noise.data.batches import Batch
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.architecture import Architecture
from darts_noise.search.gradients import constant, vector_product


def dominant_eigenvalue(loss: Tensor, parameters: Sequence[Tensor], iterations: int = 20) -> float:
    """Return the eigenvalue of largest magnitude of ∂²loss/∂parameters², by power iteration.

    Each iteration is one exact Hessian-vector product. The initial vector depends only on the
    shapes of the parameters.

    Args:
        loss: scalar with a graph that can be differentiated twice. With several processes, the
            Hessian of the mean loss over processes is used.
        parameters: the parameters of the Hessian, treated as one vector.
        iterations: largest number of iterations. The iteration ends early when the relative change
            of the value is at most 1e-4.
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
        product = vector_product(gradients, parameters, vector)
        last = value
        value = float(sum((v * p).sum() for v, p in zip(vector, product, strict=True)))
        vector = [p.detach() for p in product]
        if abs(value - last) <= 1e-4 * abs(value):
            break
    return value


def curvature_in_alpha(net: SuperNet, arch: Architecture, batch: Batch) -> float:
    """Return the `dominant_eigenvalue` of a batch's loss with respect to α, at fixed w.

    α is relaxed as in `Architecture.expected`.
    """
    images, labels = batch
    with torch.enable_grad(), constant(net):
        loss = F.cross_entropy(net(images, arch.expected()), labels)
        return dominant_eigenvalue(loss, list(arch.parameters()))
