"""The parts of a unit: the cell, the training on the data, the noise fit.

Each is a function of the settings and the seed alone, and returns JSON values.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from darts_noise.cli.train import TrainCLI
from darts_noise.nets.network import create_model
from darts_noise.nets.width import channels_for
from darts_noise.noise.datasets import root_of_others
from darts_noise.report.card import (
    count_multiply_adds,
    count_parameters,
    describe_hardware,
    finite,
)
from darts_noise.search.module import SearchModule
from darts_noise.space.genotype import Genotype
from darts_noise.space.published import load_genotype
from darts_noise.space.spaces import Space
from darts_noise.study.cells import all_skip_cell, matched_cell, random_cell
from darts_noise.study.networks import GIVEN, Compared
from darts_noise.study.scripts import (
    Trained,
    search_cell,
    search_script,
    tested,
    train_network,
    train_script,
)
from darts_noise.study.settings import (
    CONTROLS,
    POSITIVE_CONTROL,
    Family,
    Protocol,
    StudySettings,
)
from darts_noise.train import control_networks
from darts_noise.train.module import TrainModule
from darts_noise.train.networks import Factory
from darts_noise.train.noise_fit import noise_fit
from darts_noise.train.noise_record import CONTROL_ACCURACY

Record = dict[str, Any]
FIGURES = {
    "validation_accuracy": "val/accuracy",
    "twin_noise_accuracy": "noise/accuracy",
    "penalty": "noise/penalty",
}
"""What is kept of a search."""
DEVICE = ("accelerator", "devices", "precision")
RECIPE = ("gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches")
"""Keys of the Trainer that the noise measurements share with the training: the quick one all."""


class Worker:
    """Makes the parts of a study's units.

    Args:
        settings: of the study.
        folder: where unfinished noise fits are kept.
        root: folder of the data; None for the configs'.
    """

    def __init__(self, settings: StudySettings, folder: Path, root: str | None) -> None:
        self.settings, self.folder, self.root = settings, folder, root

    def cell(self, network: Compared, seed: int, origin: Record | None) -> Record:
        """The cell of a network, and which keys of its training it decides.

        Args:
            network: of cells.
            seed: of the search, or of what is drawn.
            origin: the same of the network whose cell this one takes or matches.

        Returns:
            ``genotype``, ``model`` and, of a search, its last figures.
        """
        with _Clock() as clock:
            model: dict[str, Any] = {}
            figures: Record = {}
            if origin is not None:
                genotype = Genotype.from_dict(origin["genotype"])
                if network.control == "matched":
                    genotype, model["channels"] = self._match(origin, network, seed)
            elif network.control == GIVEN:
                genotype = load_genotype(network.sources[seed])
            elif network.control == "random":
                genotype = random_cell(self._space(), seed)
            elif network.control == "all_skip":
                genotype = all_skip_cell(self._space().nodes)
            else:
                genotype, figures = self._search(network, seed)
            if self.settings.parameters is not None and network.control != "matched":
                form = self._form(network, seed)
                model["channels"] = channels_for(genotype, self.settings.parameters, **form)
        return {
            "genotype": genotype.to_dict(),
            "model": model,
            **finite(figures),
            "seconds": clock.seconds,
        }

    def test(self, network: Compared, seed: int, cell: Record | None) -> Record:
        """Trains the network on the data and tests it."""
        return self._trained(network, seed, cell, tested)

    def validation(self, network: Compared, seed: int, cell: Record | None) -> Record:
        """Trains the network on the data; no figure comes from the test images."""
        return self._trained(network, seed, cell, lambda cli, trained: {})

    def noise(
        self,
        network: Compared,
        seed: int,
        cell: Record | None,
        family: Family,
        protocol: Protocol,
        file: str,
    ) -> Record:
        """How far the network can be trained to fit noise; see `darts_noise.NoiseFit`.

        Args:
            network: what is measured.
            seed: of the noise set, and of what the trainings start from.
            cell: of a network of cells.
            family: of the noise.
            protocol: ``converged`` or ``quick``.
            file: name of the file of the trainings so far.
        """
        cli = self._training(network, seed, cell)
        module, data, trainer = cli.model, cli.datamodule, cli.config["trainer"]
        data.setup()
        common: dict[str, Any] = {
            "protocol": protocol,
            "family": family,
            "seed": seed,
            "root": root_of_others(data.name, data.config.root),
            "recipe": module.config,
        }
        if protocol == "quick":
            assert self.settings.quick is not None
            common |= {
                "samples": self.settings.quick.samples,
                "epochs": trainer["max_epochs"],
                "batch_size": data.config.batch_size,
                "trainer": {key: trainer[key] for key in (*DEVICE, *RECIPE)},
            }
        else:
            how = self.settings.converged
            positive = network.control == POSITIVE_CONTROL
            common |= {
                "samples": how.samples,
                "epochs": how.epochs,
                "batch_size": how.batch_size,
                "grid": how.grid(
                    self._own(network).get("weight_decay", 0.0),
                    CONTROL_ACCURACY if positive else None,
                ),
                "controls": {},
                "trainer": {key: trainer[key] for key in DEVICE},
                "path": self.folder / f"{file}.json",
                "progress": False,
            }
        try:
            return noise_fit(self._network(network, cell), data.train, **common).to_dict()
        except SystemExit:  # how Lightning leaves after a signal
            raise KeyboardInterrupt from None

    def _search(self, network: Compared, seed: int) -> tuple[Genotype, Record]:
        cli = search_script(
            self.settings.search,
            seed,
            self.root,
            noise_weight=network.noise_weight,
            noise_family=self.settings.noise_family,
        )
        genotype, figures = search_cell(cli)
        return genotype, {name: figures.get(key) for name, key in FIGURES.items()}

    def _space(self) -> Space:
        module = search_script(self.settings.search, 0, self.root).model
        assert isinstance(module, SearchModule)
        return module.space

    def _match(self, origin: Record, network: Compared, seed: int) -> tuple[Genotype, int]:
        count = self._counted(network, seed)
        channels = self._training(network, seed, origin).model.config.channels
        target = count(Genotype.from_dict(origin["genotype"]), channels)
        return matched_cell(self._space(), seed, target, count, channels)

    def _counted(self, network: Compared, seed: int) -> Callable[[Genotype, int], int]:
        """(cell, channels) → parameters of its network on the study's data."""
        form = self._form(network, seed)

        def count(cell: Genotype, channels: int) -> int:
            return count_parameters(create_model(cell, **form, channels=channels))

        return count

    def _form(self, network: Compared, seed: int) -> dict[str, Any]:
        """What `create_model` makes the study's networks of cells with, besides the channels."""
        cli = self._training(network, seed, None)
        data = cli.datamodule
        data.setup()
        form = {key: getattr(cli.model.config, key) for key in ("num_cells", "stem", "stem_stride")}
        return {**form, "num_classes": data.num_classes, "in_channels": data.in_channels}

    def _trained(
        self,
        network: Compared,
        seed: int,
        cell: Record | None,
        judge: Callable[[TrainCLI, Trained], Mapping[str, float]],
    ) -> Record:
        with _Clock() as clock:
            cli = self._training(network, seed, cell)
            trained = train_network(cli, self._network(network, cell))
            epochs = trained.trainer.current_epoch
            judged = judge(cli, trained)
        figures = {"validation_accuracy": trained.figures.get("val/accuracy")}
        figures |= {key.replace("/", "_"): value for key, value in judged.items()}
        return {
            **finite(figures),
            "diverged": trained.diverged,
            "parameters": count_parameters(trained.net),
            "multiply_adds": count_multiply_adds(trained.net, cli.datamodule.image_shape),
            "epochs": epochs,
            "train_samples": len(cli.datamodule.train),
            "hardware": describe_hardware(trained.trainer.strategy.root_device),
            "seconds": clock.seconds,
        }

    def _training(self, network: Compared, seed: int, cell: Record | None) -> TrainCLI:
        model = {**self._own(network), **(cell["model"] if cell else {}), "parameters": None}
        cli = train_script(self.settings.train, seed, self.root, **model)
        assert isinstance(cli.model, TrainModule)
        return cli

    def _own(self, network: Compared) -> dict[str, Any]:
        """What a control's training has of its own."""
        if network.control in (None, GIVEN):
            return {}
        return {**CONTROLS[network.control], **network.own.model}

    def _network(self, network: Compared, cell: Record | None) -> Genotype | Factory:
        if cell is not None:
            return Genotype.from_dict(cell["genotype"])
        assert network.control is not None
        make: Factory = getattr(control_networks, network.control)
        if network.control == POSITIVE_CONTROL:
            return partial(control_networks.resnet18, stem_stride=network.own.stem_stride)
        return make


class _Clock:
    """Wall time of a block."""

    def __enter__(self) -> "_Clock":
        self.started = time.perf_counter()
        return self

    def __exit__(self, *reason: object) -> None:
        self.seconds = round(time.perf_counter() - self.started, 1)
