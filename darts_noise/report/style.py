"""How every figure of a report looks, and how it is written to disc.

To change the colours, the fonts or the line of a kind of operation, change the tables here; the
drawings take them from this file only. Colours are those of Okabe and Ito (Color Universal Design,
2008), which stay apart for colour-blind readers; each kind of operation also has its own line, for
print in grey.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from darts_noise.atomic import replacing
from darts_noise.space.operations import Kind, get_operation

OKABE_ITO = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "black": "#000000",
}
PNG_DPI = 200
# Set while a figure is built and while it is saved, so that a caller's own matplotlib settings
# neither change a figure nor are changed by one.
# `Any`: matplotlib 3.11 types the keys as a long list of literals, earlier ones as `str`.
RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "mathtext.fontset": "dejavusans",
    "text.usetex": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "darts_noise",
    "hatch.linewidth": 0.5,
}


class OperationKind(NamedTuple):
    """One entry of the legend of a cell drawing: its name, colour and dash pattern (points)."""

    name: str
    colour: str
    dashes: tuple[float, ...]  # on, off, on, off ...; empty is a solid line


OPERATION_KINDS: dict[Kind, OperationKind] = {
    "convolution": OperationKind("convolution", OKABE_ITO["blue"], ()),
    "dilated": OperationKind("dilated convolution", OKABE_ITO["vermillion"], (5.0, 1.6)),
    "pooling": OperationKind("pooling / low-pass", OKABE_ITO["green"], (5.0, 1.6, 1.0, 1.6)),
    "skip": OperationKind("skip", OKABE_ITO["purple"], (1.2, 1.4)),
    "none": OperationKind("none", "#444444", (2.6, 1.4)),
}
"""The registry's kinds of operations, in the order of legends and stacks."""
CONCATENATION = OperationKind("concat", "#B4B4B4", ())


def operation_kind(operation: str) -> OperationKind:
    """How the kind of an operation is drawn; ``ValueError`` for a name that is not registered.

    >>> operation_kind("sep_conv_3x3").name, operation_kind("dil_conv_5x5").name
    ('convolution', 'dilated convolution')
    """
    return OPERATION_KINDS[get_operation(operation).kind]


@cache
def text_width(text: str, size: float) -> float:
    """Width in inches of one line of text (mathtext allowed) at `size` points (no renderer)."""
    with matplotlib.rc_context(RC):
        path = TextPath((0.0, 0.0), text, prop=FontProperties(size=size))
    return float(path.get_extents().width) / 72.0 if len(path.vertices) else 0.0


def save_figure(figure: Figure, stem: str | Path, svg: bool = True) -> list[Path]:
    """Write `<stem>.png` (200 dpi) and, if `svg`, `<stem>.svg`; return the paths.

    The same figure gives the same bytes. Text stays text in the SVG. A file takes its name
    only when it is whole. Missing folders are made.
    """
    stem = Path(stem)
    written = []
    for suffix in ("png", "svg") if svg else ("png",):
        target = stem.with_name(f"{stem.name}.{suffix}")  # with_suffix would cut "run-0.5" short
        metadata = {"Date": None} if suffix == "svg" else None
        with replacing(target) as file, matplotlib.rc_context(RC):
            figure.savefig(file, format=suffix, dpi=PNG_DPI, metadata=metadata)
        written.append(target)
    return written
