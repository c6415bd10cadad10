"""Stems: modules that map an image to the two input states of the first cell.

``cifar`` and ``imagenet`` are from DARTS. ``small`` is for images of 8×8 to 28×28 pixels. To add a
stem, add an entry to `STEMS`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor, nn

from darts_noise.errors import SettingError, unknown


class Stem(nn.Module):
    """A module that maps images (B, in_channels, H, W) to two states.

    Attributes:
        channels: channels of the first and of the second state.
        stride: H divided by the height of the second state.
        reduces: whether the second state is half as high and wide as the first.
    """

    channels: tuple[int, int]
    stride: int
    reduces: bool = False

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise AssertionError("a stem says how it maps images to states")


class ConvStem(Stem):
    """A 3×3 convolution and a batch norm; both states are its output."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = (channels, channels)
        self.stride = stride
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layers(x)
        return x, x


class ImageNetStem(Stem):
    """Three 3×3 convolutions of stride 2; the states are at 1/4 and 1/8 of the image's side."""

    reduces = True

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.channels = (channels, channels)
        self.stride = 8
        self.first = nn.Sequential(
            nn.Conv2d(in_channels, channels // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(),
            nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.second = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first(x)
        return first, self.second(first)


def _cifar(in_channels: int, channels: int, stride: int) -> Stem:
    return ConvStem(in_channels, 3 * channels, stride)


def _small(in_channels: int, channels: int, stride: int) -> Stem:
    return ConvStem(in_channels, channels, stride)


def _imagenet(in_channels: int, channels: int, stride: int) -> Stem:
    return ImageNetStem(in_channels, channels)


STEMS: Mapping[str, Callable[[int, int, int], Stem]] = MappingProxyType(
    {"cifar": _cifar, "imagenet": _imagenet, "small": _small}
)
LEAST_CHANNELS = MappingProxyType({"imagenet": 2})
"""Stem → its fewest channels, if these are more than 1."""


def require_stem(name: str, channels: int, stride: int) -> None:
    """Raise a `SettingError` for a stem that does not exist, or that does not allow a setting."""
    if name not in STEMS:
        raise SettingError("stem", unknown("stem", name, STEMS))
    least = LEAST_CHANNELS.get(name, 1)
    if channels < least:
        of_stem = " with the imagenet stem" if name == "imagenet" else ""
        raise SettingError("channels", f"expected at least {least}{of_stem}, got {channels}")
    if stride not in (1, 2, 4):
        raise SettingError("stem_stride", f"expected 1, 2 or 4, got {stride}")
    if name == "imagenet" and stride != 1:
        raise SettingError(
            "stem_stride", f"the imagenet stem has a fixed stride; expected 1, got {stride}"
        )


def build_stem(name: str, in_channels: int, channels: int, stride: int = 1) -> Stem:
    """Build a stem by name.

    Args:
        name: ``cifar`` (its states have 3 × `channels`), or ``imagenet`` or ``small`` (`channels`).
        in_channels: channels of the images.
        channels: channels of a state of the first cell.
        stride: stride of the convolution in ``small`` and ``cifar``: 1 (default), 2 or 4.

    Raises:
        ValueError: the stem does not exist, or it does not allow a setting.
    """
    require_stem(name, channels, stride)
    if in_channels < 1:
        raise SettingError("in_channels", f"expected at least 1, got {in_channels}")
    return STEMS[name](in_channels, channels, stride)
