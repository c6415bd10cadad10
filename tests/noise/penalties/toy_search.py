"""A search of which the answer is known, and which the tests of the penalties share.

Of the two candidates on every edge, ``pixels`` sees an image and ``mean`` only its mean. The noise
has mean 0, so that whoever sees the mean cannot tell one image of noise from another. The data are
even grey, dark or light: either candidate will do for them. A penalty on noise fit has to move α to
``mean``.
"""

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

import darts_noise as dn
from darts_noise.noise.penalties import Penalty
from darts_noise.search.gradients import AlphaGradient, weights_pass
from darts_noise.search.penalty_gradient import SupernetOnNoise
from darts_noise.space.spaces import Space

PIXELS, MEAN = 0, 1
SPACE = Space("toy", ("sep_conv_3x3", "avg_pool_3x3"), nodes=1)  # α's columns; see `Toy.forward`


class Toy(nn.Module):
    """Logits (B, 2) of images (B, 1, 4, 4), linear in the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(16, 2).double()

    def forward(self, images: Tensor, relaxed: dict[str, Tensor]) -> Tensor:
        share = relaxed["normal"].mean(0)
        x = images.flatten(1)
        seen = share[PIXELS] * x + share[MEAN] * x.mean(1, keepdim=True)
        logits: Tensor = self.classifier(seen)
        return logits


def noise() -> tuple[Tensor, Tensor]:
    """Images and labels of noise, learnt whole as a batch."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(12, 1, 4, 4, generator=generator, dtype=torch.float64)
    return images - images.mean((2, 3), keepdim=True), torch.arange(12) % 2


def data() -> tuple[Tensor, Tensor]:
    labels = torch.arange(12) % 2
    grey = (2 * labels - 1).double()
    return grey[:, None, None, None].expand(12, 1, 4, 4), labels


def undecided() -> tuple[Toy, dn.Architecture]:
    torch.manual_seed(0)
    net, arch = Toy(), dn.Architecture(SPACE).double()
    with torch.no_grad():
        arch.normal.zero_()
    return net, arch


def share_of_mean(arch: dn.Architecture) -> float:
    return float(arch.expected()["normal"][:, MEAN].detach().mean())


def penalty_gradient(
    penalty: Penalty, net: Toy, arch: dn.Architecture, batch: tuple[Tensor, Tensor]
) -> AlphaGradient:
    found, _ = SupernetOnNoise(net, arch, batch, data(), 2).differentiate(penalty)
    return found


def learn(net: Toy, arch: dn.Architecture, batch: tuple[Tensor, Tensor], steps: int) -> None:
    """So many steps of the weights on a batch, at fixed α."""
    optimiser = SGD(net.parameters(), 0.3, momentum=0.9)
    for _ in range(steps):
        done = weights_pass(net, {k: w.detach() for k, w in arch().items()}, batch)
        for parameter, gradient in zip(net.parameters(), done.gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()


def move_alpha(penalty: Penalty, net: Toy, arch: dn.Architecture, steps: int) -> list[float]:
    """Steps of α down the penalty alone; before each one, v (if it is v) learns for one.

    Returns:
        the penalty before each step.
    """
    optimiser, seen = Adam(arch.parameters(), 0.05), []
    for _ in range(steps):
        if penalty.weights == "twin":
            learn(net, arch, noise(), 1)
        found = penalty_gradient(penalty, net, arch, noise())
        for parameter, gradient in zip(arch.parameters(), found.gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
        seen.append(float(found.loss))
    return seen
