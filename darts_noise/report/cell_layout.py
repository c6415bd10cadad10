"""The layout of the drawing of a cell: a pure function `layout`, in inches.

The column of a node is the length of the longest path from the inputs to it. A column of labels
lies between two columns of nodes. Each edge gets its own place in every column that it crosses, and
its label takes one of these places. So no edge runs under a node or a label, and labels never
overlap. `layered_drawing.py` decides the vertical order of the places. The constants below are the
sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from darts_noise.report.layered_drawing import Link, Place, arrange
from darts_noise.report.style import text_width

Cell = Sequence[Sequence[tuple[str, int]]]  # node → its (operation, predecessor) pairs
Point = tuple[float, float]
Kind = Literal["input", "node", "output"]

COLUMN_WIDTH = 3.4  # inches: one column of a two-column paper; deeper cells are wider
NODE_TEXT, LABEL_TEXT = 8.0, 7.0  # points
NODE_HEIGHT, LABEL_HEIGHT, PORT_STEP = 0.24, 0.165, 0.075
GAP_X, LEAST_GAP_X, MARGIN = 0.12, 0.09, 0.05


@dataclass(frozen=True)
class PlacedNode:
    """A node of the cell. `index` counts as in a genotype; the output comes after the last node."""

    index: int
    text: str
    kind: Kind
    x: float  # centre
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class PlacedEdge:
    """An arrow. A concatenation has no `operation`, `pair` (index in its node) or `label`."""

    source: int
    target: int
    operation: str | None
    pair: int | None
    points: tuple[
        Point, ...
    ]  # from the right side of the source to the left side of the target, x increasing
    label: Point | None  # centre of the label


@dataclass(frozen=True)
class CellLayout:
    nodes: tuple[PlacedNode, ...]
    edges: tuple[PlacedEdge, ...]
    width: float
    height: float


@dataclass
class _Edge:
    """An edge without a position. `chain` lists its places rank by rank, including its nodes."""

    source: int
    target: int
    operation: str | None = None
    pair: int | None = None
    label: int | None = None
    chain: list[int] = field(default_factory=list)


def layout(cell: Cell, concat: Sequence[int], width: float = COLUMN_WIDTH) -> CellLayout:
    """Place one cell's nodes, edges and labels.

    Args:
        cell: for each node its (operation, predecessor) pairs; predecessors 0 and 1 are the inputs.
        concat: the indices that are concatenated to the output.
        width: width in inches. The result is wider if the cell needs it.

    Raises:
        ValueError: a predecessor or a member of `concat` does not exist, or comes later.
    """
    edges = _edges(cell, concat)
    column = _columns(len(cell), edges)
    texts = ["$c_{k-2}$", "$c_{k-1}$", *(str(i) for i in range(len(cell))), "$c_{k}$"]
    places = []
    for i, text in enumerate(texts):
        ports = max(sum(e.source == i for e in edges), sum(e.target == i for e in edges))
        height = max(NODE_HEIGHT, PORT_STEP * (ports - 1) + 0.12)
        places.append(Place(max(0.24, text_width(text, NODE_TEXT) + 0.1), height))
    ranks = _chain(edges, column, places)
    links: list[list[Link]] = [[] for _ in ranks[1:]]
    for e in edges:
        weight = 1 if e.operation is None else 2  # an operation's crossing costs more
        for step, (a, b) in enumerate(pairwise(e.chain)):
            links[2 * column[e.source] + step].append((a, b, weight))
    arrange(ranks, links, places)
    low = min(p.y - p.height / 2 for p in places) - MARGIN
    for place in places:
        place.y -= low

    rank_width = [max((places[p].width for p in rank), default=0.0) for rank in ranks]
    rank_width[-2] = 0.0  # only concatenations enter the output, without labels
    tight = sum(rank_width) + GAP_X * len(links) + 2 * MARGIN
    width = max(width, tight)
    centre = _centres(rank_width, width - tight, links, places)
    output = len(texts) - 1
    nodes = []
    for i, text in enumerate(texts):
        place, x = places[i], centre[2 * column[i]]
        kind: Kind = "input" if i < 2 else "output" if i == output else "node"
        nodes.append(PlacedNode(i, text, kind, x, place.y, place.width, place.height))
    return CellLayout(
        tuple(nodes),
        tuple(_route(edges, nodes, ranks, rank_width, centre, places)),
        width=width,
        height=max(p.y + p.height / 2 for p in places) + MARGIN,
    )


def _edges(cell: Cell, concat: Sequence[int]) -> list[_Edge]:
    """List all operations, node by node, then the concatenation."""
    edges = []
    for node, pairs in enumerate(cell, start=2):
        for number, (operation, source) in enumerate(pairs):
            if not 0 <= source < node:
                raise ValueError(f"node {node - 2}: expected predecessor < {node}, got {source}")
            edges.append(_Edge(source, node, operation, number))
    output = len(cell) + 2
    for source in concat:
        if not 0 <= source < output:
            raise ValueError(f"concat: expected an index from 0 to {output - 1}, got {source}")
        edges.append(_Edge(source, output))
    return edges


def _columns(nodes: int, edges: Sequence[_Edge]) -> list[int]:
    """Return the column of each node. The output is to the right of all others."""
    column = [0, 0]
    for node in range(2, nodes + 2):
        column.append(1 + max((column[e.source] for e in edges if e.target == node), default=0))
    return [*column, 1 + max(column)]


def _chain(edges: Sequence[_Edge], column: Sequence[int], places: list[Place]) -> list[list[int]]:
    """Add the label and the passages of every edge to `places`, and return the ranks.

    Even ranks hold nodes, odd ranks labels.
    """
    ranks: list[list[int]] = [[] for _ in range(2 * column[-1] + 1)]
    for i, c in enumerate(column):
        ranks[2 * c].append(i)
    load = [0] * len(ranks)
    label_rank: dict[int, int] = {}
    # Short edges have only one rank for their label, so they come first.
    spans = [column[edge.target] - column[edge.source] for edge in edges]
    for i in sorted(range(len(edges)), key=spans.__getitem__):
        edge = edges[i]
        if edge.operation is not None:
            odd = range(2 * column[edge.source] + 1, 2 * column[edge.target], 2)
            label_rank[i] = min(odd, key=lambda rank: (load[rank], rank))
            load[label_rank[i]] += 1
    for i, edge in enumerate(edges):
        edge.chain.append(edge.source)
        for rank in range(2 * column[edge.source] + 1, 2 * column[edge.target]):
            if edge.operation is not None and label_rank[i] == rank:
                edge.label = len(places)
                width = text_width(edge.operation, LABEL_TEXT) + 0.07
                places.append(Place(width, LABEL_HEIGHT))
            else:
                places.append(Place(0.0, 0.03, passage=True))
            edge.chain.append(len(places) - 1)
            ranks[rank].append(len(places) - 1)
        edge.chain.append(edge.target)
    return ranks


def _centres(
    rank_width: Sequence[float],
    spare: float,
    links: Sequence[Sequence[Link]],
    places: Sequence[Place],
) -> list[float]:
    """Return the x of each rank. `spare` inches go between the ranks with the steepest edges."""
    steep = [
        max((abs(places[a].y - places[b].y) for a, b, _ in pairs), default=0.0) for pairs in links
    ]
    spare += (GAP_X - LEAST_GAP_X) * len(links)
    gaps = [LEAST_GAP_X + spare * (s + 0.05) / (sum(steep) + 0.05 * len(links)) for s in steep]
    left = [MARGIN + sum(rank_width[:r]) + sum(gaps[:r]) for r in range(len(rank_width))]
    return [x + w / 2 for x, w in zip(left, rank_width, strict=True)]


def _route(
    edges: Sequence[_Edge],
    nodes: Sequence[PlacedNode],
    ranks: Sequence[Sequence[int]],
    rank_width: Sequence[float],
    centre: Sequence[float],
    places: Sequence[Place],
) -> list[PlacedEdge]:
    """Place every edge from port to port, horizontal across each column that it passes."""
    rank_of = {p: r for r, rank in enumerate(ranks) for p in rank}
    starts, ends = _ports(edges, places, end=0), _ports(edges, places, end=-1)
    placed = []
    for i, edge in enumerate(edges):
        source, target = nodes[edge.source], nodes[edge.target]
        points = [(source.x + source.width / 2, starts[i])]
        for p in edge.chain[1:-1]:
            x, y = centre[rank_of[p]], places[p].y
            half = rank_width[rank_of[p]] / 2  # the whole column: clear of wider labels
            points += [(x - half, y), (x + half, y)] if half else [(x, y)]
        points.append((target.x - target.width / 2, ends[i]))
        at = None if edge.label is None else (centre[rank_of[edge.label]], places[edge.label].y)
        placed.append(
            PlacedEdge(edge.source, edge.target, edge.operation, edge.pair, tuple(points), at)
        )
    return placed


def _ports(
    edges: Sequence[_Edge], places: Sequence[Place], end: Literal[0, -1]
) -> dict[int, float]:
    """Return edge → y of its first (0) or last (-1) point: spread over the node, uncrossed."""
    step = 1 if end == 0 else -2
    port = {}
    for node in {e.chain[end] for e in edges}:
        own = [i for i, e in enumerate(edges) if e.chain[end] == node]
        own.sort(key=lambda i: places[edges[i].chain[step]].y)
        for k, i in enumerate(own):
            port[i] = places[node].y + PORT_STEP * (k - (len(own) - 1) / 2)
    return port
