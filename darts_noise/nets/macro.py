"""Macro choices in networks: chosen in a discrete one, weighted by α in the supernet.

The choices and their values are `darts_noise.space.macro.MACRO`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from darts_noise.compat import BatchNorm
from darts_noise.distributed.batch_norm import follow, statistics_over_processes
from darts_noise.distributed.collectives import process_count
from darts_noise.space.genotype import Genotype
from darts_noise.space.macro import MACRO, Value
from darts_noise.space.operations.identity import FactorizedReduce
from darts_noise.space.spaces import Space

# ------------------------------------------------------------------------- discrete networks


class Shift(nn.Module):
    """A learnt shift per channel, (B, C, H, W) → the same: what is left of a norm that is not."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


def scaled_channels(genotype: Genotype, channels: int) -> int:
    """The channels of a state before the first reduction, at the genotype's width."""
    return max(min(1, channels), round(channels * float(genotype.choice("width"))))


def choose_normalisation(module: nn.Module, kind: Value) -> None:
    """Puts ``layer`` or ``none`` in the place of every batch norm within a module.

    Without norms the convolutions start with variances that keep those of their inputs (He et al.
    2015, arXiv:1502.01852; a gain of 1 where no ReLU comes before).
    """
    if kind == "batch":
        return
    _replace_norms(
        module,
        lambda norm: (
            Shift(norm.num_features)
            if kind == "none"
            else nn.GroupNorm(1, norm.num_features, affine=norm.affine)
        ),
    )
    if kind == "none":
        _keep_variances(module)


SIGNAL = 0.002
"""What is left, where a network has no norms, of a signal behind its first weights."""


def start_small(steps: Sequence[nn.Module], depth: int) -> None:
    """Scales the convolutions of a network without norms so that `SIGNAL` is left of a signal.

    Weights that start small learn what an image shows most clearly first, and details that tell one
    image of noise from another late or never (the rich regime: Chizat et al. 2019,
    arXiv:1812.07956). Each step weakens a signal as much as any other, however many convolutions it
    is made of: otherwise a separable one, which has four, would never start to learn.

    Args:
        steps: modules whose convolutions keep the variance of their inputs
            (`choose_normalisation`): a stem, a preprocessing or an operation.
        depth: of the network, in steps one after the other.
    """
    for step in steps:
        convolutions = [module for module in step.modules() if isinstance(module, nn.Conv2d)]
        in_a_row = 1 if isinstance(step, FactorizedReduce) else len(convolutions)
        for convolution in convolutions:
            with torch.no_grad():
                convolution.weight.mul_(SIGNAL ** (1 / (depth * in_a_row)))


def _keep_variances(module: nn.Module) -> None:
    rectified = False
    for leaf in (m for m in module.modules() if not list(m.children())):
        if isinstance(leaf, nn.Conv2d):
            nn.init.kaiming_normal_(leaf.weight, nonlinearity="relu" if rectified else "linear")
        rectified = isinstance(leaf, nn.ReLU)


def stem_pooling(kind: Value) -> nn.Module:
    """What stands right behind the stem: (B, C, H, W) → (B, C, ⌈H/k⌉, ⌈W/k⌉), k = 1, 2 or 4."""
    if kind == "none":
        return nn.Identity()
    return nn.Sequential(nn.ReLU(), _average(pooling_stride(kind)))


def pooling_stride(kind: Value) -> int:
    """By how much a pooling behind the stem divides height and width.

    >>> pooling_stride("average_4"), pooling_stride("none")
    (4, 1)
    """
    return 1 if kind == "none" else int(str(kind).removeprefix("average_"))


def _average(side: int) -> nn.AvgPool2d:
    return nn.AvgPool2d(side, ceil_mode=True, count_include_pad=False)


# ------------------------------------------------------------------------- the supernet


class Weighted(nn.Module):
    """A module that α weighs; the supernet sets ``weights`` before it runs.

    Attributes:
        choice: the macro choice.
        candidates: its values.
        weights: (candidates,), while `weighing` lasts.
    """

    weights: Tensor | None = None

    def __init__(self, choice: str, candidates: Sequence[Value]) -> None:
        super().__init__()
        self.choice, self.candidates = choice, tuple(candidates)

    @property
    def shares(self) -> Tensor:
        assert self.weights is not None, "a supernet's module outside its supernet"
        return self.weights


class MixedNorm(Weighted, BatchNorm):
    """Σ_k weight_k · norm_k(x) over batch norm, layer norm and none, without learnt scale.

    Each of them is a scale and a shift for every image and channel, so x (B, C, H, W) is read once
    for the statistics of all and once for their sum. The running statistics are the batch norm's.

    Attributes:
        synchronised: whether a batch is that of all processes together.
    """

    synchronised = False

    def __init__(self, candidates: Sequence[Value], channels: int) -> None:
        BatchNorm.__init__(self, channels, affine=False)
        self.choice, self.candidates = "normalisation", tuple(candidates)

    def forward(self, x: Tensor) -> Tensor:
        exact = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mean = exact.mean((2, 3), keepdim=True)
        variance = (exact - mean).square().mean((2, 3))  # (B, C); var_mean takes 8 times as long
        mean = mean[..., 0, 0]
        scale, shift = torch.zeros_like(mean), torch.zeros_like(mean)
        for weight, kind in zip(self.shares, self.candidates, strict=True):
            if kind == "none":
                scale = scale + weight
                continue
            if kind == "batch":
                m, v = self._of_batch(mean, variance, x.shape[2] * x.shape[3])
            else:
                m, v = _pooled(mean, variance, 1)
            factor = weight / (v + self.eps).sqrt()
            scale, shift = scale + factor, shift - factor * m
        scale, shift = scale.to(x.dtype), shift.to(x.dtype)
        return torch.addcmul(shift[..., None, None], x, scale[..., None, None])

    def _of_batch(self, mean: Tensor, variance: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
        """Those of the batch while training, which the running ones follow; else the latter."""
        if not self.training and self.track_running_stats:
            assert self.running_mean is not None
            assert self.running_var is not None
            return self.running_mean, self.running_var
        m, v = (statistic[0] for statistic in _pooled(mean, variance, 0))
        count: float | Tensor = len(mean) * pixels
        if self.synchronised and process_count() > 1:
            m, v, count = statistics_over_processes(m, v, len(mean) * pixels)
        if self.training and self.track_running_stats:
            assert self.running_mean is not None
            assert self.running_var is not None
            follow(self.running_mean, self.running_var, m, v, count, self.momentum or 0.0)
        return m, v


def _pooled(mean: Tensor, variance: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of equally large groups together, from those of each group."""
    m = mean.mean(dim, keepdim=True)
    return m, (variance + (mean - m).square()).mean(dim, keepdim=True)


class MixedWidth(Weighted):
    """x (B, C, H, W) times the weight of all widths that a channel belongs to.

    A width w has the first w · C channels (FBNetV2, arXiv:2004.05565, section 3.1).
    """

    members: Tensor

    def __init__(self, candidates: Sequence[Value], channels: int) -> None:
        super().__init__("width", candidates)
        counts = torch.tensor([max(1, round(channels * float(c))) for c in candidates])
        members = torch.arange(channels) < counts[:, None]
        self.register_buffer("members", members.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        share = self.shares @ self.members.to(self.shares.dtype)
        return x * share[:, None, None]


def mixed_width(space: Space, channels: int) -> nn.Module:
    """What the states of a cell of so many channels go through."""
    candidates = dict(space.macro).get("width")
    return nn.Identity() if candidates is None else MixedWidth(candidates, channels)


def pooling_candidates(space: Space) -> tuple[Value, ...]:
    """Those behind the stem; DARTS's own where a space is silent."""
    return dict(space.macro).get("pooling", MACRO["pooling"][:1])


def mix_norms(module: nn.Module, space: Space) -> None:
    """Puts a `MixedNorm` in the place of every batch norm within a module, if the space says so.

    Where ``none`` is a candidate the convolutions start as in a network that has none: otherwise
    it would be a candidate for next to nothing, and lose as such.
    """
    candidates = dict(space.macro).get("normalisation")
    if candidates is not None:
        _replace_norms(module, lambda norm: MixedNorm(candidates, norm.num_features))
        if "none" in candidates:
            _keep_variances(module)


@contextmanager
def weighing(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it every `Weighted` within a module has its weights, of (1, candidates) each."""
    parts = [part for part in module.modules() if isinstance(part, Weighted)]
    for part in parts:
        part.weights = weights[part.choice][0]
    try:
        yield
    finally:
        for part in parts:
            part.weights = None


def _replace_norms(module: nn.Module, make: Callable[[nn.BatchNorm2d], nn.Module]) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, make(child))
        else:
            _replace_norms(child, make)
