"""Classify image files with a trained network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from darts_noise.data.crops import central_crops
from darts_noise.data.decoding import Decoding
from darts_noise.pretrained.bundle import load_pretrained, pretrained_config
from darts_noise.shown import shown

BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """The class of one image.

    Attributes:
        image: the file.
        label: the most probable class.
        probability: its probability, from 0 to 1.
        probabilities: every class → its probability.
    """

    image: Path
    label: str
    probability: float
    probabilities: Mapping[str, float]


def predict(source: str | Path, images: Sequence[str | Path]) -> list[Prediction]:
    """Classify image files on the CPU. The files are prepared like the test images of the training.

    Args:
        source: the name of a shipped network, the folder of a bundle or of a training run.
        images: image files of any size.

    Raises:
        ValueError: the network does not exist, does not state its classes, or a file is not an
            image. The message names it.

    >>> predict("digits", ["four.png"])[0].label  # doctest: +SKIP
    '4'
    """
    trained = pretrained_config(source).images
    net = load_pretrained(source)
    if trained is None or not net.num_classes:
        raise ValueError(
            f"{shown(str(source))}: expected a network with classes and the size of its images; "
            "save_pretrained(..., images=...) states them"
        )
    files = list(map(Path, images))
    for file in files:
        if file.is_dir():
            raise ValueError(f"{file}: expected an image file, got a folder; name its files")
    found = []
    for start in range(0, len(files), BATCH):
        part = files[start : start + BATCH]
        crops = central_crops(len(part), trained.image_size, trained.crop_pct)
        pixels = Decoding(part, trained.image_size, len(trained.mean) == 1, crops).result()
        with torch.inference_mode():
            logits = net(trained.normalisation(pixels))  # (B, classes)
        for file, row in zip(part, logits.softmax(-1).tolist(), strict=True):
            probabilities = dict(zip(trained.classes, row, strict=True))
            best = max(range(len(row)), key=row.__getitem__)
            found.append(Prediction(file, trained.classes[best], row[best], probabilities))
    return found
