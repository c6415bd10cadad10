"""The parts of a unit: the cell, the training on the data, the noise fit.

Each is a function of the settings and the seed alone, and returns JSON values.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from darts_noise.data.module import ImageDataModule
from darts_noise.nets.network import create_model
from darts_noise.nets.width import channels_for
from darts_noise.noise.datasets import root_of_others
from darts_noise.report.card import (
    count_multiply_adds,
    count_parameters,
    describe_hardware,
    finite,
)
from darts_noise.runs.run import with_epochs
from darts_noise.runs.search import find_cell
from darts_noise.runs.stops import interruptible
from darts_noise.runs.train import EPOCHS, Trained, train_network
from darts_noise.space.genotype import Genotype
from darts_noise.space.published import load_genotype
from darts_noise.space.spaces import Space, get_space
from darts_noise.study.cells import all_skip_cell, matched_cell, random_cell
from darts_noise.study.settings import POSITIVE_CONTROL, StudyConfig
from darts_noise.study.units import GIVEN, Compared, Protocol
from darts_noise.train.control_networks import CONTROL_NETWORKS, resnet18
from darts_noise.train.networks import Factory
from darts_noise.train.noise_fit import noise_fit
from darts_noise.train.noise_record import CONTROL_ACCURACY
from darts_noise.train.settings import NoiseFamily, TrainConfig

Record = dict[str, Any]
FIGURES = {
    "validation_accuracy": "val/accuracy",
    "twin_noise_accuracy": "noise/accuracy",
    "penalty": "noise/penalty",
}
"""What is kept of a search."""
DEVICE = ("accelerator", "devices", "precision")
RECIPE = ("gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches")
"""Arguments of the Trainer that the noise fits share with the training: the quick one all."""


class Worker:
    """Makes the parts of a study's units.

    Args:
        config: of the study.
        folder: where unfinished noise fits are kept.
    """

    def __init__(self, config: StudyConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.trainer = with_epochs(config.train.trainer, EPOCHS)

    def cell(self, network: Compared, seed: int, origin: Record | None) -> Record:
        """Return the cell of a network, and which fields of its `TrainConfig` it decides.

        Args:
            network: of cells.
            seed: of the search, or of what is drawn.
            origin: the same of the network whose cell this one takes or matches.

        Returns:
            ``genotype``, ``model`` and, of a search, its last figures.
        """
        started = time.perf_counter()
        model: dict[str, Any] = {}
        figures: dict[str, float | None] = {}
        if origin is not None:
            genotype = Genotype.from_dict(origin["genotype"])
            if network.control == "matched":
                genotype, model["channels"] = self._match(genotype, origin, network, seed)
        elif network.control == GIVEN:
            genotype = load_genotype(network.sources[seed])
        elif network.control == "random":
            genotype = random_cell(self._space(), seed)
        elif network.control == "all_skip":
            genotype = all_skip_cell(self._space().nodes)
        else:
            genotype, figures = self._search(network, seed)
        if self.config.parameters is not None and network.control != "matched":
            form = self._form(network, seed)
            model["channels"] = channels_for(genotype, self.config.parameters, **form)
        return {
            "genotype": genotype.to_dict(),
            "model": model,
            **finite(figures),
            "seconds": _since(started),
        }

    def test(self, network: Compared, seed: int, cell: Record | None) -> Record:
        """Train the network on the data and test it."""
        return self._trained(network, seed, cell, Trained.test)

    def validation(self, network: Compared, seed: int, cell: Record | None) -> Record:
        """Train the network on the data; no figure comes from the test images."""
        return self._trained(network, seed, cell, lambda trained: {})

    def noise(
        self,
        network: Compared,
        seed: int,
        cell: Record | None,
        family: NoiseFamily,
        protocol: Protocol,
        file: str,
    ) -> Record:
        """Measure how far the network can be trained to fit noise; see `darts_noise.NoiseFit`.

        Args:
            network: what is measured.
            seed: of the noise set, and of what the trainings start from.
            cell: of a network of cells.
            family: of the noise.
            protocol: ``converged`` or ``quick``.
            file: name of the file of the trainings so far.
        """
        data, recipe = self._training(network, seed, cell)
        data.setup()
        how: dict[str, Any]
        if protocol == "quick":
            assert self.config.quick is not None
            how = {
                "samples": self.config.quick.samples,
                "epochs": self.trainer.max_epochs,
                "batch_size": data.config.batch_size,
                "trainer": {key: getattr(self.trainer, key) for key in (*DEVICE, *RECIPE)},
            }
        else:
            converged, positive = self.config.converged, network.control == POSITIVE_CONTROL
            how = {
                "samples": converged.samples,
                "epochs": converged.epochs,
                "batch_size": converged.batch_size,
                "grid": converged.grid(
                    network.own.model.get("weight_decay", 0.0),
                    CONTROL_ACCURACY if positive else None,
                ),
                "controls": {},
                "trainer": {key: getattr(self.trainer, key) for key in DEVICE},
                "path": self.folder / f"{file}.json",
                "progress": False,
            }
        with interruptible():
            return noise_fit(
                self._network(network, cell),
                data.train,
                protocol=protocol,
                family=family,
                seed=seed,
                root=root_of_others(data.name, data.config.root),
                recipe=recipe,
                **how,
            ).to_dict()

    def _search(self, network: Compared, seed: int) -> tuple[Genotype, dict[str, float | None]]:
        setup = self.config.search
        assert network.noise_weight is not None
        config = replace(
            setup.model,
            noise_weight=network.noise_weight,
            noise_family=self.config.noise_family,
            seed=seed,
        )
        data = ImageDataModule(replace(setup.data, seed=seed))
        genotype, figures = find_cell(data, config, setup.trainer)
        return genotype, {name: figures.get(key) for name, key in FIGURES.items()}

    def _space(self) -> Space:
        config = self.config.search.model
        return get_space(config.space, config.nodes).narrowed(config.macro or {})

    def _match(
        self, genotype: Genotype, origin: Record, network: Compared, seed: int
    ) -> tuple[Genotype, int]:
        form = self._form(network, seed)

        def count(cell: Genotype, channels: int) -> int:
            return count_parameters(create_model(cell, **form, channels=channels))

        channels = self._training(network, seed, origin)[1].channels
        return matched_cell(self._space(), seed, count(genotype, channels), count, channels)

    def _form(self, network: Compared, seed: int) -> dict[str, Any]:
        """Return what `create_model` makes networks of cells with, besides the channels."""
        data, config = self._training(network, seed, None)
        data.setup()
        form = {key: getattr(config, key) for key in ("num_cells", "stem", "stem_stride")}
        return {**form, "num_classes": data.num_classes, "in_channels": data.in_channels}

    def _trained(
        self,
        network: Compared,
        seed: int,
        cell: Record | None,
        judge: Callable[[Trained], Mapping[str, float]],
    ) -> Record:
        started = time.perf_counter()
        data, config = self._training(network, seed, cell)
        trained = train_network(self._network(network, cell), data, config, self.trainer)
        figures = {"validation_accuracy": trained.figures.get("val/accuracy")}
        figures |= {key.replace("/", "_"): value for key, value in judge(trained).items()}
        net = trained.module.net
        return {
            **finite(figures),
            "diverged": trained.diverged,
            "parameters": count_parameters(net),
            "multiply_adds": count_multiply_adds(net, data.image_shape),
            "epochs": trained.epochs,
            "train_samples": len(data.train),
            "hardware": describe_hardware(trained.trainer.strategy.root_device),
            "seconds": _since(started),
        }

    def _training(
        self, network: Compared, seed: int, cell: Record | None
    ) -> tuple[ImageDataModule, TrainConfig]:
        setup = self.config.train
        changes = {**network.own.model, **(cell["model"] if cell else {})}
        config = replace(setup.model, **changes, parameters=None, genotype=None, seed=seed)
        return ImageDataModule(replace(setup.data, seed=seed)), config

    def _network(self, network: Compared, cell: Record | None) -> Genotype | Factory:
        if cell is not None:
            return Genotype.from_dict(cell["genotype"])
        assert network.control is not None
        if network.control == POSITIVE_CONTROL:
            return partial(resnet18, stem_stride=network.own.stem_stride)
        return CONTROL_NETWORKS[network.control]


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 1)
