"""Macro choices: choices for the whole network instead of one edge of a cell.

A choice that a genotype does not state has its DARTS value: batch norm, no input filter, no pooling
after the stem, the full width. To add a choice, add an entry to `MACRO` and implement it in
`nets/macro_layers.py`, in `nets/input_filter.py` if it is before the stem, or in a new file in that
folder.
"""

import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from darts_noise.errors import SettingError, unknown
from darts_noise.shown import shortened, shown

Value = str | float

MACRO: Mapping[str, tuple[Value, ...]] = MappingProxyType(
    {
        "normalisation": ("batch", "layer", "none"),
        "input_filter": ("none", "blur_3x3", "blur_5x5"),
        "pooling": ("none", "average_2", "average_4"),
        "width": (1.0, 0.75, 0.5, 0.25),
        "reduction": ("strided", "average"),
        "reductions": ("both", "first", "second", "none"),
        "gain": ("free", "bounded"),
        "logit_scale": (1.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0),
        "logit_scaling": ("fixed", "learnt"),
        "colour": ("all", "luma", "chroma", "tinted"),
        "contrast": ("none", "centred", "standardised", "smooth"),
        "filters": ("none", "haar", "gabor", "whitened"),
        "positions": (1.0, 2.0, 4.0),
        "features": ("all", 16.0, 32.0, 64.0),
        "initialisation": ("usual", "orthogonal"),
    }
)
"""Each choice with its values. The DARTS value is the first.

``normalisation``: the norm in the stem, the cells' preprocessing and the operations. ``layer``
normalises over the channels and pixels of one image; ``none`` is a learnable bias per channel.
``input_filter``: a fixed low-pass filter of the image, before the stem. ``pooling``: a ReLU and an
average over squares of 2 × 2 or 4 × 4 pixels, right after the stem. ``width``: a factor of the
channels. ``reduction``: how the operations and the preprocessing of a cell halve a map: by their
stride, or by an average over squares of 2 × 2 pixels before them. ``reductions``: which of the two
reduction cells there are; with ``none``, all cells are normal. ``gain``: with ``bounded``, no layer
amplifies differences: there is no norm, MaxMin replaces ReLU and an average replaces the sum of
operations; see `darts_noise.nets.gain`. ``logit_scale``: a factor of the logits. With a bounded
gain, it is the contrast that the network may use. ``logit_scaling``: whether this factor stays, or
is where a learnt factor starts. A learnt factor bounds nothing. ``colour``: the part of each pixel
that the network sees: ``luma``, the mean of the three channels; ``chroma``, the difference to it;
or ``tinted``, both, but luma only as far as the pixel has chroma. ``contrast``: with ``centred``,
each channel of an image loses its mean; with ``standardised``, the image is also divided by its
standard deviation; with ``smooth``, it is also shown only as far as neighbouring pixels are alike.
``filters``: fixed filters in front of the stem. ``positions``: the side of the grid of parts over
which the last map is averaged. ``features``: a linear map reduces the channels of the last map to
this number before the classifier. ``initialisation``: with ``orthogonal``, the convolutions start
with a gain of 1, as they always do with a bounded gain.
"""

FIXED = ("reduction", "reductions", "gain", "logit_scaling", "initialisation")
"""The choices that a supernet cannot mix, because all its operations share them."""


def as_text(value: Value) -> str:
    """Return a value as a reader writes it.

    >>> as_text(4096.0), as_text(0.5), as_text("blur_3x3")
    ('4096', '0.5', 'blur_3x3')
    """
    return f"{value:g}" if isinstance(value, float) else str(value)


def check_macro(name: object, value: object) -> tuple[str, Value]:
    """Return the choice and its value as they are written in `MACRO`.

    Raises:
        ValueError: the choice or the value does not exist. The message lists the valid ones.
    """
    if not isinstance(name, str):
        raise SettingError("macro", f"expected the name of a choice, got {shown(name)}")
    if name not in MACRO:
        raise unknown("macro choice", shortened(name), MACRO)
    for allowed in MACRO[name]:
        if type(value) in (str, float, int) and value == allowed:
            return name, allowed
    raise ValueError(f"macro[{name!r}]: {no_value(name, value, 'one')}")


def require_candidates(name: object, values: Sequence[Value]) -> None:
    """Raise a `SettingError` for a choice that does not exist, or that has no such candidate."""
    if not isinstance(name, str) or name not in MACRO:
        raise SettingError("macro", unknown("macro choice", shortened(str(name)), MACRO))
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise SettingError(f"macro.{name}", f"expected a list of values, got {shown(values)}")
    wrong = [value for value in values if value not in MACRO[name]]
    if wrong or not values:
        raise SettingError(f"macro.{name}", no_value(name, wrong[0] if wrong else values))


def no_value(name: str, value: object, wanted: str = "some") -> str:
    """Return the description of a value that a choice does not have, with the nearest valid one.

    >>> no_value("gain", "bound")
    "expected some of 'free', 'bounded', got 'bound': did you mean 'bounded'?"
    """
    nearest = difflib.get_close_matches(str(value), map(str, MACRO[name]), n=1)
    valid = next((v for v in MACRO[name] if [str(v)] == nearest), None)
    hint = f": did you mean {valid!r}?" if nearest and isinstance(value, str) else ""
    return f"expected {wanted} of {', '.join(map(repr, MACRO[name]))}, got {shown(value)}{hint}"
