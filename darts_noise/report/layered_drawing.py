"""A layered drawing [1]: places in ranks, ordered for few crossings, then moved for straight edges.

The ranks run from left to right, and every link connects a rank with the next. Call `arrange`,
which sets the y of each place and does not change x.

[1] Sugiyama, Tagawa, Toda. Methods for Visual Understanding of Hierarchical System Structures.
    IEEE Transactions on Systems, Man, and Cybernetics 11(2), 1981.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

GAP_Y = 0.055  # inches between two places of a rank
ORDER_STARTS, ORDER_SWEEPS, PLACE_SWEEPS = 12, 8, 120
LARGE = 400  # places; with more, try only one start

Order = list[list[int]]  # rank → its places from top to bottom
Link = tuple[int, int, int]  # (left place, right place, weight of a crossing)
Neighbours = dict[
    int, tuple[list[int], list[int]]
]  # place → neighbours to its left and to its right


@dataclass
class Place:
    """One place in a rank: a node, a label, or the passage of a long edge."""

    width: float
    height: float
    y: float = 0.0
    passage: bool = False


def arrange(ranks: Order, links: Sequence[Sequence[Link]], places: Sequence[Place]) -> None:
    """Set the y of every place, for the order with the fewest crossings and bends.

    Args:
        ranks: the places of each rank; the first rank keeps this order.
        links: between rank r and rank r + 1.
        places: the places that the numbers in `ranks` and `links` mean. Only their `y` changes.
    """
    neighbours: Neighbours = {p: ([], []) for rank in ranks for p in rank}
    for rank_links in links:
        for a, b, _ in rank_links:
            neighbours[b][0].append(a)
            neighbours[a][1].append(b)
    shuffle = random.Random(0)
    large = len(places) > LARGE
    best: tuple[float, float] | None = None
    best_y: dict[int, float] = {}
    seen: set[tuple[tuple[int, ...], ...]] = set()
    for start in range(1 if large else ORDER_STARTS):
        order = [list(rank) for rank in ranks]
        for rank in order[1:] if start else []:
            shuffle.shuffle(rank)
        order = _sweep(order, neighbours, links)
        if not large:
            _exchange(order, links)
        count = crossings(order, links)
        key = tuple(tuple(rank) for rank in order)
        if key in seen or (best is not None and count > best[0]):
            continue
        seen.add(key)
        bend = _set_heights(order, neighbours, links, places)
        if best is None or (count, bend) < best:
            best, best_y = (count, bend), {p: places[p].y for rank in order for p in rank}
    for p, y in best_y.items():
        places[p].y = y


def crossings(order: Order, links: Sequence[Sequence[Link]]) -> int:
    """Return the weight of all pairs of links that cross: the product of their two weights."""
    total = 0
    at = {p: i for rank in order for i, p in enumerate(rank)}
    for rank_links in links:
        ends = [(at[a], at[b], weight) for a, b, weight in rank_links]
        for i, (a, b, weight) in enumerate(ends):
            total += sum(weight * w for c, d, w in ends[:i] if (a - c) * (b - d) < 0)
    return total


def _sweep(order: Order, neighbours: Neighbours, links: Sequence[Sequence[Link]]) -> Order:
    """Sort each rank by the mean of its neighbours, forth and back, and return the best order."""
    lowest, kept = crossings(order, links), [list(rank) for rank in order]
    for sweep in range(ORDER_SWEEPS):
        side = sweep % 2
        for rank in order[1:] if side == 0 else order[-2:0:-1]:
            at = {p: i / len(r) for r in order for i, p in enumerate(r)}
            mean = {
                p: sum(at[q] for q in near) / len(near) if (near := neighbours[p][side]) else at[p]
                for p in rank
            }
            rank.sort(key=mean.__getitem__)
        count = crossings(order, links)
        if count < lowest:
            lowest, kept = count, [list(rank) for rank in order]
    return kept


def _exchange(order: Order, links: Sequence[Sequence[Link]]) -> None:
    """Exchange neighbours in a rank if that reduces the crossings."""
    lowest = crossings(order, links)
    for rank in order[1:]:
        for i in range(len(rank) - 1):
            rank[i], rank[i + 1] = rank[i + 1], rank[i]
            if (count := crossings(order, links)) < lowest:
                lowest = count
            else:
                rank[i], rank[i + 1] = rank[i + 1], rank[i]


def _set_heights(
    order: Order,
    neighbours: Neighbours,
    links: Sequence[Sequence[Link]],
    places: Sequence[Place],
) -> float:
    """Set each y for straight edges, keep orders and distances, and return the squared bends.

    Each rank in turn takes the least-squares heights for its neighbours, by isotonic regression.
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
            wishes = []
            for p, o in zip(rank, offset, strict=True):
                near = [(q, stiffness(p, q)) for side in neighbours[p] for q in side]
                weight = sum(w for _, w in near) or 1e-3
                wishes.append((sum(w * places[q].y for q, w in near) / weight - o, weight))
            for p, o, y in zip(rank, offset, ascending(wishes), strict=True):
                places[p].y = y + o
    return sum((places[a].y - places[b].y) ** 2 for pairs in links for a, b, _ in pairs)


def ascending(wishes: Sequence[tuple[float, float]]) -> list[float]:
    """Return the non-decreasing values that are nearest to (value, weight) pairs.

    This is isotonic regression by pooling adjacent violators, for the weighted sum of squares. It
    runs thousands of times on a few values each. scikit-learn's function is made for large arrays
    and is slow for such calls.

    >>> ascending([(0.0, 1.0), (3.0, 1.0), (1.0, 3.0)])
    [0.0, 1.5, 1.5]
    """
    blocks: list[tuple[float, float, int]] = []  # (mean, weight, length), means ascending
    for value, share in wishes:
        mean, weight, length = value, share, 1
        while blocks and blocks[-1][0] >= mean:
            m, w, n = blocks.pop()
            mean = (mean * weight + m * w) / (weight + w)
            weight, length = weight + w, length + n
        blocks.append((mean, weight, length))
    return [mean for mean, _, n in blocks for _ in range(n)]
