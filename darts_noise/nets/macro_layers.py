"""Macro choices in networks: fixed in a discrete network, weighted by α in the supernet.

`darts_noise.space.macro.MACRO` lists the choices and their values.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_noise.compat import BatchNorm
from darts_noise.distributed.batch_norm import follow, statistics_over_processes
from darts_noise.distributed.collectives import process_count
from darts_noise.space.genotype import Genotype
from darts_noise.space.macro import MACRO, Value
from darts_noise.space.operations.identity import FactorisedReduce
from darts_noise.space.operations.residual import MultiResidual
from darts_noise.space.spaces import Space

# ------------------------------------------------------------------------- discrete networks


class Shift(nn.Module):
    """A learnable per-channel bias that replaces a removed norm: (B, C, H, W) → the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


def scaled_channels(genotype: Genotype, channels: int) -> int:
    """Return the channels of a state before the first reduction, times the genotype's width."""
    return max(min(1, channels), round(channels * float(genotype.choice("width"))))


def choose_normalisation(module: nn.Module, kind: Value) -> None:
    """Replace every batch norm in a module by the norm ``layer`` or ``none``.

    For ``none``, the convolutions are initialised to keep the variance of their inputs (He et al.
    2015, arXiv:1502.01852; the gain is 1 if there is no ReLU before the convolution).
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
"""The product of the factors by which `start_small` scales the convolutions along a network."""


def start_small(steps: Sequence[nn.Module], depth: int) -> None:
    """Scale the convolutions of a network without norms by `SIGNAL` along its depth.

    Each step is scaled by the same factor, SIGNAL^(1 / depth). A chain of single convolutions then
    scales a signal by about `SIGNAL`. Pools, skip connections and sums are not scaled, so a network
    with many of them scales it by more.

    A network with small initial weights first learns the strongest features of an image. It learns
    the details that distinguish noise images late or never (the rich regime: Chizat et al. 2019,
    arXiv:1812.07956). The factor does not depend on the number of convolutions of a step. Otherwise
    a separable convolution, which has four, would never start to learn.

    Args:
        steps: modules whose convolutions keep the variance of their inputs
            (`choose_normalisation`): a stem, a preprocessing or an operation.
        depth: number of consecutive steps in the network.
    """
    for path in (path for step in steps for path in _paths(step)):
        convolutions = [module for module in path.modules() if isinstance(module, nn.Conv2d)]
        in_a_row = 1 if isinstance(path, FactorisedReduce) else len(convolutions)
        for convolution in convolutions:
            with torch.no_grad():
                convolution.weight.mul_(SIGNAL ** (1 / (depth * in_a_row)))


def _paths(step: nn.Module) -> Sequence[nn.Module]:
    """Return the parallel paths of a multi-residual step; else the step itself."""
    sums = (module for module in step.modules() if isinstance(module, MultiResidual))
    return next((list(of.paths) for of in sums), [step])


@torch.no_grad()
def start_orthogonal(module: nn.Module) -> None:
    """Give the convolutions in a module delta-orthogonal weights, with a gain of 1.

    They are orthogonal in the centre of the kernel and zero elsewhere (Xiao et al. 2018,
    arXiv:1806.05393), so that no layer loses gain before the training.
    """
    for layer in (layer for layer in module.modules() if isinstance(layer, nn.Conv2d)):
        weight = layer.weight.zero_()
        centre = torch.empty(len(weight) // layer.groups, weight.shape[1])
        for part in weight.chunk(layer.groups):
            nn.init.orthogonal_(centre)
            part.view(*centre.shape, -1)[..., part[0, 0].numel() // 2] = centre


def _keep_variances(module: nn.Module) -> None:
    # The second convolution of a `FactorisedReduce` follows the first in this order, so it starts
    # as if its input had no ReLU, with half of the variance.
    rectified = False
    for leaf in (m for m in module.modules() if not list(m.children())):
        if isinstance(leaf, nn.Conv2d):
            nn.init.kaiming_normal_(leaf.weight, nonlinearity="relu" if rectified else "linear")
        rectified = isinstance(leaf, nn.ReLU)


def stem_pooling(kind: Value) -> nn.Module:
    """Make the pooling after the stem: (B, C, H, W) → (B, C, ⌈H/k⌉, ⌈W/k⌉), k = 1, 2 or 4."""
    if kind == "none":
        return nn.Identity()
    return nn.Sequential(nn.ReLU(), average(pooling_stride(kind)))


def pooling_stride(kind: Value) -> int:
    """Return the factor by which the pooling after the stem divides height and width.

    >>> pooling_stride("average_4"), pooling_stride("none")
    (4, 1)
    """
    return 1 if kind == "none" else int(str(kind).removeprefix("average_"))


def average(side: int) -> nn.AvgPool2d:
    """Make the average over squares: (B, C, H, W) → (B, C, ⌈H/side⌉, ⌈W/side⌉)."""
    return nn.AvgPool2d(side, ceil_mode=True, count_include_pad=False)


class Parts(nn.Module):
    """The means of a map over count × count parts: (B, C, H, W) → (B, C, count², 1).

    A part has ⌈H/count⌉ × ⌈W/count⌉ pixels, fewer at the border. No two parts overlap. If a map is
    too small, parts outside it are zeros. Therefore the gain is at most 1 at every size.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return _part_means(x, self.count)

    def extra_repr(self) -> str:
        return f"count={self.count}"


def _part_means(x: Tensor, count: int) -> Tensor:
    means = F.avg_pool2d(x, [-(-side // count) for side in x.shape[-2:]], ceil_mode=True)
    height, width = means.shape[-2:]
    return F.pad(means, (0, count - width, 0, count - height)).flatten(2)[..., None]


torch.fx.wrap("_part_means")  # a symbolic trace has no sizes


def final_pool(choices: Genotype | Space) -> nn.Module:
    """Make the final mean: (B, C, H, W) → (B, C, P, 1), P positions in all."""
    return chosen(
        choices,
        "positions",
        lambda count: nn.AdaptiveAvgPool2d(1) if count == 1 else Parts(int(count)),
        beside=2,
    )


def projection(choices: Genotype | Space, channels: int) -> nn.Module:
    """Make the linear map of the features: (B, channels, P, 1) → (B, F, P, 1), F features."""
    return chosen(
        choices,
        "features",
        lambda kind: (
            nn.Identity() if kind == "all" else nn.Conv2d(channels, int(kind), 1, bias=False)
        ),
        beside=1,
    )


def classifier_inputs(choices: Genotype | Space, channels: int) -> int:
    """Return the inputs of the classifier behind a last map of this many channels."""
    features = sum(
        channels if kind == "all" else int(kind) for kind in candidates(choices, "features")
    )
    return features * sum(int(side) ** 2 for side in candidates(choices, "positions"))


# ------------------------------------------------------------------------- the supernet


def candidates(choices: Genotype | Space, name: str) -> tuple[Value, ...]:
    """Return the value of a macro choice in a genotype, or its candidates in a space."""
    if isinstance(choices, Genotype):
        return (choices.choice(name),)
    return dict(choices.macro).get(name, MACRO[name][:1])


def chosen(
    choices: Genotype | Space,
    name: str,
    make: Callable[[Value], nn.Module],
    beside: int | None = None,
) -> nn.Module:
    """Make the module of a macro choice; if a space searches the choice, a `Mixed` one.

    Args:
        choices: a genotype or a space.
        name: the choice.
        make: makes the module of a value.
        beside: as for `Mixed`.
    """
    if isinstance(choices, Genotype) or name not in dict(choices.macro):
        return make(*candidates(choices, name))
    return Mixed(name, candidates(choices, name), make, beside)


class Weighted(nn.Module):
    """A module with weights from α. The supernet sets ``weights`` before the module runs.

    Attributes:
        choice: name of the macro choice.
        candidates: values of the macro choice.
        weights: (candidates,) inside `weighing`; None outside.
    """

    weights: Tensor | None = None

    def __init__(self, choice: str, candidates: Sequence[Value]) -> None:
        super().__init__()
        self.choice, self.candidates = choice, tuple(candidates)

    @property
    def shares(self) -> Tensor:
        assert self.weights is not None, "a supernet's module outside its supernet"
        return self.weights


class Mixed(Weighted):
    """Σ_k weight_k · module_k(x), or these terms side by side in a dimension.

    A linear layer behind terms side by side computes the weighted sum of a linear layer behind each
    candidate, which may differ in their shapes. Neither form has a larger gain than its candidates.
    """

    def __init__(
        self,
        choice: str,
        candidates: Sequence[Value],
        make: Callable[[Value], nn.Module],
        beside: int | None = None,
    ) -> None:
        super().__init__(choice, candidates)
        self.terms = nn.ModuleList(map(make, candidates))
        self.beside = beside

    def forward(self, x: Tensor) -> Tensor:
        terms = [w.to(x.dtype) * term(x) for w, term in zip(self.shares, self.terms, strict=True)]
        return torch.stack(terms).sum(0) if self.beside is None else torch.cat(terms, self.beside)


class MixedNorm(Weighted, BatchNorm):
    """Σ_k weight_k · norm_k(x) over batch norm, layer norm and no norm, without a learnable scale.

    Each norm is a scale and a shift for every image and channel. Therefore x (B, C, H, W) is read
    only twice: once for all statistics and once for the sum. The running statistics belong to the
    batch norm.

    Attributes:
        synchronised: whether the batch statistics are over the images of all processes. Default:
            False.
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
        """Return and track the batch statistics; in eval mode, return the running statistics."""
        if not self.training and self.running_mean is not None:
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
    """Return mean and variance of the union of equally large groups, from the groups' own."""
    m = mean.mean(dim, keepdim=True)
    return m, (variance + (mean - m).square()).mean(dim, keepdim=True)


class MixedWidth(Weighted):
    """A scale per channel of x (B, C, H, W): the sum of the weights of the widths that include it.

    The width w includes the first w · C channels (FBNetV2, arXiv:2004.05565, section 3.1).
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
    """Make the width choice of a cell's states; an identity if the space has no such choice."""
    candidates = dict(space.macro).get("width")
    return nn.Identity() if candidates is None else MixedWidth(candidates, channels)


def mix_layers(module: nn.Module, space: Space) -> None:
    """Apply the choices ``normalisation`` and ``initialisation`` to the layers of a module.

    Every batch norm is replaced by a `MixedNorm`, if the space has this choice.

    If ``none`` is a candidate, the convolutions are initialised as in a network without norms.
    Otherwise the signal of this candidate would be too weak to compete.
    """
    candidates = dict(space.macro).get("normalisation")
    if candidates is not None:
        _replace_norms(module, lambda norm: MixedNorm(candidates, norm.num_features))
        if "none" in candidates:
            _keep_variances(module)
    if space.fixed("initialisation") == "orthogonal":
        start_orthogonal(module)


@contextmanager
def weighing(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Set the weights, (1, candidates), of every `Weighted` in a module inside the context."""
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
