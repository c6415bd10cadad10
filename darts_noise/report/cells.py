"""Drawings of a genotype: the normal and the reduction cell, as in papers on architecture search.

Left to right: the two inputs c_{k-2} and c_{k-1}, the intermediate nodes 0, 1, ..., the output c_k.
An arrow is an operation and carries its name; pale lines are the concatenation. `cell_layout.py`
decides all positions, and this file draws. Colours and lines are in `style.py`.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve

from darts_noise.report.cell_layout import (
    LABEL_HEIGHT,
    LABEL_TEXT,
    MARGIN,
    NODE_TEXT,
    Cell,
    CellLayout,
    Point,
    layout,
)
from darts_noise.report.style import (
    CONCATENATION,
    OPERATION_KINDS,
    RC,
    OperationKind,
    axes_at,
    operation_kind,
    save_figure,
    text_width,
    write_title,
)
from darts_noise.space.genotype import Genotype
from darts_noise.space.macro import as_text

ARROW = 0.07  # inches, as for the legend
LEGEND_LINE, LEGEND_GAP = 0.24, 0.1
MACRO_LINE = 0.18
NODE_COLOURS = {"input": "#BFE5D2", "node": "#C3DFF3", "output": "#F7E5A8"}


def draw_cells(
    genotype: Genotype,
    title: str | None = None,
    strength: Mapping[str, Sequence[Sequence[float]]] | None = None,
) -> Figure:
    """Draw the normal cell above the reduction cell.

    Args:
        genotype: the genotype. Its macro choices are written above the cells.
        title: a line above both.
        strength: for "normal" and "reduce" a weight in [0, 1] for each pair of each node, in the
            order of the genotype: the width of the lines. A kind may be missing.

    Raises:
        ValueError: `strength` names another kind, has another shape or leaves [0, 1].
    """
    unused = " (not used)" if genotype.choice("reductions") == "none" else ""
    kinds = {
        "normal": ("Normal cell", genotype.normal, genotype.normal_concat),
        "reduce": (f"Reduction cell{unused}", genotype.reduce, genotype.reduce_concat),
    }
    for kind, rows in (strength or {}).items():
        if kind not in kinds:
            raise ValueError(f"strength: expected the keys {sorted(kinds)}, got {kind!r}")
        _check_strength(kind, rows, kinds[kind][1])
    present = {
        operation_kind(name) for _, cell, _ in kinds.values() for node in cell for name, _ in node
    }
    legend = [kind for kind in OPERATION_KINDS.values() if kind in present] + [CONCATENATION]
    caption, key_row = 0.22, 0.16  # inches
    with matplotlib.rc_context(RC):
        plans = {kind: layout(cell, concat) for kind, (_, cell, concat) in kinds.items()}
        width = max(plan.width for plan in plans.values())
        for kind, (_, cell, concat) in kinds.items():
            if plans[kind].width < width:
                plans[kind] = layout(cell, concat, width)
        macro = _lines(
            [f"{name} {as_text(value)}" for name, value in genotype.macro.items()], width
        )
        columns = len(legend)
        while columns > 1 and _legend_width([k.name for k in legend], columns) > width:
            columns -= 1
        top = sum(p.height + caption for p in plans.values()) + 0.1
        top += key_row * -(-len(legend) // columns)
        height = top + (0.26 if title else 0.04) + MACRO_LINE * len(macro)
        figure = Figure(figsize=(width, height))
        write_title(figure, title)
        for i, line in enumerate(reversed(macro), start=1):
            at = (top + i * MACRO_LINE - 0.02) / height
            figure.text(0.5, at, line, ha="center", va="top", size=LABEL_TEXT)
        for kind, plan in plans.items():
            at = (top - 0.03) / height
            figure.text(MARGIN / width, at, kinds[kind][0], va="top", weight="bold")
            top -= caption + plan.height
            axes = axes_at(figure, 0.0, top, width, plan.height)
            axes.set(xlim=(0.0, width), ylim=(plan.height, 0.0))
            axes.set_axis_off()
            _paint(axes, plan, kind, (strength or {}).get(kind))
        _explain(figure, legend, columns)
    return figure


def save_cells(genotype: Genotype, path_stem: str | Path, title: str | None = None) -> list[Path]:
    """Write the drawing of a genotype as `<path_stem>.png` and `<path_stem>.svg`, and return
    both."""
    return save_figure(draw_cells(genotype, title), path_stem)


def _check_strength(kind: str, rows: Sequence[Sequence[float]], cell: Cell) -> None:
    expected, got = [len(pairs) for pairs in cell], [len(row) for row in rows]
    if expected != got:
        raise ValueError(f"strength[{kind!r}]: expected rows of length {expected}, got {got}")
    if not all(0.0 <= weight <= 1.0 for row in rows for weight in row):
        raise ValueError(f"strength[{kind!r}]: expected weights in [0, 1]")


def _explain(figure: Figure, legend: Sequence[OperationKind], columns: int) -> None:
    """Draw the legend of the lines, below both cells."""
    handles = [
        Line2D([], [], color=k.colour, linestyle=_dash(k.dashes), linewidth=1.2, label=k.name)
        for k in legend
    ]
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=columns,
        handlelength=LEGEND_LINE * 72 / LABEL_TEXT,
        columnspacing=LEGEND_GAP * 72 / LABEL_TEXT,
        handletextpad=0.6,
        borderpad=0.0,
        borderaxespad=0.3,
        labelspacing=0.3,
    )


def _lines(choices: Sequence[str], width: float) -> list[str]:
    """Join the choices with commas, in as few lines as fit the width in inches."""
    lines: list[str] = []
    for choice in choices:
        longer = f"{lines[-1]}, {choice}" if lines else choice
        if lines and text_width(longer, LABEL_TEXT) <= width - 2 * MARGIN:
            lines[-1] = longer
        else:
            lines.append(choice)
    return lines


def _legend_width(names: Sequence[str], columns: int) -> float:
    """Return the width of a legend in inches. matplotlib fills its columns from the left."""
    widths = np.array_split([text_width(name, LABEL_TEXT) for name in names], columns)
    besides = LEGEND_LINE + 0.6 * LABEL_TEXT / 72 + LEGEND_GAP
    return float(sum(column.max() + besides for column in widths)) - LEGEND_GAP + 0.15


def _dash(dashes: tuple[float, ...]) -> Literal["solid"] | tuple[float, tuple[float, ...]]:
    return (0.0, dashes) if dashes else "solid"


def _paint(
    axes: Axes, plan: CellLayout, kind: str, strength: Sequence[Sequence[float]] | None
) -> None:
    """Draw one cell. The ids `<kind>-node-3` and `<kind>-label-3-0` identify its parts in the
    SVG."""
    for edge in plan.edges:
        operation = edge.operation
        look = CONCATENATION if operation is None else operation_kind(operation)
        line, depth = (0.9, 1.0) if operation is None else (1.1, 2.0)
        if strength is not None and edge.pair is not None:
            line = 0.5 + 2.3 * strength[edge.target - 2][edge.pair]
        x, y = edge.points[-1]
        head = ARROW * max(1.0, line / 2)
        axes.add_patch(
            PathPatch(
                _smooth([*edge.points[:-1], (x - 0.7 * head, y)]),
                facecolor="none",
                edgecolor=look.colour,
                linewidth=line,
                linestyle=_dash(look.dashes),
                capstyle="butt",
                zorder=depth,
            )
        )
        corners = [(x, y), (x - head, y - 0.4 * head), (x - head, y + 0.4 * head)]
        axes.add_patch(
            Polygon(corners, facecolor=look.colour, edgecolor="none", zorder=depth + 0.5)
        )
        if edge.label is not None and operation is not None:
            width = text_width(operation, LABEL_TEXT) + 0.07
            box = _box(axes, edge.label, width, LABEL_HEIGHT, "white", look.colour, 0.6)
            box.set_gid(f"{kind}-label-{edge.target - 2}-{edge.pair}")
            _write(axes, edge.label, operation, LABEL_TEXT)
    for node in plan.nodes:
        at = (node.x, node.y)
        box = _box(axes, at, node.width, node.height, NODE_COLOURS[node.kind], "#333333", 0.7)
        box.set_gid(f"{kind}-node-{node.index}")
        _write(axes, at, node.text, NODE_TEXT)


def _box(
    axes: Axes, at: Point, width: float, height: float, face: str, edge: str, line: float
) -> FancyBboxPatch:
    box = FancyBboxPatch(
        (at[0] - width / 2, at[1] - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.05",
        facecolor=face,
        edgecolor=edge,
        linewidth=line,
        zorder=4.0,
    )
    axes.add_patch(box)
    return box


def _write(axes: Axes, at: Point, text: str, size: float) -> None:
    axes.text(*at, text, size=size, ha="center", va="center_baseline", zorder=5.0)


def _smooth(points: Sequence[Point]) -> Curve:
    """Return a curve through the points: horizontal at both ends, within their range in y."""
    slopes = [0.0]
    for (xa, ya), (xb, yb), (xc, yc) in zip(points, points[1:], points[2:], strict=False):
        before, after = (yb - ya) / (xb - xa), (yc - yb) / (xc - xb)
        level = before * after <= 0  # a turning point, or a horizontal piece beside a label
        slopes.append(0.0 if level else 2 * before * after / (before + after))
    slopes.append(0.0)
    vertices, codes = [points[0]], [int(Curve.MOVETO)]
    for i, ((xa, ya), (xb, yb)) in enumerate(pairwise(points)):
        third = (xb - xa) / 3
        vertices += [(xa + third, ya + third * slopes[i]), (xb - third, yb - third * slopes[i + 1])]
        vertices.append((xb, yb))
        codes += [int(Curve.CURVE4)] * 3
    return Curve(vertices, codes)
