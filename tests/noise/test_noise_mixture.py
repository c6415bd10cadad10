"""Several families at once: exact shares, families that do not disturb each other, refusals."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from numbered_images import coloured

from darts_noise.noise.families import (
    describe_noise,
    fingerprint,
    make_noise,
    noise_parts,
    require_noise,
)
from darts_noise.noise.mixture import Part, shares

REAL = coloured()


@given(
    weights=st.lists(st.floats(0.1, 10), min_size=1, max_size=6),
    size=st.integers(1000, 100_000),
)
def test_shares_are_the_weights_to_within_one_image_and_sum_to_the_size(weights, size):
    counts = shares([Part("uniform", {}, weight) for weight in weights], size)
    assert sum(counts) == size
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - size * weight / sum(weights)) < 1 + 1e-6


def test_shares_are_exact_where_they_can_be():
    assert shares(noise_parts({"uniform": 1.0, "shuffled_pixels": 0.5}), 30) == [10, 20]
    assert shares(noise_parts({"uniform": 0.1, "gaussian": 0.2}), 30) == [20, 10]
    assert shares(noise_parts({"uniform": 1, "gaussian": 1, "blur": 1}), 7) == [3, 2, 2]


def test_what_is_left_over_goes_to_the_largest_remainders():
    """1.67 and 3.33 images of 5, 1.33 and 2.67 of 4."""
    parts = noise_parts({"gaussian": 1, "uniform": 2})
    assert shares(parts, 5) == [2, 3]
    assert shares(parts, 4) == [1, 3]


def test_a_set_is_its_families_one_after_the_other_each_as_it_is_alone():
    """Nothing that one family draws depends on the others, only on the seed and its share."""
    mixture = {"uniform": 2, "shuffled_pixels": 1, "label_permutation": 1}
    made = make_noise(mixture, 40, REAL, seed=6)
    alone = [
        make_noise(family, count, REAL, seed=6)
        for family, count in (("label_permutation", 10), ("shuffled_pixels", 10), ("uniform", 20))
    ]
    assert torch.equal(made.images, torch.cat([part.images for part in alone]))
    assert torch.equal(made.labels, torch.cat([part.labels for part in alone]))
    assert made.classes == REAL.classes


def test_neither_the_order_nor_the_scale_of_the_weights_matters():
    sets = [
        {"uniform": 2, "gaussian": 1},
        {"gaussian": 1.0, "uniform": 2.0},
        {"uniform": 0.5, "gaussian": {"weight": 0.25}, "blur": 0},
    ]
    assert len({fingerprint(make_noise(mixture, 31, REAL)) for mixture in sets}) == 1


def test_one_family_is_the_same_however_it_is_written():
    forms = [
        "shuffled_pixels:own",
        {"shuffled_pixels:own": 3},
        {"shuffled_pixels:own": None},
        {"shuffled_pixels": {"labels": "own"}},
        {"shuffled_pixels": {"labels": "own", "weight": 2}},
    ]
    assert len({fingerprint(make_noise(form, 20, REAL)) for form in forms}) == 1


def test_families_of_one_seed_have_unrelated_labels():
    made = [make_noise(family, 40, REAL).labels for family in ("uniform", "gaussian")]
    assert (made[0] == made[1]).float().mean() < 0.6


def test_one_family_with_different_settings_has_different_draws():
    """Otherwise every image would be there twice, with two labels."""
    made = make_noise({"shuffled_pixels:own": 1, "shuffled_pixels:random": 1}, 40, REAL)
    one, other = made.images.chunk(2)
    assert not (one == other).flatten(1).all(1).any()
    alone = make_noise("shuffled_pixels:own", 20, REAL)
    assert torch.equal(one, alone.images)


@pytest.mark.parametrize(
    ("family", "description"),
    [
        ("uniform", "uniform"),
        ({"uniform": 2, "random_pixels": 1}, "33.3% random_pixels + 66.7% uniform"),
        ({"uniform": 2, "random_pixels": 0}, "uniform"),
        ("shuffled_pixels:own", "shuffled_pixels (own labels)"),
        ({"dataset:mnist": {"labels": "random"}}, "dataset:mnist (random labels)"),
    ],
)
def test_what_a_card_says(family, description):
    assert describe_noise(family) == description


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("unifrm", "unknown noise family 'unifrm': did you mean 'uniform'"),
        ({"uniform": 1, "blurr": 1}, "unknown noise family 'blurr': did you mean 'blur'"),
        ({"uniform": -1, "blur": 2}, "finite weight of 0 or more for 'uniform', got -1"),
        ({"uniform": float("nan")}, "finite weight of 0 or more for 'uniform', got nan"),
        ({"uniform": float("inf")}, "finite weight of 0 or more for 'uniform', got inf"),
        ({"uniform": "a lot"}, "finite weight of 0 or more for 'uniform', got 'a lot'"),
        ({"uniform": True}, "finite weight of 0 or more for 'uniform', got True"),
        ({"uniform": 0, "blur": 0.0}, "expected a weight above 0 .* got uniform, blur"),
        ({}, "expected a weight above 0 .* got no family"),
        (["uniform"], r"expected a name, or names with a weight .* got \['uniform'\]"),
        (None, "expected a name, or names with a weight .* got None"),
        (
            "uniform:3",
            "expected 'uniform' alone, which takes nothing behind a colon, got 'uniform:3'",
        ),
        ("dataset", "expected the name of 'dataset' as in dataset:NAME"),
        ("random_pixels:mine", "expected random or own for labels of 'random_pixels', got 'mine'"),
        ({"dataset:mnist": {"lables": "own"}}, "'lables': did you mean 'labels'"),
        ({"dataset": {"name": 3}}, "expected a text for name of 'dataset', got 3"),
    ],
)
def test_what_is_refused_names_the_setting_in_one_line(family, message):
    with pytest.raises(ValueError, match=f"^family: .*{message}") as refused:
        require_noise(family)
    assert "\n" not in str(refused.value)


def test_a_set_too_small_for_a_family_is_refused():
    with pytest.raises(ValueError, match=r"got 10, of which blur has none with a weight of 0\.01"):
        make_noise({"uniform": 1, "blur": 0.01}, 10, REAL)
