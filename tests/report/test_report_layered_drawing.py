"""The layered drawing against brute force: fewest crossings, least squares, kept distances."""

import random
from itertools import combinations, pairwise, permutations, product

import numpy as np
import pytest

from darts_noise.report.layered_drawing import (
    GAP_Y,
    Link,
    Place,
    _exchange,
    arrange,
    ascending,
    crossings,
)


def cut(y: dict[int, float], links: list[list[Link]]) -> int:
    """Weighted crossings, each pair of links looked at as two straight lines."""
    return sum(
        w * v
        for pairs in links
        for (a, b, w), (c, d, v) in combinations(pairs, 2)
        if (y[a] < y[c] and y[b] > y[d]) or (y[a] > y[c] and y[b] < y[d])
    )


@pytest.mark.parametrize("seed", range(8))
def test_order_has_the_fewest_crossings_of_all_orders(seed: int) -> None:
    chance = random.Random(seed)
    ranks = [[0, 1], [2, 3, 4, 5], [6, 7, 8]]
    links = [
        [(a, b, chance.choice((1, 2))) for a, b in product(*pair) if chance.random() < 0.4]
        for pair in pairwise(ranks)
    ]
    places = [Place(0.1, 0.1 + 0.1 * chance.random()) for _ in range(9)]
    arrange(ranks, links, places)
    y = {p: place.y for p, place in enumerate(places)}
    fewest = min(
        crossings([ranks[0], list(second), list(third)], links)
        for second, third in product(permutations(ranks[1]), permutations(ranks[2]))
    )
    assert cut(y, links) == fewest
    order = [sorted(rank, key=y.__getitem__) for rank in ranks]
    assert crossings(order, links) == fewest
    assert order[0] == ranks[0]
    for rank in order:
        for a, b in pairwise(rank):
            assert y[b] - y[a] >= (places[a].height + places[b].height) / 2 + GAP_Y - 1e-9


def test_exchanging_neighbours_removes_crossings() -> None:
    links = [[(0, 2, 1), (0, 3, 2), (1, 2, 2), (1, 4, 1)]]
    order = [[0, 1], [4, 2, 3]]
    _exchange(order, links)
    assert order[0] == [0, 1]
    assert sorted(order[1]) == [2, 3, 4]
    before = crossings([[0, 1], [4, 2, 3]], links)
    assert crossings(order, links) < before


def test_straight_where_it_can_be() -> None:
    places = [Place(0.1, 0.1) for _ in range(4)]
    arrange([[0], [1], [2], [3]], [[(0, 1, 1)], [(1, 2, 1)], [(2, 3, 1)]], places)
    assert len({place.y for place in places}) == 1


@pytest.mark.parametrize("seed", range(5))
def test_ascending_is_the_least_squares_answer(seed: int) -> None:
    chance = np.random.default_rng(seed)
    values, weights = chance.normal(size=8), chance.uniform(0.2, 3.0, 8)
    found = ascending(list(zip(values, weights, strict=True)))
    assert all(a <= b for a, b in pairwise(found))
    # The minimax formula of isotonic regression (Robertson, Wright and Dykstra, 1988, ch. 1).
    means = {
        (i, j): np.average(values[i : j + 1], weights=weights[i : j + 1])
        for i in range(8)
        for j in range(i, 8)
    }
    expected = [max(min(means[i, j] for j in range(k, 8)) for i in range(k + 1)) for k in range(8)]
    np.testing.assert_allclose(found, expected)
