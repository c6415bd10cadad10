"""Splits and samples: properties for any labels."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_noise.data.splits import bootstrap, stratified_split, stratified_subset

labels_strategy = st.lists(st.integers(0, 5), min_size=2, max_size=80).map(torch.tensor)


@settings(deadline=None, max_examples=150)
@given(labels_strategy, st.floats(0.01, 0.99), st.integers(0, 2**40))
def test_split_is_a_stratified_partition(labels: torch.Tensor, fraction: float, seed: int) -> None:
    rest, held_out = stratified_split(labels, fraction, seed)
    assert sorted(rest.tolist() + held_out.tolist()) == list(range(len(labels)))
    for name, count in zip(
        *(part.tolist() for part in labels.unique(return_counts=True)), strict=True
    ):
        taken = int((labels[held_out] == name).sum())
        if count >= 2:
            assert 1 <= taken <= count - 1
        else:
            assert taken == 0


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 1 / 3])
def test_split_has_the_size_asked_for_and_each_class_its_share(fraction: float) -> None:
    labels = torch.repeat_interleave(torch.tensor([31, 57, 112, 203]))
    _, held_out = stratified_split(labels, fraction, seed=3)
    assert len(held_out) == round(fraction * len(labels))
    share = torch.bincount(labels[held_out]) - fraction * torch.bincount(labels)
    assert share.abs().max() < 1


def test_split_depends_on_its_seed_and_on_nothing_else() -> None:
    labels = torch.arange(100) % 4
    torch.manual_seed(1)
    first = stratified_split(labels, 0.5, seed=7)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    again = stratified_split(labels, 0.5, seed=7)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], stratified_split(labels, 0.5, seed=8)[1])
    torch.manual_seed(1)
    stratified_split(labels, 0.5, seed=7)
    assert torch.equal(torch.get_rng_state(), state)


def test_split_is_shuffled_on_both_sides() -> None:
    labels = torch.repeat_interleave(torch.tensor([50, 50]))
    for side in stratified_split(labels, 0.5, seed=0):
        assert side.tolist() != sorted(side.tolist())
        assert 0 < labels[side][:25].float().mean() < 1


def test_every_sample_of_a_class_is_equally_likely_to_be_held_out() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    held = torch.stack(
        [torch.bincount(stratified_split(labels, 0.25, s)[1], minlength=8) for s in range(600)]
    )
    assert (held.double().mean(0) - 0.25).abs().max() < 5 * (0.25 * 0.75 / 600) ** 0.5


@settings(deadline=None, max_examples=150)
@given(labels_strategy, st.data())
def test_subset_has_its_size_without_repeats_and_in_proportion(
    labels: torch.Tensor, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, len(labels)))
    subset = stratified_subset(labels, size, seed=0)
    assert len(set(subset.tolist())) == len(subset) == size
    classes = len(labels.unique())
    if size >= classes:
        assert len(labels[subset].unique()) == classes
    # Largest remainders give each class its share within one; the one that every class is
    # promised can take up to one from another for each class that is too small for its own.
    share = torch.bincount(labels[subset], minlength=6) - torch.bincount(
        labels, minlength=6
    ) * size / len(labels)
    assert share.max() <= 1 + 1e-9


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction: expected more than 0 and less than 1, got"):
        stratified_split(torch.arange(4), fraction, seed=0)


@pytest.mark.parametrize("size", [0, -1, 5])
def test_a_size_outside_its_range_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"size: expected 1 to 4, got {size}"):
        stratified_subset(torch.arange(4), size, seed=0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed: expected 0 or more, got -1"):
        stratified_split(torch.arange(4) % 2, 0.5, seed=-1)


def test_a_bootstrap_sample_is_drawn_with_replacement():
    drawn = bootstrap(5000, seed=0)
    counts = torch.bincount(drawn, minlength=5000)
    assert (len(drawn), len(counts)) == (5000, 5000)
    assert (counts == 0).double().mean() == pytest.approx(math.exp(-1), abs=0.02)
    assert torch.equal(drawn, bootstrap(5000, seed=0))
    assert not torch.equal(drawn, bootstrap(5000, seed=1))
    assert bootstrap(3, 0, draws=100).unique().tolist() == [0, 1, 2]
