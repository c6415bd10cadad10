"""Deficits of the input: each removes one property and keeps the rest of the real data."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numbered_images import coloured, number_of, numbered
from PIL import Image

from darts_noise.data.images import LabelledImages
from darts_noise.noise.families import make_noise


@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 20), (8, 8), (3, 1)])
def test_blur_is_a_quarter_and_back_by_torchs_interpolation(height, width, monkeypatch):
    monkeypatch.setattr("darts_noise.noise.deficits._CHUNK", 7)
    real = coloured(20, height, width)
    made = make_noise("blur", 20, real, seed=1)
    small = [max(1, round(side / 4)) for side in (height, width)]
    down = F.interpolate(real.images.double(), small, mode="bilinear", antialias=True)
    exact = F.interpolate(down, (height, width), mode="bilinear", align_corners=False)
    origin = (made.images.double()[:, None] - exact[None]).abs().amax((2, 3, 4)).min(1)
    assert origin.values.max() <= 0.5 + 1e-3  # no more than rounding to a whole number
    assert sorted(origin.indices.tolist()) == list(range(20))
    assert torch.equal(made.labels, real.labels[origin.indices])


def test_blur_is_what_pillow_makes_to_within_its_rounding():
    """An independent implementation; it rounds after each axis of each of the two scalings."""
    real = coloured(10, 32, 32)
    made = make_noise("blur", 10, real, seed=1).images
    expected = []
    for image in real.images.permute(0, 2, 3, 1).numpy():
        small = Image.fromarray(image).resize((8, 8), Image.Resampling.BILINEAR)
        expected.append(np.asarray(small.resize((32, 32), Image.Resampling.BILINEAR)))
    pillow = torch.tensor(np.stack(expected)).permute(0, 3, 1, 2)
    distances = (made.int()[:, None] - pillow.int()[None]).abs().amax((2, 3, 4)).min(1)
    assert distances.values.max() <= 2
    assert sorted(distances.indices.tolist()) == list(range(10))


def test_blur_leaves_a_plain_image_and_takes_away_a_chequerboard():
    plain = torch.full((1, 1, 32, 32), 77, dtype=torch.uint8)
    board = 255 * (torch.arange(32)[:, None] + torch.arange(32)).remainder(2).to(torch.uint8)
    images = torch.cat([plain, board.view(1, 1, 32, 32)])
    made = make_noise("blur", 2, LabelledImages(images, torch.tensor([0, 1]), ("a", "b")))
    assert (made.images[made.labels == 0] == 77).all()
    inner = made.images[made.labels == 1][:, :, 4:-4, 4:-4].float()
    assert inner.std() < 1
    assert inner.mean().item() == pytest.approx(127.5, abs=1)


def test_vertical_flip_twice_is_the_real_image_and_turns_top_to_bottom():
    real = numbered()
    made = make_noise("vertical_flip", len(real), real, seed=1)
    number = number_of(made.images)
    assert torch.equal(made.images.flip(2), real.images[number])
    assert torch.equal(made.labels, real.labels[number])
    first, last = made.images[0, 0, 0], made.images[0, 0, -1]
    assert first[:-1].tolist() == [25, 26, 27, 28]
    assert last.tolist() == [0, 1, 2, 3, 4]
    again = make_noise("vertical_flip", len(real), made, seed=1)
    number = number_of(again.images)
    assert torch.equal(again.images, real.images[number])
    assert torch.equal(again.labels, real.labels[number])


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_label_permutation_is_a_bijection_in_which_no_class_keeps_its_label(classes):
    real = numbered(50, classes=classes)
    for seed in range(20):
        made = make_noise("label_permutation", 50, real, seed)
        number = number_of(made.images)
        assert torch.equal(made.images, real.images[number])
        pairs = set(zip(real.labels[number].tolist(), made.labels.tolist(), strict=True))
        assert len(pairs) == classes
        assert {old for old, _ in pairs} == {new for _, new in pairs} == set(range(classes))
        assert all(old != new for old, new in pairs)


def test_label_permutations_without_a_fixed_point_are_all_as_likely():
    """Of three classes there are two, the turns to the left and to the right."""
    real = numbered(6, classes=3)
    turns = []
    for seed in range(200):
        made = make_noise("label_permutation", 6, real, seed)
        turns.append(int((made.labels - number_of(made.images))[0]) % 3)
    assert set(turns) == {1, 2}
    assert 70 < turns.count(1) < 130  # four standard deviations


def test_the_permutation_is_that_of_the_seed_and_the_number_of_classes():
    def renamed(size, seed=3):
        made = make_noise("label_permutation", size, numbered(50), seed)
        pairs = zip((number_of(made.images) % 5).tolist(), made.labels.tolist(), strict=True)
        return dict(pairs)

    assert renamed(50) == renamed(40)
    assert renamed(50) != renamed(50, seed=5)


def test_one_class_cannot_be_permuted():
    with pytest.raises(ValueError, match="expected 2 classes or more for 'label_permutation'"):
        make_noise("label_permutation", 4, numbered(classes=1))
