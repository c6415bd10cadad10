"""Train an ensemble as ordinary training runs, and evaluate networks as an ensemble."""

from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor

from darts_noise.attacks.pixels import OnPixels
from darts_noise.attacks.settings import AttackConfig
from darts_noise.configured import config_of, require_at_least
from darts_noise.data.module import ImageDataModule
from darts_noise.errors import SettingError, about
from darts_noise.examine.ensembles import EnsembleResult, evaluate_members, examples
from darts_noise.nets.network import Network
from darts_noise.pretrained.bundle import load_pretrained, pretrained_config
from darts_noise.report.tsne import draw_tsne
from darts_noise.runs.folder import (
    CONFIG,
    MEMBERS,
    create_run,
    find_run,
    has_ended,
    members_of,
    note_plugins,
    point_latest,
    read_run_config,
    remove_run,
    write_config,
)
from darts_noise.runs.robustness import images_of, test_images
from darts_noise.runs.run import Interrupted, with_epochs
from darts_noise.runs.settings import RunConfig, TrainerConfig
from darts_noise.runs.train import EPOCHS, all_settings, require_classes, train
from darts_noise.space.genotype import Genotype
from darts_noise.space.json_file import shown_path
from darts_noise.space.published import load_genotype
from darts_noise.train.settings import NoiseConfig, TrainConfig

KIND = "ensemble"


@dataclass(frozen=True)
class TrainedEnsemble:
    """The result of `train_ensemble`.

    Attributes:
        path: the folder of the ensemble.
        members: the folders of its training runs.
    """

    path: Path
    members: tuple[Path, ...]


def train_ensemble(
    genotype: Genotype | str | Path,
    data: ImageDataModule,
    config: TrainConfig | None = None,
    *,
    members: int = 5,
    noise: NoiseConfig | None = None,
    trainer: TrainerConfig | None = None,
    run: RunConfig | None = None,
    console: Console | None = None,
) -> TrainedEnsemble:
    """Train networks of one cell with different seeds, and write ``runs/ensemble/<name>``.

    Member i is the training run ``train/<i>`` in this folder. Its seeds are those of `config` and
    `data` plus i, so its initial weights, its order of images and its augmentation are its own. All
    members have the same training and validation images. With ``bootstrap`` in the config of the
    data, each member has its own bootstrap sample of the training images.

    Args:
        genotype: as for `train`.
        data: the images. Only its config is used.
        config: the networks and their recipe.
        members: number of networks, 2 or more. Default: 5.
        noise: the measurement of noise fit of each member. None: no measurement.
        trainer: Lightning's Trainer. Each member is trained on one device.
        run: the folder, the tracking, and the stopped ensemble to resume. Members that have ended
            are not trained again.
        console: where to show progress. None: standard output.

    Raises:
        ValueError: as for `train`.
        Interrupted: a signal stopped it. It can be resumed.
    """
    require_classes(data, config, noise, trainer, run)
    require_at_least(2, members=members)
    config, run = config or TrainConfig(), run or RunConfig()
    trainer = with_epochs(trainer or TrainerConfig(), EPOCHS)
    if trainer.devices not in ("auto", 1, "1") or trainer.num_nodes != 1:
        raise SettingError(
            "trainer.devices",
            "expected 1, because each member of an ensemble is trained on one device, "
            f"got {trainer.devices}",
        )
    trainer = replace(trainer, devices=1)
    noise = noise or NoiseConfig(check=False)
    of_members = [_of_member(config, data, number) for number in range(members)]
    with about("model.genotype"):
        cell = load_genotype(genotype)
    if run.resume is not None:
        path = find_run(run.runs, KIND, run.resume)
        settings = read_run_config(path)
        # The folder may have been moved since.
        settings["model"]["genotype"] = str(path / "genotype.json")
    else:
        path = create_run(run.runs, KIND, run.name, data.name)
        settings = all_settings(path, genotype, cell, config, noise, data, trainer, run)
        write_config(path, {MEMBERS: members, **settings})
        note_plugins(path, run.plugins)
    point_latest(path)
    folders = []
    for number, (recipe, images) in enumerate(of_members):
        folder = path / "train" / str(number)
        folders.append(folder)
        with suppress(OSError):
            folder.rmdir()  # of a start that was killed at once
        if has_ended(folder):
            continue
        name = str(number)
        started = name if (folder / CONFIG).is_file() else None
        own_run = replace(run, runs=str(path), name=name, resume=started)
        try:
            train(
                settings["model"]["genotype"],
                images,
                recipe,
                noise=noise,
                trainer=replace(trainer, callbacks=deepcopy(trainer.callbacks)),
                run=own_run,
                console=console,
            )
        except Interrupted as stop:
            raise Interrupted(path, stop.status, *stop.hints) from None
        except SettingError:
            if run.resume is None and not folders[0].exists():  # refused before the first step
                remove_run(path)
            raise
    return TrainedEnsemble(path, tuple(folders))


def _of_member(
    config: TrainConfig, data: ImageDataModule, number: int
) -> tuple[TrainConfig, ImageDataModule]:
    """Return the settings and the images of a member."""
    c = data.config
    split_seed = c.seed if c.split_seed is None else c.split_seed
    own = ImageDataModule(replace(c, seed=c.seed + number, split_seed=split_seed))
    return replace(config, seed=config.seed + number), own


def evaluate_ensemble(
    members: Sequence[str | Path],
    data: ImageDataModule | None = None,
    config: AttackConfig | None = None,
    *,
    outside: str | Path | None = None,
    **settings: Any,
) -> EnsembleResult:
    """Measure the accuracy, the calibration and the robustness of networks that decide together.

    Args:
        members: folders of training runs or of bundles, names of shipped networks, or folders of
            ensembles; 2 networks or more. Each has its own normalisation.
        data: the images. None: the data of the first network.
        config: the attacks.
        outside: a network outside the ensemble, to make examples on. None: none.
        settings: fields of `AttackConfig` by name, such as ``norm="l2"``.

    Raises:
        ValueError: a setting is invalid, a network or its data do not exist, or the networks do not
            have the same classes.

    >>> found = evaluate_ensemble(
    ...     ["digits", "digits"], attacks=("fgsm",), eps=(0.1,), samples=40
    ... )
    >>> found.accuracy["vote"] == found.accuracy["single"]
    True
    """
    config = config_of(AttackConfig, config, settings)
    sources = members_of(members)
    nets, data = _on_pixels(sources, data)
    others, data = _on_pixels([] if outside is None else [outside], data, "outside")
    images, labels = test_images(data, config.samples, config.seed)
    return evaluate_members(nets, images, labels, config, *others)


def draw_features(
    net: str | Path,
    data: ImageDataModule | None = None,
    config: AttackConfig | None = None,
    **settings: Any,
) -> Figure:
    """Draw the pooled features of test images as they are and under attack, by t-SNE.

    The attack is the first of `config`, with the largest size of a change.

    Args:
        net: as for `load_pretrained`.
        data, config, settings: as for `evaluate_ensemble`.
    """
    config = config_of(AttackConfig, config, settings)
    [on_pixels], data = _on_pixels([net], data)
    images, labels = test_images(data, config.samples, config.seed)
    attack, size = config.attacks[0], config.sizes[-1]
    changed = examples(on_pixels, images, labels, config, attack, size)
    network = on_pixels.net
    assert isinstance(network, Network)

    @torch.no_grad()
    def features(pixels: Tensor) -> Tensor:
        parts = [on_pixels.normalisation(255 * x) for x in torch.split(pixels, config.batch_size)]
        maps = [network.forward_features(part) for part in parts]
        return torch.cat([network.forward_head(part, pre_logits=True) for part in maps])

    title = f"Features of {len(images)} test images, {attack}, {config.norm} ≤ {size:g}"
    return draw_tsne(features(images), features(changed), labels, config.seed, title)


def _on_pixels(
    sources: Sequence[str | Path], data: ImageDataModule | None, key: str = MEMBERS
) -> tuple[list[OnPixels], ImageDataModule]:
    """Return the networks with their normalisations, and their data, which are set up.

    Errors name the setting `key`.
    """
    nets = []
    for source in sources:
        module = load_pretrained(source)
        normalisation, data = images_of(source, module, data)
        _require_same_images(source, data, key)
        nets.append(OnPixels(module, normalisation))
    assert data is not None
    return nets, data


def _require_same_images(source: str | Path, data: ImageDataModule, key: str) -> None:
    """Raise a `SettingError` if a network was trained on images of other classes or size."""
    trained, size = pretrained_config(source).images, data.image_shape[1:]
    if trained is not None and (trained.classes, trained.image_size) != (data.test.classes, size):
        raise SettingError(
            key,
            f"expected networks for the {size[0]}×{size[1]} images of {data.name}, and its "
            f"classes; {shown_path(Path(source))} was trained on others",
        )
