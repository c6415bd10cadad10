"""The macro choice ``gain``: networks in which no layer amplifies a difference between two inputs.

A network fits noise by amplifying small differences between images. In a network with bounded gain,
every layer has a Lipschitz constant of at most 1 in the Euclidean norm, whatever its weights are.
Therefore the optimiser, its learning rate and the scale of the initial weights cannot give the
network more contrast. Only the macro choice ``logit_scale``, a factor of the logits, can. It is
fixed, unless ``logit_scaling`` is ``learnt``.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from darts_noise.nets.macro_layers import Shift, choose_normalisation, start_orthogonal
from darts_noise.space.genotype import Genotype

SELU_SLOPE = 1.0507009873554805 * 1.6732632423543772
"""The largest slope of SELU, λα (Klambauer et al. 2017, arXiv:1706.02515)."""


def almost_orthogonal(weight: Tensor, groups: int = 1, least: float = 1e-24) -> Tensor:
    """Rescale a convolution so that its Lipschitz constant is at most 1.

    Input channel i is divided by √(Σ_j |KᵀK|_ij), where KᵀK is the kernel's correlation with itself
    and the sum includes all shifts (AOL: Prach & Lampert 2022, arXiv:2208.03160, theorem 3). The
    bound holds for zero padding and for every stride and dilation. The result does not depend on
    the scale of the weights of a group of channels.

    Args:
        weight: kernel (C_out, C_in / groups, height, width), or the matrix (out, in) of a linear
            layer.
        groups: groups of the convolution. Default: 1.
        least: smallest sum by which a channel is divided. 1: channels are only made smaller.
            Default: 1e-24; a channel of zeros stays zero.
    """
    # In bfloat16, rounding would break the bound by up to 1%. The device meta has no autocast.
    with torch.autocast("cpu" if weight.is_meta else weight.device.type, enabled=False):
        kernel = weight if weight.ndim == 4 else weight[:, :, None, None]
        out, inputs, height, width = kernel.shape
        grouped = kernel.reshape(groups, out // groups, inputs, height, width)
        if height * width == 1:
            matrices = grouped[..., 0, 0]
            sums = (matrices.mT @ matrices).abs().sum(-1)  # half the time of a convolution
        else:
            images = grouped.permute(2, 0, 1, 3, 4).reshape(inputs, out, height, width)
            filters = grouped.transpose(1, 2).reshape(-1, out // groups, height, width)
            gram = F.conv2d(images, filters, padding=(height - 1, width - 1), groups=groups)
            sums = gram.abs().reshape(inputs, groups, inputs, -1).sum((2, 3)).T
        scale = sums.clamp_min(least).rsqrt()
        return (grouped * scale[:, None, :, None, None]).reshape(weight.shape)


class AlmostOrthogonal(nn.Module):
    """The parametrisation of a weight by `almost_orthogonal`."""

    def __init__(self, groups: int = 1, least: float = 1e-24) -> None:
        super().__init__()
        self.groups, self.least = groups, least

    def forward(self, weight: Tensor) -> Tensor:
        return almost_orthogonal(weight, self.groups, self.least)


class MaxMin(nn.Module):
    """Sorts pairs of channels: (B, C, H, W) → the same shape. It replaces ReLU.

    Channel i of the first half and of the second half become their maximum and their minimum. The
    norm of the gradient stays the same (Anil et al. 2019, arXiv:1811.05381). If C is odd, the last
    channel stays as it is.
    """

    def forward(self, x: Tensor) -> Tensor:
        return sorted_pairs(x)


def sorted_pairs(x: Tensor) -> Tensor:
    """Return the channels with sorted pairs; see `MaxMin`."""
    half, odd = divmod(x.shape[1], 2)
    # Split, because the gradient of slices is slow; and no empty part, because with it the
    # gradient would not be channels_last.
    first, second, *rest = torch.split(x, [half, half, odd][: 2 + odd], 1)
    rise = F.relu(second - first)  # a third of the time of maximum and minimum
    return torch.cat([first + rise, second - rise, *rest], dim=1)


torch.fx.wrap("sorted_pairs")  # a symbolic trace has no sizes for the split


class ScaledLinear(nn.Linear):
    """A linear layer with a factor before the bias: x (B, in) → scale · W x + b (B, out).

    The bias is not scaled, so that the learning rate of the logits' offsets does not depend on it.

    Args:
        in_features, out_features: as for `torch.nn.Linear`.
        scale: the factor.
        learnt: whether the logarithm of the factor is learnt, from its value at the start.
    """

    def __init__(
        self, in_features: int, out_features: int, scale: float = 1.0, learnt: bool = False
    ) -> None:
        super().__init__(in_features, out_features)
        self.start = scale
        self.log_factor = nn.Parameter(torch.zeros(())) if learnt else None

    @property
    def scale(self) -> float:
        """The factor as it is now."""
        if self.log_factor is None:
            return self.start
        return self.start * float(self.log_factor.detach().exp())

    def forward(self, x: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        """Return the logits, with a further factor, for example from α."""
        scale = self.start * scale
        if self.log_factor is not None:
            scale = scale * self.log_factor.exp()
        if isinstance(scale, float) and scale == 1:
            return super().forward(x)
        return F.linear(x, self.weight) * scale + self.bias


class Scaled(nn.Module):
    """A module whose output is multiplied by a fixed number."""

    def __init__(self, module: nn.Module, factor: float) -> None:
        super().__init__()
        self.module, self.factor = module, factor

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.module(x)
        return out * self.factor

    def extra_repr(self) -> str:
        return f"factor={self.factor:g}"


def choose_layers(module: nn.Module, genotype: Genotype) -> None:
    """Apply the choices ``gain``, ``normalisation`` and ``initialisation`` to a module's layers.

    A bounded gain leaves no norm to choose, and its layers always start orthogonal.
    """
    if genotype.choice("gain") == "bounded":
        bound_gain(module)
    else:
        choose_normalisation(module, genotype.choice("normalisation"))
        if genotype.choice("initialisation") == "orthogonal":
            start_orthogonal(module)


def bound_gain(module: nn.Module) -> None:
    """Give every layer inside a module a Lipschitz constant of at most 1.

    Convolutions and linear layers get a parametrised weight, ReLU becomes `MaxMin`, and a norm
    becomes a learnable bias. Max pools and SELU are divided by their Lipschitz constant, other
    pools count zeros at the border. A module with an attribute ``bounded`` gets True there, and
    must then bound the sum or the concatenation of its layers' outputs; `Cell` does.

    The initial weights of convolutions are those of `start_orthogonal`.

    Raises:
        ValueError: a layer for which no bound is known, for example in an operation of a plugin.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU):
            setattr(module, name, MaxMin())
        elif isinstance(child, (nn.BatchNorm2d, nn.GroupNorm)):
            setattr(module, name, Shift(_channels(child)))
        elif isinstance(child, nn.MaxPool2d):
            setattr(module, name, Scaled(child, 1 / _windows(child)))
        elif isinstance(child, nn.SELU):
            setattr(module, name, Scaled(child, 1 / SELU_SLOPE))
        else:
            bound_gain(child)
    if hasattr(module, "bounded"):
        module.bounded = True  # type: ignore[assignment]
    if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros":
        start_orthogonal(module)
        _parametrise(module, AlmostOrthogonal(module.groups))
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.weight)  # the first logits are 0, whatever the logit scale is
        _parametrise(module, AlmostOrthogonal(least=1.0))
    elif isinstance(module, nn.AvgPool2d):
        module.count_include_pad |= module.kernel_size != module.stride
    elif hasattr(module, "border"):
        module.border = "constant"  # type: ignore[assignment]  # zeros, with which no pixel counts more than once
    elif _is_unknown(module):
        raise ValueError(f"gain 'bounded': no bound is known for {type(module).__name__}")


BOUNDED = (
    Shift,
    nn.AdaptiveAvgPool2d,
    nn.AlphaDropout,
    nn.Dropout,
    nn.Dropout2d,
    nn.Flatten,
    nn.Hardtanh,
    nn.Identity,
    nn.MaxPool2d,
    nn.ModuleDict,
    nn.ModuleList,
    nn.ReLU6,
    nn.SELU,
    nn.Sequential,
    nn.Sigmoid,
    nn.Softplus,
    nn.Tanh,
    nn.ZeroPad2d,
)
"""Containers of layers, and further layers with a Lipschitz constant of at most 1 in eval mode."""


def _is_unknown(module: nn.Module) -> bool:
    """Return whether a module is a layer of PyTorch, or has weights of its own, without a bound."""
    if isinstance(module, BOUNDED):
        return False
    if isinstance(module, nn.LeakyReLU):
        return abs(module.negative_slope) > 1
    is_layer = type(module).__module__.startswith("torch.nn")
    return is_layer or next(module.parameters(recurse=False), None) is not None


def weight_of(layer: nn.Module) -> Tensor:
    """Return the trained tensor of a layer's weight, which differs from a bounded weight."""
    if parametrize.is_parametrized(layer, "weight"):
        layer = layer.parametrizations["weight"]  # type: ignore[index, assignment]
        return layer.original  # type: ignore[return-value]
    return layer.weight  # type: ignore[return-value]


def used_weights(net: nn.Module, weights: Sequence[Tensor]) -> list[Tensor]:
    """Return weights as the layers of a network use them: bounded ones after the rescaling.

    Args:
        net: the network.
        weights: values for its parameters, in their order.
    """
    found = []
    for (name, _), weight in zip(net.named_parameters(), weights, strict=True):
        owner = net.get_submodule(name.rpartition(".")[0])
        if isinstance(owner, parametrize.ParametrizationList):
            weight = functional_call(owner, {"original": weight})
        found.append(weight)
    return found


def _parametrise(layer: nn.Module, by: AlmostOrthogonal) -> None:
    # unsafe: the result has the shape and dtype of the weight, so there is nothing to check.
    parametrize.register_parametrization(layer, "weight", by, unsafe=True)


def _channels(norm: nn.BatchNorm2d | nn.GroupNorm) -> int:
    return norm.num_features if isinstance(norm, nn.BatchNorm2d) else norm.num_channels


def _windows(pool: nn.MaxPool2d) -> int:
    """Return the number of windows, along one side, that can include the same pixel."""
    assert isinstance(pool.kernel_size, int)
    assert isinstance(pool.stride, int)
    return math.ceil(pool.kernel_size / pool.stride)
