"""Drawings of a genotype: the normal and the reduction cell, as in papers on architecture search.

Left to right: the two inputs c_{k-2} and c_{k-1}, the intermediate nodes 0, 1, ..., the output c_k.
An arrow is an operation and carries its name; pale lines are the concatenation. `layout` decides
where everything stands (pure; inches), `draw_cells` only paints it. Sizes are the constants below;
colours and lines are in `style.py`.

The layout is a layered drawing [1]: a node's column is the longest path to it from the inputs.
Between two columns of nodes lies a column of labels. Each edge gets a place of its own in every
column that it passes (its label takes one of them), so no edge runs under a node or a label, and no
two labels meet.

[1] Sugiyama, Tagawa, Toda. Methods for Visual Understanding of Hierarchical System Structures.
    IEEE Transactions on Systems, Man, and Cybernetics 11(2), 1981.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve

from darts_noise.report.style import (
    CONCATENATION,
    OPERATION_KINDS,
    RC,
    operation_kind,
    save_figure,
    text_width,
)

if TYPE_CHECKING:
    from darts_noise.space.genotype import Genotype

Cell = Sequence[Sequence[tuple[str, int]]]  # node → its (operation, predecessor) pairs
Point = tuple[float, float]

COLUMN_WIDTH = 3.4  # inches: one column of a two-column paper; deeper cells grow wider
NODE_TEXT, LABEL_TEXT = 8.0, 7.0  # points
NODE_HEIGHT, LABEL_HEIGHT, PORT_STEP = 0.24, 0.165, 0.075
GAP_X, LEAST_GAP_X, GAP_Y, MARGIN = 0.12, 0.09, 0.055, 0.05
ARROW = 0.07
LEGEND_LINE, LEGEND_GAP = 0.24, 0.1
NODE_COLOURS = {"input": "#BFE5D2", "node": "#C3DFF3", "output": "#F7E5A8"}
ORDER_STARTS, ORDER_SWEEPS, PLACE_SWEEPS = 12, 8, 120
LARGE = 400  # places, nodes, labels and passages together; above, one start must do


@dataclass(frozen=True)
class PlacedNode:
    """A node of the cell. `index` counts as in a genotype; the output comes after the last node."""

    index: int
    text: str
    kind: Literal["input", "node", "output"]
    x: float  # centre
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class PlacedEdge:
    """An arrow; a concatenation has no `operation`, `pair` (place among the node's) or `label`."""

    source: int
    target: int
    operation: str | None
    pair: int | None
    points: tuple[
        Point, ...
    ]  # from the source's right side to the target's left side, x increasing
    label: Point | None  # centre of the label


@dataclass(frozen=True)
class CellLayout:
    nodes: tuple[PlacedNode, ...]
    edges: tuple[PlacedEdge, ...]
    width: float
    height: float


@dataclass
class _Place:
    """One place in a rank: a node, a label, or the passage of a long edge."""

    width: float
    height: float
    y: float = 0.0
    passage: bool = False


def layout(cell: Cell, concat: Sequence[int], width: float = COLUMN_WIDTH) -> CellLayout:
    """Place one cell's nodes, edges and labels.

    Args:
        cell: for each node its (operation, predecessor) pairs; predecessors 0 and 1 are the inputs.
        concat: the indices that are concatenated to the output.
        width: inches to fill; the result is wider where the cell needs it.

    Raises:
        ValueError: a predecessor or a member of `concat` that does not exist (yet).
    """
    output = len(cell) + 2
    column = [0, 0]
    edges: list[tuple[int, int, str | None, int | None]] = []
    for node, pairs in enumerate(cell, start=2):
        for number, (operation, source) in enumerate(pairs):
            if not 0 <= source < node:
                raise ValueError(f"node {node - 2}: expected predecessor < {node}, got {source}")
            edges.append((source, node, operation, number))
        column.append(1 + max((column[source] for _, source in pairs), default=0))
    for source in concat:
        if not 0 <= source < output:
            raise ValueError(f"concat: expected an index from 0 to {output - 1}, got {source}")
        edges.append((source, output, None, None))
    column.append(1 + max(column))

    texts = ["$c_{k-2}$", "$c_{k-1}$", *(str(i) for i in range(len(cell))), "$c_{k}$"]
    places: list[_Place] = []
    for i, text in enumerate(texts):
        ports = max(sum(e[0] == i for e in edges), sum(e[1] == i for e in edges))
        height = max(NODE_HEIGHT, PORT_STEP * (ports - 1) + 0.12)
        places.append(_Place(max(0.24, text_width(text, NODE_TEXT) + 0.1), height))

    # Even ranks hold nodes, odd ranks labels. A chain lists the places of one edge, rank by rank.
    ranks: list[list[int]] = [[] for _ in range(2 * column[output] + 1)]
    for i in range(output + 1):
        ranks[2 * column[i]].append(i)
    chains: list[list[int]] = []
    label_of: list[int | None] = []
    load = [0] * len(ranks)
    spans = [2 * (column[target] - column[source]) for source, target, _, _ in edges]
    chosen: dict[
        int, int
    ] = {}  # edge → the rank of its label; short edges have no choice, so first
    for e in sorted(range(len(edges)), key=lambda e: spans[e]):
        source, _, name, _ = edges[e]
        if name is not None:
            first = 2 * column[source] + 1
            chosen[e] = min(range(first, first + spans[e], 2), key=lambda rank: (load[rank], rank))
            load[chosen[e]] += 1
    for e, (source, target, name, _) in enumerate(edges):
        chain = [source]
        label_of.append(None)
        for rank in range(2 * column[source] + 1, 2 * column[target]):
            if name is not None and chosen[e] == rank:
                label_of[e] = len(places)
                places.append(_Place(text_width(name, LABEL_TEXT) + 0.07, LABEL_HEIGHT))
            else:
                places.append(_Place(0.0, 0.03, passage=True))
            chain.append(len(places) - 1)
            ranks[rank].append(len(places) - 1)
        chains.append([*chain, target])

    links = [  # between rank r and r + 1: (left, right, weight); an operation's crossing costs more
        [
            (
                chain[r - 2 * column[edge[0]]],
                chain[r - 2 * column[edge[0]] + 1],
                2 - (edge[2] is None),
            )
            for edge, chain in zip(edges, chains, strict=True)
            if 2 * column[edge[0]] <= r < 2 * column[edge[1]]
        ]
        for r in range(len(ranks) - 1)
    ]
    _arrange(ranks, links, places)

    rank_width = [max((places[p].width for p in rank), default=0.0) for rank in ranks]
    rank_width[-2] = 0.0  # nothing but concatenation enters the output: no labels there
    tight = sum(rank_width) + GAP_X * (len(ranks) - 1) + 2 * MARGIN
    # What is left of the width goes where edges are steepest.
    steep = [
        max((abs(places[a].y - places[b].y) for a, b, _ in pairs), default=0.0) for pairs in links
    ]
    spare = max(width, tight) - tight + (GAP_X - LEAST_GAP_X) * len(links)
    gaps = [LEAST_GAP_X + spare * (s + 0.05) / (sum(steep) + 0.05 * len(links)) for s in steep]
    left = [MARGIN + sum(rank_width[:r]) + sum(gaps[:r]) for r in range(len(ranks))]
    centre = [x + w / 2 for x, w in zip(left, rank_width, strict=True)]
    rank_of = {p: r for r, rank in enumerate(ranks) for p in rank}
    low = min(p.y - p.height / 2 for p in places) - MARGIN
    for place in places:
        place.y -= low

    port: dict[
        tuple[int, int], float
    ] = {}  # (edge, end) → y; ordered as the edges come, so uncrossed
    for end, step in ((0, 1), (-1, -2)):
        for i in range(output + 1):
            own = [e for e in range(len(edges)) if chains[e][end] == i]
            own.sort(key=lambda e: places[chains[e][step]].y)
            for k, e in enumerate(own):
                port[e, end] = places[i].y + PORT_STEP * (k - (len(own) - 1) / 2)

    placed_edges = []
    for e, (source, target, name, pair) in enumerate(edges):
        points = [(centre[2 * column[source]] + places[source].width / 2, port[e, 0])]
        for p in chains[e][1:-1]:
            half = (
                rank_width[rank_of[p]] / 2
            )  # level across the whole column: clear of wider labels
            x = centre[rank_of[p]]
            points += (
                [(x - half, places[p].y), (x + half, places[p].y)] if half else [(x, places[p].y)]
            )
        points.append((centre[2 * column[target]] - places[target].width / 2, port[e, -1]))
        label = label_of[e]
        at = None if label is None else (centre[rank_of[label]], places[label].y)
        placed_edges.append(PlacedEdge(source, target, name, pair, tuple(points), at))
    placed_nodes = []
    for i, text in enumerate(texts):
        kind: Literal["input", "node", "output"] = (
            "input" if i < 2 else "output" if i == output else "node"
        )
        place = places[i]
        placed_nodes.append(
            PlacedNode(i, text, kind, centre[2 * column[i]], place.y, place.width, place.height)
        )
    return CellLayout(
        tuple(placed_nodes),
        tuple(placed_edges),
        width=max(width, tight),
        height=max(p.y + p.height / 2 for p in places) + MARGIN,
    )


def _arrange(
    ranks: list[list[int]], links: list[list[tuple[int, int, int]]], places: list[_Place]
) -> None:
    """Order every rank for few crossings and set each place's y: the best of several starts."""
    neighbours: dict[int, tuple[list[int], list[int]]] = {p: ([], []) for r in ranks for p in r}
    for rank_links in links:
        for a, b, _ in rank_links:
            neighbours[b][0].append(a)
            neighbours[a][1].append(b)

    def crossings(order: list[list[int]]) -> int:
        total = 0
        at = {p: i for rank in order for i, p in enumerate(rank)}
        for rank_links in links:
            ends = [(at[a], at[b], weight) for a, b, weight in rank_links]
            for i, (a, b, weight) in enumerate(ends):
                total += sum(weight * w for c, d, w in ends[:i] if (a - c) * (b - d) < 0)
        return total

    shuffle = random.Random(0)
    best: tuple[float, float] | None = None
    best_y: dict[int, float] = {}
    seen: set[tuple[tuple[int, ...], ...]] = set()
    large = len(places) > LARGE
    for start in range(1 if large else ORDER_STARTS):
        order = [list(rank) for rank in ranks]
        for rank in order[1:]:  # the inputs keep their order: c_{k-2} below index 1 means on top
            if start:
                shuffle.shuffle(rank)
        lowest, kept = crossings(order), [list(rank) for rank in order]
        for sweep in range(ORDER_SWEEPS):
            side = sweep % 2
            for rank in order[1:] if side == 0 else order[-2:0:-1]:
                at = {p: i / len(r) for r in order for i, p in enumerate(r)}
                own = {
                    p: sum(at[q] for q in near) / len(near)
                    if (near := neighbours[p][side])
                    else at[p]
                    for p in rank
                }
                rank.sort(key=own.__getitem__)
            count = crossings(order)
            if count < lowest:
                lowest, kept = count, [list(rank) for rank in order]
        for rank in kept[1:] if not large else []:  # then exchange neighbours while that helps
            for i in range(len(rank) - 1):
                rank[i], rank[i + 1] = rank[i + 1], rank[i]
                if (count := crossings(kept)) < lowest:
                    lowest = count
                else:
                    rank[i], rank[i + 1] = rank[i + 1], rank[i]
        key = tuple(tuple(rank) for rank in kept)
        if key in seen or (best is not None and lowest > best[0]):
            continue
        seen.add(key)
        bend = _set_heights(kept, neighbours, links, places)
        if best is None or (lowest, bend) < best:
            best, best_y = (lowest, bend), {p: places[p].y for rank in kept for p in rank}
    for p, y in best_y.items():
        places[p].y = y


def _set_heights(
    order: list[list[int]],
    neighbours: dict[int, tuple[list[int], list[int]]],
    links: list[list[tuple[int, int, int]]],
    places: list[_Place],
) -> float:
    """Set each y for straight edges, orders and distances kept; return the sum of squared bends.

    Each rank in turn takes the least-squares heights given its neighbours: an isotonic regression.
    """

    def stiffness(a: int, b: int) -> float:
        return (1.0, 2.0, 30.0)[places[a].passage + places[b].passage]

    offsets = []
    for rank in order:
        offset = [0.0]
        for a, b in pairwise(rank):
            offset.append(offset[-1] + (places[a].height + places[b].height) / 2 + GAP_Y)
        offsets.append(offset)
        for p, o in zip(rank, offset, strict=True):
            places[p].y = o - offset[-1] / 2
    for sweep in range(PLACE_SWEEPS):
        for rank, offset in list(zip(order, offsets, strict=True))[:: 1 if sweep % 2 == 0 else -1]:
            blocks: list[tuple[float, float, int]] = []  # (mean, weight, length), means ascending
            for p, o in zip(rank, offset, strict=True):
                near = [(q, stiffness(p, q)) for side in neighbours[p] for q in side]
                weight = sum(w for _, w in near) or 1e-3
                mean = sum(w * places[q].y for q, w in near) / weight - o
                length = 1
                while blocks and blocks[-1][0] >= mean:
                    m, w, n = blocks.pop()
                    mean, weight, length = (
                        (mean * weight + m * w) / (weight + w),
                        weight + w,
                        length + n,
                    )
                blocks.append((mean, weight, length))
            means = [mean for mean, _, n in blocks for _ in range(n)]
            for p, o, mean in zip(rank, offset, means, strict=True):
                places[p].y = mean + o
    return sum((places[a].y - places[b].y) ** 2 for pairs in links for a, b, _ in pairs)


def draw_cells(
    genotype: "Genotype",
    title: str | None = None,
    strength: Mapping[str, Sequence[Sequence[float]]] | None = None,
) -> Figure:
    """Draw the normal cell above the reduction cell.

    Args:
        genotype: what to draw; `normal`, `reduce`, `normal_concat` and `reduce_concat` are read.
        title: a line above both.
        strength: for "normal" and "reduce" a weight in [0, 1] for each node's pairs, in the
            genotype's order; drawn as the width of the lines. A kind may be missing.

    Raises:
        ValueError: `strength` names another kind, has another shape or leaves [0, 1].
    """
    kinds = {
        "normal": ("Normal cell", genotype.normal, genotype.normal_concat),
        "reduce": ("Reduction cell", genotype.reduce, genotype.reduce_concat),
    }
    for kind, rows in (strength or {}).items():
        if kind not in kinds:
            raise ValueError(f"strength: expected the keys {sorted(kinds)}, got {kind!r}")
        expected, got = [len(pairs) for pairs in kinds[kind][1]], [len(row) for row in rows]
        if expected != got:
            raise ValueError(f"strength[{kind!r}]: expected rows of length {expected}, got {got}")
        if not all(0.0 <= weight <= 1.0 for row in rows for weight in row):
            raise ValueError(f"strength[{kind!r}]: expected weights in [0, 1]")

    present = {
        operation_kind(name) for _, cell, _ in kinds.values() for node in cell for name, _ in node
    }
    legend = [kind for kind in OPERATION_KINDS if kind in present] + [CONCATENATION]
    heading, caption, key_row = 0.26 if title else 0.04, 0.22, 0.16
    with matplotlib.rc_context(RC):
        width = max(layout(cell, concat).width for _, cell, concat in kinds.values())
        plans = {kind: layout(cell, concat, width) for kind, (_, cell, concat) in kinds.items()}
        columns = len(legend)
        while columns > 1 and _legend_width([k.name for k in legend], columns) > width:
            columns -= 1
        rows_of_keys = -(-len(legend) // columns)
        height = heading + sum(p.height + caption for p in plans.values()) + 0.1
        height += key_row * rows_of_keys
        figure = Figure(figsize=(width, height))
        if title:
            figure.text(
                0.5, 1 - 0.06 / height, title, ha="center", va="top", size=9.0, weight="bold"
            )
        top = height - heading
        for kind, plan in plans.items():
            figure.text(
                MARGIN / width, (top - 0.03) / height, kinds[kind][0], va="top", weight="bold"
            )
            top -= caption + plan.height
            axes = figure.add_axes((0.0, top / height, 1.0, plan.height / height))
            axes.set(xlim=(0.0, width), ylim=(plan.height, 0.0))
            axes.set_axis_off()
            _paint(axes, plan, kind, None if strength is None else strength.get(kind))
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
    return figure


def save_cells(genotype: "Genotype", path_stem: str | Path, title: str | None = None) -> list[Path]:
    """Write the drawing of a genotype as `<path_stem>.png` and `<path_stem>.svg`; return both."""
    return save_figure(draw_cells(genotype, title), path_stem)


def _legend_width(names: Sequence[str], columns: int) -> float:
    """Width in inches of a legend; matplotlib fills it column by column, the first ones longest."""
    long, extra = divmod(len(names), columns)
    total, start = -LEGEND_GAP, 0
    for column in range(columns):
        stop = start + long + (column < extra)
        widest = max(text_width(name, LABEL_TEXT) for name in names[start:stop])
        total += widest + LEGEND_LINE + 0.6 * LABEL_TEXT / 72 + LEGEND_GAP
        start = stop
    return total + 0.1


def _dash(dashes: tuple[float, ...]) -> Literal["solid"] | tuple[float, tuple[float, ...]]:
    return (0.0, dashes) if dashes else "solid"


def _paint(
    axes: Axes, plan: CellLayout, kind: str, strength: Sequence[Sequence[float]] | None
) -> None:
    """Paint one cell; the ids `<kind>-node-3`, `<kind>-label-3-0` find the parts in the SVG."""
    for edge in plan.edges:
        look = CONCATENATION if edge.operation is None else operation_kind(edge.operation)
        line = 0.9 if edge.operation is None else 1.1
        if strength is not None and edge.pair is not None:
            line = 0.5 + 2.3 * strength[edge.target - 2][edge.pair]
        depth = 1.0 if edge.operation is None else 2.0
        tip = edge.points[-1]
        head = ARROW * max(1.0, line / 2)
        points = [*edge.points[:-1], (tip[0] - 0.7 * head, tip[1])]
        curve = _smooth(points)
        axes.add_patch(
            PathPatch(
                curve,
                facecolor="none",
                edgecolor=look.colour,
                linewidth=line,
                linestyle=_dash(look.dashes),
                capstyle="butt",
                zorder=depth,
            )
        )
        corners = [tip, (tip[0] - head, tip[1] - 0.4 * head), (tip[0] - head, tip[1] + 0.4 * head)]
        axes.add_patch(
            Polygon(corners, facecolor=look.colour, edgecolor="none", zorder=depth + 0.5)
        )
        if edge.label is not None and edge.operation is not None:
            width = text_width(edge.operation, LABEL_TEXT) + 0.07
            _box(axes, edge.label, width, LABEL_HEIGHT, "white", look.colour, 0.6).set_gid(
                f"{kind}-label-{edge.target - 2}-{edge.pair}"
            )
            _write(axes, edge.label, edge.operation, LABEL_TEXT)
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
    """A curve through the points that is level at both ends and never leaves their range in y."""
    slopes = [0.0]
    for (xa, ya), (xb, yb), (xc, yc) in zip(points, points[1:], points[2:], strict=False):
        before, after = (yb - ya) / (xb - xa), (yc - yb) / (xc - xb)
        level = before * after <= 0  # a turning point, or a level piece beside a label
        slopes.append(0.0 if level else 2 * before * after / (before + after))
    slopes.append(0.0)
    vertices, codes = [points[0]], [int(Curve.MOVETO)]
    for i, ((xa, ya), (xb, yb)) in enumerate(pairwise(points)):
        third = (xb - xa) / 3
        vertices += [(xa + third, ya + third * slopes[i]), (xb - third, yb - third * slopes[i + 1])]
        vertices.append((xb, yb))
        codes += [int(Curve.CURVE4)] * 3
    return Curve(vertices, codes)
