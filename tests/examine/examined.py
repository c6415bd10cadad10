"""Small subjects of an examination."""

import json

import torch
from lightning_fabric import Fabric
from torch import nn

import darts_noise as dn
from darts_noise.data.images import LabelledImages, channel_statistics
from darts_noise.examine.record import as_json, from_json
from darts_noise.examine.section import Section, Subject


def blobs(size: int, classes: int = 4, seed: int = 0, noise: int = 40) -> LabelledImages:
    """Grey images of 4×4 pixels around one random image for each class: easy to learn."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.randint(60, 196, (classes, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    labels = torch.arange(size) % classes
    change = torch.randint(-noise, noise + 1, (size, 1, 4, 4), generator=random)
    images = (centres[labels] + change).clamp(0, 255).to(torch.uint8)
    return LabelledImages(images, labels, tuple(map(str, range(classes))))


def hidden(width: int = 64, classes: int = 4) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.ReLU(), nn.Linear(width, classes))


def linear(classes: int = 4) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))


def subject(make=hidden, train=None, test=None, **settings) -> Subject:
    train = blobs(96) if train is None else train
    settings = {"epochs": 30, "batch_size": 16, "learning_rate": 1e-2, **settings}
    return Subject(
        make,
        train,
        blobs(64, train.num_classes, seed=2) if test is None else test,
        channel_statistics(train.images),
        dn.ExamineConfig(**settings),
        Fabric(accelerator="cpu", devices=1),
    )


def require_shown(section: Section, result: object) -> None:
    """A result is the same after its file, and everything on the page can be made from it."""
    read = from_json(section.result, json.loads(json.dumps(as_json(result))))
    assert read == result
    assert section.sentence(read).endswith(".")
    assert all(figure.axes for figure in section.figures(read).values())
    for table in section.tables(read):
        assert {len(row) for row in table.rows} == {len(table.head)}
