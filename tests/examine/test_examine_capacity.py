"""The number of images whose random labels a network can fit."""

from examined import blobs, hidden, linear, require_shown, subject

from darts_noise.examine.capacity import CapacitySection, bisect
from darts_noise.examine.section import Pieces


def test_the_capacity_of_a_linear_network_is_twice_its_inputs():
    """Cover 1965: half of all labellings with 2 classes of 2·D images in general position are
    linearly separable, with D = 17 weights and bias. A training of finite length on one labelling
    of each number finds it to within 30%."""
    examined = subject(lambda: linear(2), blobs(100, classes=2), epochs=100, batch_size=60)
    section = CapacitySection(
        share=1.0, labellings=1, least=16, most=60, precision=0.2, family="uniform",
        adam_rates=(0.05,), muon_rates=(), scales=(1.0,),
    )  # fmt: skip
    found = section.measure(examined, Pieces())
    assert 0.7 * 34 <= found.images <= 1.3 * 34, found
    require_shown(section, found)


def test_a_network_that_fits_all_or_nothing_has_a_bound():
    section = CapacitySection(most=24, adam_rates=(0.02,), muon_rates=(), scales=(1.0,))
    large = section.measure(subject(hidden, epochs=40), Pieces())
    assert (large.fitted, large.not_fitted, large.images) == (24, None, None)
    require_shown(section, large)
    none = section.measure(subject(linear, epochs=1, learning_rate=1e-6), Pieces())
    assert none.fitted is None
    assert none.not_fitted == 20
    require_shown(section, none)


def test_the_cost_beforehand_is_that_of_the_dearest_answer():
    section, examined = CapacitySection(least=20, most=90), subject()
    tried = []

    def is_fitted(images):
        tried.append(images)
        return images < 90

    bisect(is_fitted, 20, 90, section.precision)
    per_image_count = sum(examined.steps(images) for images in tried)
    assert section.steps(examined) == per_image_count * len(section.grid) * 4 / 3
