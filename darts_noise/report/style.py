"""The style of every figure of a report, and the function that saves figures.

All drawings take colours, fonts and lines from the tables here. The colours are from Okabe and Ito
(Color Universal Design, 2008); colour-blind readers can distinguish them. For grey prints, each
kind of operation also has its own line style and, in areas, each operation of a kind its own hatch.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch
from matplotlib.textpath import TextPath

from darts_noise.atomic import replacing
from darts_noise.space.operations import Kind, kind_of, list_operations

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
# Set while a figure is built and saved, so that the figure and the caller's matplotlib settings do
# not affect each other. `Any`: matplotlib 3.11 types the keys as a long list of literals, earlier
# ones as `str`.
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
    dashes: tuple[float, ...]  # on, off, on, off ...; empty: a solid line


OPERATION_KINDS: dict[Kind, OperationKind] = {
    "convolution": OperationKind("convolution", OKABE_ITO["blue"], ()),
    "dilated": OperationKind("dilated convolution", OKABE_ITO["vermillion"], (5.0, 1.6)),
    "pooling": OperationKind("pooling / low-pass", OKABE_ITO["green"], (5.0, 1.6, 1.0, 1.6)),
    "skip": OperationKind("skip", OKABE_ITO["purple"], (1.2, 1.4)),
    "noise": OperationKind("noise", OKABE_ITO["orange"], (1.2, 1.4, 5.0, 1.4)),
    "none": OperationKind("none", "#444444", (2.6, 1.4)),
}
"""The kinds of operations in the registry, in the order of legends and stacks."""
CONCATENATION = OperationKind("concat", "#B4B4B4", ())
OTHER = OperationKind("other", "#A0A0A0", ())  # such as an operation from a plugin
HATCHES = (  # dots need space in an SVG
    *("", "////", "..", "xxxx", "----", "oo", "\\\\\\\\", "++++"),
    *("||||", "**", "OO", "//||//||"),
)
LEGEND_ROWS = 13


def operation_kind(operation: str) -> OperationKind:
    """Return the style of an operation's kind. Raise ``ValueError`` for an unknown name.

    >>> operation_kind("sep_conv_3x3").name, operation_kind("dil_conv_5x5").name
    ('convolution', 'dilated convolution')
    """
    return OPERATION_KINDS[kind_of(operation)]


def looks(operations: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return operation → its colour and hatch, ordered by kind and then by name.

    The order of the arguments has no effect, so drawings of the same operations look the same.
    """
    known = list_operations()
    names = {n: operation_kind(n) if n in known else OTHER for n in sorted(set(operations))}
    found: dict[str, tuple[str, str]] = {}
    for kind in (*OPERATION_KINDS.values(), OTHER):
        of_kind = [name for name, own in names.items() if own is kind]
        found |= {n: (kind.colour, HATCHES[i % len(HATCHES)]) for i, n in enumerate(of_kind)}
    return found


def explain_operations(axes: Axes, look: Mapping[str, tuple[str, str]]) -> None:
    """Draw the legend of `looks` into an empty panel, from top to bottom as in the stack."""
    axes.set_axis_off()
    patches = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", linewidth=0.4, label=name)
        for name, (colour, hatch) in look.items()
    ]
    axes.legend(
        handles=patches[::-1],
        loc="center left",
        ncols=-(-len(patches) // LEGEND_ROWS),
        handlelength=2.4,
        handleheight=1.2,
        fontsize=6.5,
        columnspacing=1.0,
    )


def write_title(figure: Figure, title: str | None) -> None:
    """Write a title at the top of a figure with a layout in inches."""
    if title:
        top = 1 - 0.06 / figure.get_figheight()
        figure.text(0.5, top, title, ha="center", va="top", size=9.0, weight="bold")


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes at a place in inches."""
    wide, tall = figure.get_size_inches()
    return figure.add_axes((left / wide, bottom / tall, width / wide, height / tall))


@cache
def text_width(text: str, size: float) -> float:
    """Return the width in inches of a line of text (mathtext allowed) at `size` points."""
    with matplotlib.rc_context(RC):
        path = TextPath((0.0, 0.0), text, prop=FontProperties(size=size))
    return float(path.get_extents().width) / 72.0 if len(path.vertices) else 0.0


def lay_out(figure: Figure) -> None:
    """Place the axes of a figure that has a layout engine, once for all.

    Otherwise matplotlib does this for each file, and draws the figure twice for it.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def save_figure(figure: Figure, stem: str | Path, svg: bool = True) -> list[Path]:
    """Write `<stem>.png` (200 dpi) and, if `svg`, `<stem>.svg`; return the paths.

    The same figure gives the same bytes. Text stays text in the SVG. Each file is written in one
    step. Missing folders are created.
    """
    stem = Path(stem)
    written = []
    with matplotlib.rc_context(RC):
        lay_out(figure)
    for suffix in ("png", "svg") if svg else ("png",):
        target = stem.with_name(
            f"{stem.name}.{suffix}"
        )  # with_suffix would cut off ".5" in "run-0.5"
        metadata = {"Date": None} if suffix == "svg" else None
        with replacing(target) as file, matplotlib.rc_context(RC):
            figure.savefig(file, format=suffix, dpi=PNG_DPI, metadata=metadata)
        written.append(target)
    return written
