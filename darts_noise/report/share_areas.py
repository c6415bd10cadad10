"""The shares of the operations over the epochs, as stacked areas in the colours of cell drawings.

Operations of one kind have one colour and differ in their hatches; kinds are stacked in the order
of `style.OPERATION_KINDS`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from darts_noise.report.style import OPERATION_KINDS, operation_kind
from darts_noise.space.operations import list_operations

HATCHES = ("", "////", "..", "xxxx", "----", "oo", "\\\\\\\\", "++++")  # dots cost space in an SVG
LEGEND_ROWS = 13
OTHER_COLOUR = "#A0A0A0"  # of a name that is not registered, such as one from another's file


def looks(operations: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Operation → its colour and hatch, in the order of the stack.

    That of the names does not matter: a drawing of the same operations has the same looks.
    """
    known = list_operations()
    operations = sorted(operations, key=lambda name: (name not in known, name))
    order = [kind.name for kind in OPERATION_KINDS.values()] + [""]
    kind = {name: operation_kind(name).name if name in known else "" for name in operations}
    colour = {k.name: k.colour for k in OPERATION_KINDS.values()}
    found: dict[str, tuple[str, str]] = {}
    for wanted in order:
        names = [name for name in kind if kind[name] == wanted]
        for i, name in enumerate(names):
            found[name] = (colour.get(wanted, OTHER_COLOUR), HATCHES[i % len(HATCHES)])
    return found


def draw_areas(axes: Axes, shares: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Stack the shares, operation → (epoch, share); an epoch that lacks one counts it as 0."""
    tables = {name: dict(shares[name]) for name in looks(shares)}
    epochs = sorted({epoch for table in tables.values() for epoch in table})
    heights = [
        [value if math.isfinite(value := table.get(epoch, 0.0)) else 0.0 for epoch in epochs]
        for table in tables.values()
    ]
    if len(epochs) == 1:  # an area of no width would not be seen
        epochs, heights = [epochs[0] - 0.5, epochs[0] + 0.5], [row * 2 for row in heights]
    areas = axes.stackplot(epochs, heights, labels=list(tables), linewidth=0.4, edgecolor="white")
    for area, (colour, hatch) in zip(areas, looks(shares).values(), strict=True):
        area.set_facecolor(colour)
        area.set_hatch(hatch)
    axes.set_ylim(0.0, max(map(sum, zip(*heights, strict=True))) or 1.0)


def explain_areas(axes: Axes, look: Mapping[str, tuple[str, str]]) -> None:
    """Fill an empty panel with the legend of `looks`, from top to bottom as they are stacked."""
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
