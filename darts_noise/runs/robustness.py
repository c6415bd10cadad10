"""Certify and attack a trained network: a module, the folder of a training run, or a bundle."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from darts_noise.atomic import write_text
from darts_noise.attacks.pixels import OnPixels, device_of
from darts_noise.attacks.settings import AttackConfig
from darts_noise.configured import changed, config_of, require_at_least
from darts_noise.data.batches import BatchStream
from darts_noise.data.images import Normalisation
from darts_noise.data.module import ImageDataModule
from darts_noise.data.settings import DataConfig
from darts_noise.data.splits import stratified_subset
from darts_noise.errors import SettingError
from darts_noise.examine.attacks import AttackResult, attack_images
from darts_noise.examine.certificates import (
    Certificate,
    certified_radii,
    feature_gain,
    require_bounded,
)
from darts_noise.examine.ensembles import EnsembleResult
from darts_noise.nets.gain import ScaledLinear
from darts_noise.nets.network import Network
from darts_noise.pretrained.bundle import load_pretrained, pretrained_config
from darts_noise.reading import evaluating
from darts_noise.runs.folder import CONFIG, read_run_config, require_replaceable

BATCH = 256


def certify(
    net: nn.Module | str | Path,
    data: ImageDataModule | None = None,
    *,
    samples: int | None = None,
    seed: int = 0,
) -> Certificate:
    """Compute how far each test image can change before a network of bounded gain may err.

    Args:
        net: a trained `Network`, the folder of a training run, the folder of a bundle, or the name
            of a shipped network.
        data: the images. With a module it is required, and its normalisation is used. None: the
            data of the training.
        samples: number of test images, with the proportions of the classes. None (default): all.
        seed: seed of the choice of images. Default: 0.

    Raises:
        ValueError: the gain of the network has no known bound, or the network or its data do not
            exist. The message is one line.

    >>> certificate = certify("digits", samples=100)
    >>> 0.5 < certificate.accuracy(0.005) <= certificate.accuracy()
    True
    """
    bounded = require_bounded(net if isinstance(net, nn.Module) else load_pretrained(net))
    normalisation, data = images_of(net, bounded, data)
    device = device_of(bounded)
    radii, correct, gain = [], [], 0.0
    with evaluating(bounded), torch.no_grad():
        for pixels, labels in _pixels(data, samples, seed):
            pixels = pixels.to(device)
            gain = feature_gain(bounded, normalisation, pixels)
            radii.append(certified_radii(bounded, normalisation, pixels).cpu())
            correct.append(OnPixels(bounded, normalisation)(pixels).argmax(1).cpu() == labels)
    assert isinstance(bounded.classifier, ScaledLinear)
    scale = bounded.classifier.scale
    return Certificate(torch.cat(radii), torch.cat(correct), gain, scale)


def attack(
    net: nn.Module | str | Path,
    data: ImageDataModule | None = None,
    config: AttackConfig | None = None,
    **settings: Any,
) -> AttackResult:
    """Attack a trained network with changes of its test images.

    Args:
        net: as for `certify`, or any module that maps normalised images to logits.
        data: as for `certify`.
        config: the attacks.
        settings: fields of `AttackConfig` by name, such as ``norm="l2"``.

    Raises:
        ValueError: a setting is invalid, or the network or its data do not exist.

    >>> attack("digits", attacks=("fgsm",), eps=(0.01, 0.2), samples=50).accuracy()[0] > 0.9
    True
    """
    config = config_of(AttackConfig, config, settings)
    module = net if isinstance(net, nn.Module) else load_pretrained(net)
    normalisation, data = images_of(net, module, data)
    images, labels = test_images(data, config.samples, config.seed)
    radii = None
    with evaluating(module):
        with suppress(SettingError):  # of a network without a certificate
            bounded = require_bounded(module)
            radii = torch.cat(
                [
                    certified_radii(bounded, normalisation, pixels.to(device_of(module))).cpu()
                    for pixels in torch.split(images, BATCH)
                ]
            )
        return attack_images(OnPixels(module, normalisation), images, labels, config, radii)


def write_result(result: AttackResult | Certificate | EnsembleResult, file: Path) -> None:
    """Write a result as JSON. Replace only a file that an earlier call has written.

    Raises:
        SettingError: another file or a folder has this name.
        OSError: the folder is not writable.
    """
    content = result.to_dict()
    require_replaceable(file, content["format"])
    write_text(file, json.dumps(content, indent=1) + "\n")


def images_of(
    net: nn.Module | str | Path, module: nn.Module, data: ImageDataModule | None
) -> tuple[Normalisation, ImageDataModule]:
    """Return the normalisation of a network and its data, which are set up."""
    trained = None if isinstance(net, nn.Module) else pretrained_config(net).images
    if data is None:
        if isinstance(net, nn.Module):
            raise SettingError("data", "expected an ImageDataModule beside a module, got none")
        data = ImageDataModule(changed(DataConfig(), trained_on(net)))
    data.setup()
    normalisation = data.normalisation
    if trained is not None:
        normalisation = Normalisation(trained.mean, trained.std)
    if isinstance(module, Network):
        wanted = (module.num_classes, module.arguments["in_channels"])
        if wanted != (data.num_classes, data.in_channels):
            raise SettingError(
                "data",
                f"expected images of {wanted[0]} classes and {wanted[1]} channels as in the "
                f"training of the network, got {data.num_classes} and {data.in_channels}",
            )
    return normalisation, data


def trained_on(source: str | Path, name: str | None = None) -> dict[str, Any]:
    """Return the settings of the data on which a network was trained, as keys of `DataConfig`.

    Args:
        source: as for `load_pretrained`.
        name: another data set, whose images are prepared alike. None: the one of the training.

    Raises:
        SettingError: a bundle does not state its images.
    """
    if name is None and (Path(source) / CONFIG).is_file():
        data = read_run_config(Path(source)).get("data")
        if isinstance(data, dict) and data:
            return data
    config = pretrained_config(source)
    if name is None and config.images is not None:
        name = config.images.name
    if name is None:
        raise SettingError("data.name", f"expected the data of the network; {source} states none")
    data = {"name": name, "grey": config.model["in_channels"] == 1}
    if config.images is not None:
        data["crop_pct"] = config.images.crop_pct
        if len({*config.images.image_size}) == 1:
            data["image_size"] = config.images.image_size[0]
    return data


def test_images(data: ImageDataModule, samples: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Return test images (N, C, H, W), prepared as in the test but from 0 to 1, and labels (N,).

    Args:
        data: the images, set up.
        samples: number of images, with the proportions of the classes. None: all.
        seed: seed of their choice.
    """
    images, labels = (torch.cat(p) for p in zip(*_pixels(data, samples, seed), strict=True))
    return images, labels


def _pixels(
    data: ImageDataModule, samples: int | None, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of test images, prepared as in the test but with pixels from 0 to 1."""
    test = data.test
    if samples is not None:
        require_at_least(1, samples=samples)
        if samples < len(test):
            test = test.subset(stratified_subset(test.labels, samples, seed))
    plain = Normalisation((0.0,) * data.in_channels, (1.0,) * data.in_channels)
    stream = BatchStream(
        test,
        min(BATCH, len(test)),
        plain,
        crop_pct=data.config.crop_pct,
        shuffle=False,
        drop_last=False,
    )
    for k in range(stream.batches_per_epoch):
        yield stream.batch(k)
