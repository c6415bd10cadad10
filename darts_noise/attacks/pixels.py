"""Networks on pixels from 0 to 1, and the changes of pixels that an attack may make."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from darts_noise.data.images import Normalisation
from darts_noise.nets.body import dtype_of


class OnPixels(nn.Module):
    """A network together with its normalisation: pixels (B, C, H, W) from 0 to 1 → logits."""

    def __init__(self, net: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        self.net, self.normalisation = net, normalisation

    def forward(self, pixels: Tensor) -> Tensor:
        images = self.normalisation(255 * pixels)
        logits: Tensor = self.net(images.to(dtype_of(self.net)))
        return logits


def device_of(net: nn.Module) -> torch.device:
    """Return the device of a module; the CPU if it has no parameters."""
    return next((parameter.device for parameter in net.parameters()), torch.device("cpu"))


@dataclass(frozen=True)
class Ball:
    """The allowed changes of an image: those with a norm of at most `eps`, with pixels from 0 to 1.

    Attributes:
        norm: ``linf`` or ``l2``.
        eps: the largest norm of a change.
    """

    norm: str
    eps: float

    def step(self, gradient: Tensor) -> Tensor:
        """Return the change of norm 1 that goes furthest along a gradient (B, C, H, W)."""
        return gradient.sign() if self.norm == "linf" else gradient / norms(gradient)

    def project(self, images: Tensor, originals: Tensor) -> Tensor:
        """Return the images moved into the ball around the originals."""
        change = images - originals
        if self.norm == "linf":
            change = change.clamp(-self.eps, self.eps)
        else:
            change = change * (self.eps / norms(change)).clamp(max=1)
        return (originals + change).clamp(0, 1)

    def random(self, images: Tensor, random: torch.Generator) -> Tensor:
        """Return random images of the ball, uniform in it but for the limits of the pixels."""
        if self.norm == "linf":
            change = 2 * torch.rand(images.shape, generator=random) - 1
        else:
            change = torch.randn(images.shape, generator=random)
            radii = torch.rand(len(images), 1, 1, 1, generator=random) ** (1 / images[0].numel())
            change = change / norms(change) * radii
        return (images + self.eps * change.to(images, non_blocking=True)).clamp(0, 1)


def norms(x: Tensor) -> Tensor:
    """Return the l2 norm of each image, (B, 1, 1, 1), above 0."""
    lengths: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return lengths.clamp_min(1e-12)
