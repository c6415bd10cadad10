"""The bundle of a training: of one that has just ended, or of its run's directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from darts_noise.checkpoints.checkpoint_io import LAST
from darts_noise.data.module import ImageDataModule
from darts_noise.pretrained.bundle import save_pretrained
from darts_noise.pretrained.config import BundleImages
from darts_noise.space.json_file import read_json
from darts_noise.train.module import TrainModule


def trained_images(data: ImageDataModule) -> BundleImages:
    """What a bundle says of the images that a network was trained on."""
    height, width = data.image_shape[1:]
    return BundleImages(
        data.name,
        (height, width),
        data.normalisation.mean,
        data.normalisation.std,
        data.dataset.train.classes,
    )


def bundle_run(run: Path, folder: Path) -> Path:
    """Writes the network of a training run, at the end of its training, as a bundle.

    Args:
        run: the directory that ``train.py`` left; the data must be where they were.
        folder: of the bundle.

    Returns:
        The folder.

    Raises:
        ValueError: no training run, or data that are not there; the message names the file.
        OSError: the folder cannot be written to.
    """
    card: Mapping[str, Any] = read_json(run / "card.json")
    path = run / "config.yaml"
    try:
        settings = yaml.safe_load(path.read_text("utf-8"))["data"]
        data = ImageDataModule(**settings)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: not the config of a training") from None
    data.setup()
    module = TrainModule.load_from_checkpoint(run / "checkpoints" / LAST)
    return save_pretrained(module.net, folder, images=trained_images(data), card=card)
