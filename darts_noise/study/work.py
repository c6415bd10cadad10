"""The parts of a unit: the cell, the training on the data, the noise fit.

Each is a function of the settings and the seed alone, and returns JSON values.
"""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from darts_noise.data.module import ImageDataModule
from darts_noise.nets.network import create_model
from darts_noise.noise.datasets import root_of_others
from darts_noise.report.card import count_multiply_adds, count_parameters
from darts_noise.search.module import SearchModule
from darts_noise.space.genotype import Genotype
from darts_noise.study.cells import all_skip_cell, matched_cell, random_cell
from darts_noise.study.networks import Compared
from darts_noise.study.scripts import (
    search_cell,
    search_script,
    train_network,
    train_script,
)
from darts_noise.study.settings import CONTROLS, POSITIVE_CONTROL, Protocol, StudySettings
from darts_noise.train import control_networks
from darts_noise.train.module import TrainModule
from darts_noise.train.networks import FORM, NetworkLike
from darts_noise.train.noise_fit import noise_fit
from darts_noise.train.noise_record import CONTROL_ACCURACY

Record = dict[str, Any]
DEVICE = ("accelerator", "devices", "precision")
QUICK_TRAINER = (
    *DEVICE,
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "accumulate_grad_batches",
)


class Worker:
    """Makes the parts of a study's units.

    Args:
        settings: of the study.
        folder: of the study; unfinished noise fits are kept below it.
        root: folder of the data; None for the configs'.
    """

    def __init__(self, settings: StudySettings, folder: Path, root: str | None) -> None:
        self.settings, self.folder, self.root = settings, folder, root

    def cell(self, network: Compared, seed: int, origin: Record | None) -> Record:
        """The cell of a network, and which keys of its training it decides.

        Args:
            network: of cells.
            seed: of the search, or of what is drawn.
            origin: the same of the network that this one's cell comes from.

        Returns:
            ``genotype``, ``model``, ``seconds`` and, of a search, its last figures.
        """
        started = time.perf_counter()
        model: dict[str, Any] = {}
        figures: Record = {}
        if network.control is None:
            genotype, figures = self._search(network.noise_weight or 0.0, seed)
        elif network.control == "random":
            genotype = random_cell(self._space(), seed)
        elif network.control == "all_skip":
            genotype = all_skip_cell(self._space().nodes)
        else:
            assert origin is not None
            genotype = Genotype.from_dict(origin["genotype"])
            if network.control == "matched":
                genotype, model["channels"] = self._match(genotype, network, seed)
        return {
            "genotype": genotype.to_dict(),
            "model": model,
            **figures,
            "seconds": round(time.perf_counter() - started, 1),
        }

    def _search(self, noise_weight: float, seed: int) -> tuple[Genotype, Record]:
        cli = search_script(
            self.settings.search,
            seed,
            self.root,
            noise_weight=noise_weight,
            noise_family=self.settings.noise_family,
        )
        genotype, figures = search_cell(cli)
        named = {
            "validation_accuracy": "val/accuracy",
            "twin_noise_accuracy": "noise/accuracy",
            "penalty": "noise/penalty",
        }
        return genotype, {name: figures.get(key) for name, key in named.items()}

    def _space(self) -> Any:
        module = search_script(self.settings.search, 0, self.root).model
        assert isinstance(module, SearchModule)
        return module.space

    def _match(self, genotype: Genotype, network: Compared, seed: int) -> tuple[Genotype, int]:
        module, data = self._training(network, seed, {})
        form = {key: module.hparams[key] for key in FORM}

        def count(cell: Genotype, channels: int) -> int:
            sizes = {"num_classes": data.num_classes, "in_channels": data.in_channels}
            return count_parameters(create_model(cell, **{**form, **sizes, "channels": channels}))

        target = count(genotype, form["channels"])
        return matched_cell(self._space(), seed, target, count, form["channels"])

    def test(self, network: Compared, seed: int, cell: Record | None) -> Record:
        """Trains the network on the data and tests it.

        Returns:
            ``test_accuracy`` and what is known of the network and its training.
        """
        started = time.perf_counter()
        cli = train_script(self.settings.train, seed, self.root, **self._model(network, cell))
        trained = train_network(cli, self._network(network, cell))
        return {
            "test_accuracy": trained.figures["test/accuracy"],
            "test_loss": trained.figures["test/loss"],
            "validation_accuracy": trained.figures.get("val/accuracy"),
            "diverged": trained.diverged,
            "parameters": count_parameters(trained.module.net),
            "multiply_adds": count_multiply_adds(trained.module.net, cli.datamodule.image_shape),
            "epochs": trained.epochs,
            "train_samples": len(cli.datamodule.train),
            "seconds": round(time.perf_counter() - started, 1),
        }

    def noise(
        self,
        network: Compared,
        seed: int,
        cell: Record | None,
        family: Any,
        protocol: Protocol,
        key: str,
    ) -> Record:
        """How far the network can be trained to fit noise; see `darts_noise.NoiseFit`."""
        module, data = self._training(network, seed, self._model(network, cell))
        cli_trainer = self._trainer_settings(network, seed, cell)
        common: dict[str, Any] = {
            "protocol": protocol,
            "family": family,
            "seed": seed,
            "root": root_of_others(data.name, data.root),
            "recipe": {k: v for k, v in module.hparams.items() if k != "genotype"},
        }
        if protocol == "quick":
            assert self.settings.quick is not None
            fit = noise_fit(
                self._network(network, cell),
                data.train,
                samples=self.settings.quick.samples,
                epochs=cli_trainer["max_epochs"],
                batch_size=data.batch_size,
                trainer={key: cli_trainer[key] for key in QUICK_TRAINER},
                **common,
            )
        else:
            how = self.settings.converged
            is_control = network.control == POSITIVE_CONTROL
            fit = noise_fit(
                self._network(network, cell),
                data.train,
                samples=how.samples,
                epochs=how.epochs,
                batch_size=how.batch_size,
                grid=how.grid(
                    weight_decay=self._own_model(network).get("weight_decay", 0.0),
                    enough=CONTROL_ACCURACY if is_control else None,
                ),
                controls={},
                trainer={key: cli_trainer[key] for key in DEVICE},
                path=self.folder / "noise_runs" / f"{key.replace('/', '-')}.json",
                progress=False,
                **common,
            )
        return fit.to_dict()

    def _own_model(self, network: Compared) -> dict[str, Any]:
        """What a control's training has of its own."""
        if network.control is None:
            return {}
        return {**CONTROLS[network.control], **network.own.model}

    def _model(self, network: Compared, cell: Record | None) -> dict[str, Any]:
        return {**self._own_model(network), **(cell["model"] if cell else {})}

    def _network(self, network: Compared, cell: Record | None) -> NetworkLike:
        if cell is not None:
            return Genotype.from_dict(cell["genotype"])
        assert network.control is not None
        make = getattr(control_networks, network.control)
        if network.control == POSITIVE_CONTROL:
            return partial(make, stem_stride=network.own.stem_stride)
        return make  # type: ignore[no-any-return]

    def _training(
        self, network: Compared, seed: int, model: Mapping[str, Any]
    ) -> tuple[TrainModule, ImageDataModule]:
        cli = train_script(self.settings.train, seed, self.root, **model)
        cli.datamodule.setup()
        assert isinstance(cli.model, TrainModule)
        return cli.model, cli.datamodule

    def _trainer_settings(
        self, network: Compared, seed: int, cell: Record | None
    ) -> Mapping[str, Any]:
        cli = train_script(self.settings.train, seed, self.root, **self._model(network, cell))
        settings: Mapping[str, Any] = cli.config["trainer"]
        return settings
