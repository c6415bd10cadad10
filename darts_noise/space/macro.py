"""Macro choices: what holds for a whole network and not for one edge of a cell.

A genotype that is silent on one has DARTS's own: batch norm, the image as it is, no pooling behind
the stem, the width that the network is built with. A new choice is one entry in `MACRO`, and what
it does in `nets/macro.py` or a file of its own beside it.
"""

from collections.abc import Mapping
from types import MappingProxyType

from darts_noise.errors import SettingError, unknown
from darts_noise.space.shown import shortened, shown

Value = str | float

MACRO: Mapping[str, tuple[Value, ...]] = MappingProxyType(
    {
        "normalisation": ("batch", "layer", "none"),
        "input_filter": ("none", "blur_3x3", "blur_5x5"),
        "pooling": ("none", "average_2", "average_4"),
        "width": (1.0, 0.75, 0.5, 0.25),
    }
)
"""Each choice with its values, DARTS's own first.

``normalisation``: of the stem, the cells' preprocessing and the operations; ``layer`` is over the
channels and pixels of one image, ``none`` leaves a shift per channel. ``input_filter``: a
fixed low-pass filter of the image, before the stem. ``pooling``: a ReLU and an
average over squares of 2 or 4 pixels right behind the stem. ``width``: a factor of the channels.
"""


def check_macro(name: object, value: object) -> tuple[str, Value]:
    """The choice and its value in the form of `MACRO`.

    Raises:
        ValueError: no such choice or value; the message lists those that there are.
    """
    if not isinstance(name, str):
        raise SettingError("macro", f"expected the name of a choice, got {shown(name)}")
    if name not in MACRO:
        raise unknown("macro choice", shortened(name), MACRO)
    for allowed in MACRO[name]:
        if type(value) in (str, float, int) and value == allowed:
            return name, allowed
    raise ValueError(
        f"macro[{name!r}]: expected one of {', '.join(map(repr, MACRO[name]))}, got {shown(value)}"
    )
