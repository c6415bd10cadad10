"""Temporary deficits: none is the plain training, and one of all epochs is its own floor."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from examined import require_shown, subject
from lightning_fabric import Fabric
from torch import nn

from darts_noise.data.batches import BatchStream
from darts_noise.data.datasets import load_dataset
from darts_noise.data.images import channel_statistics
from darts_noise.data.seeds import drawing
from darts_noise.examine.critical_period import (
    CriticalPeriodSection,
    DeficitStream,
    accuracy_after_deficit,
)
from darts_noise.examine.section import Pieces
from darts_noise.noise.families import make_noise
from darts_noise.reading import read, whole_set
from darts_noise.train.loop import Recipe, train_from_scratch

CPU = Fabric(accelerator="cpu", devices=1)
DIGITS = load_dataset("digits")
TRAIN, TEST = DIGITS.train.subset(range(100)), DIGITS.test.subset(range(60))
CLEAN = BatchStream(TRAIN, 25, channel_statistics(TRAIN.images), seed=1)
RECIPE = Recipe("adam", 1e-2, 8)


def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def trained_on(data):
    """The test accuracy of a training with a constant rate, without any change of the images."""
    stream = BatchStream(data, 25, CLEAN.normalisation, seed=1)
    recipe = Recipe("adam", 1e-2, 8, final_rate=1e-2)
    net = train_from_scratch(small, stream, recipe, CPU, seed=5).net
    return read(net, whole_set(TEST, CLEAN.normalisation, CPU.device)).accuracy


def after(deficit, epochs):
    made = make_noise(deficit, len(TRAIN), TRAIN)
    return accuracy_after_deficit(small, CLEAN, made, epochs, TEST, RECIPE, CPU, seed=5)


@pytest.mark.parametrize("deficit", ["blur", "label_permutation"])
def test_no_deficit_is_the_baseline_and_one_of_all_epochs_is_its_floor(deficit):
    baseline, floor = trained_on(TRAIN), trained_on(make_noise(deficit, len(TRAIN), TRAIN))
    assert after(deficit, range(0)) == baseline
    assert after(deficit, range(8)) == floor < baseline - 0.1


def test_only_the_epochs_of_the_deficit_have_its_batches():
    stream = DeficitStream(CLEAN, make_noise("vertical_flip", len(TRAIN), TRAIN), range(1, 3))
    flipped = BatchStream(stream.data, 25, CLEAN.normalisation, seed=1)
    assert stream.batches_per_epoch == 4
    for k in range(16):
        expected = (flipped if 4 <= k < 12 else CLEAN).batch(k)
        assert all(map(torch.equal, stream.batch(k), expected))


def test_the_rate_is_constant():
    """As in torch's optimiser without a schedule; a late epoch could not make up for anything."""
    constant = Recipe("adam", 1e-2, 3, final_rate=1e-2)
    net = train_from_scratch(small, CLEAN, constant, CPU, seed=5).net
    with drawing(5):
        plain = small()
    optimiser = torch.optim.Adam(plain.parameters(), 1e-2)
    for k in range(12):
        images, labels = CLEAN.batch(k)
        optimiser.zero_grad()
        F.cross_entropy(plain(images), labels).backward()
        optimiser.step()
    assert all(map(torch.equal, net.parameters(), plain.parameters()))


def test_the_deficit_has_as_many_images():
    with pytest.raises(ValueError, match="expected as many images as the 100 real ones, got 60"):
        DeficitStream(CLEAN, TEST, range(1))


def test_the_section_trains_each_deficit_once_and_names_the_worst():
    section = CriticalPeriodSection(("label_permutation", "uniform"), (2, 4), (0, 3), 2, 3)
    examined = subject()
    found = section.measure(examined, Pieces())
    assert [(run.deficit, run.stop) for run in found.early] == [
        ("label_permutation", 2),
        ("label_permutation", 4),
        ("uniform", 2),
        ("uniform", 4),
    ]
    assert found.late[0] == found.early[0]  # the same training, a piece that is made once
    assert section.steps(examined) == 6 * (3 + 2 * (3 + 5 + 7 + 8))
    worst = min(run.accuracy for run in found.early)
    assert f"{100 * worst:.2f}% after 3 more clean epochs" in section.sentence(found)
    slow = replace(found, baseline=0.3)  # the best constant answer has 0.25
    assert "deficits say nothing" in section.sentence(slow)
    assert len(section.figures(found)) == 2
    assert len(section.tables(found)[0].rows) == 9
    with pytest.raises(ValueError, match="lengths: expected 1 or more, got 0"):
        CriticalPeriodSection(lengths=(0, 2))


def test_a_network_of_each_depth_trains_as_if_it_were_the_examined_one():
    """A section that examines only this depth finds the same accuracies."""

    def deep(cells=1):
        layers = [nn.Linear(16, 16), nn.ReLU()] * cells
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(16, 4))

    def section(depths):
        return CriticalPeriodSection(("uniform",), (1, 2), (0,), 1, 3, depths=depths)

    shallow = replace(subject(deep), make_with_cells=deep)
    found = section((3, 2)).measure(shallow, Pieces())
    require_shown(section((3, 2)), found)
    assert [each.cells for each in found.by_depth] == [2, 3]
    alone = section(()).measure(subject(lambda: deep(3)), Pieces())
    last = {"no deficit": alone.baseline, "uniform": alone.early[-1].accuracy}
    assert found.by_depth[1].accuracies == last
    assert replace(found, by_depth=()) == section(()).measure(shallow, Pieces())
    assert len(section((3, 2)).tables(found)[1].rows) == 2
    with pytest.raises(ValueError, match="depths: expected 1 or more, got 0"):
        section((0, 2))
    with pytest.raises(ValueError, match="depths: expected a network of cells"):
        section((2,)).steps(subject(deep))


def test_the_estimate_of_steps_grows_with_depth():
    def deep(cells=1):
        return nn.Sequential(*(nn.Flatten() for _ in range(9 * cells - 1)))  # 9 * cells modules

    examined = replace(subject(deep), make_with_cells=deep)

    def section(*depths):
        return CriticalPeriodSection(("uniform", "blur"), (2,), (0,), 1, 3, depths=depths)

    own = section().steps(examined)
    assert own == 6 * (3 + 2 * (3 + 5 + 4))
    assert section(1, 4).steps(examined) == own + (1 + 4) * 6 * (3 + 2 * 5)
