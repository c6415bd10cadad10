"""The work of a unit: find a cell, train it on the data, or measure its noise fit.

Each result depends only on the settings and the seed, and consists of JSON values.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from darts_noise.data.module import ImageDataModule
from darts_noise.errors import SettingError
from darts_noise.nets.network import create_model
from darts_noise.nets.width import channels_for
from darts_noise.noise.datasets import root_of_others
from darts_noise.report.card import finite
from darts_noise.report.measured import count_multiply_adds, count_parameters, describe_hardware
from darts_noise.runs.folder import read_run_config, remove_run
from darts_noise.runs.run import stated_settings, with_epochs
from darts_noise.runs.search import EPOCHS as SEARCH_EPOCHS
from darts_noise.runs.search import search
from darts_noise.runs.settings import RunConfig
from darts_noise.runs.stops import interruptible
from darts_noise.runs.train import EPOCHS, Trained, train_network
from darts_noise.search.parts import spaces_of
from darts_noise.space.genotype import Genotype
from darts_noise.space.published import load_genotype
from darts_noise.space.spaces import Space
from darts_noise.study.cells import all_skip_cell, matched_cell, random_cell
from darts_noise.study.settings import GROUPS, POSITIVE_CONTROL, StudyConfig
from darts_noise.study.units import GIVEN, Compared
from darts_noise.train.control_networks import CONTROL_NETWORKS, resnet18, with_batch_norm
from darts_noise.train.factories import Factory
from darts_noise.train.noise_fit import noise_fit
from darts_noise.train.noise_record import CONTROL_ACCURACY
from darts_noise.train.settings import NoiseFamily, TrainConfig

Record = dict[str, Any]
FIGURES = (
    *("twin_noise_accuracy", "penalty", "objective", "objective_values"),
    "gradient_steps",
)
"""The figures of a search's card that a record keeps, besides its validation accuracy."""
DEVICE = ("accelerator", "devices", "precision")
RECIPE = ("gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches")
FROM_TRAINING = {"converged": DEVICE, "quick": (*DEVICE, *RECIPE)}
"""Arguments of the Trainer that a noise fit takes from the training on the data."""


class SeedRuns:
    """The runs of one network and seed.

    Args:
        config: the settings of the study.
        network: the network. Its key names the folder of its search.
        seed: the seed.
        folder: folder of the study. Unfinished searches and noise fits continue from files in it.
    """

    def __init__(self, config: StudyConfig, network: Compared, seed: int, folder: Path) -> None:
        self.config, self.network, self.seed, self.folder = config, network, seed, folder
        self.trainer = with_epochs(config.train.trainer, EPOCHS)

    def cell(self, origin: Record | None) -> Record:
        """Return the cell, the fields of `TrainConfig` that it sets, and the figures of its search.

        Args:
            origin: the same record of the network whose cell is used or matched, or whose gradient
                steps are the budget.
        """
        started, network = time.perf_counter(), self.network
        model: dict[str, Any] = {}
        figures: Record = {}
        if network.control is None:
            genotype, figures = self._search(origin)
        elif origin is not None:
            genotype = Genotype.from_dict(origin["genotype"])
            if network.control == "matched":
                genotype, model["channels"] = self._match(genotype, origin)
            if network.control == "batch_norm":
                genotype = with_batch_norm(genotype) or genotype
        elif network.control == GIVEN:
            genotype = load_genotype(network.sources[self.seed])
        elif network.control == "random":
            genotype = random_cell(self._space(), self.seed)
        else:
            genotype = all_skip_cell(self._space().nodes)
        if self.config.parameters is not None and network.control != "matched":
            model["channels"] = channels_for(genotype, self.config.parameters, **self._arguments())
        return {
            "genotype": genotype.to_dict(),
            "model": model,
            "seconds": _since(started),
            **finite(figures),
        }

    def training(
        self, cell: Record | None, judge: Callable[[Trained], Mapping[str, float]] | None = None
    ) -> Record:
        """Train the network on the data. `judge` returns further figures of the trained network."""
        started = time.perf_counter()
        data, config = self._settings(cell)
        trained = train_network(self._made_of(cell), data, config, self.trainer)
        figures = {"validation_accuracy": trained.figures.get("val/accuracy")}
        if judge is not None:
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

    def noise(self, cell: Record | None, family: NoiseFamily, protocol: str, file: str) -> Record:
        """Measure how well the network can be trained to fit noise; see `darts_noise.NoiseFit`.

        Args:
            cell: the record of the cell. None for a network without cells.
            family: the noise family.
            protocol: ``converged`` or ``quick``.
            file: name of the file of finished trainings (``converged``).
        """
        data, recipe = self._settings(cell)
        data.setup()
        how = self.config.converged
        own: dict[str, Any]
        if protocol == "quick":
            assert self.config.quick is not None
            own = {
                "samples": self.config.quick.samples,
                "epochs": self.trainer.max_epochs,
                "batch_size": data.config.batch_size,
            }
        else:
            grid = {"weight_decay": self.network.own.model.get("weight_decay", 0.0)}
            if self.network.control == POSITIVE_CONTROL:
                grid["enough"] = CONTROL_ACCURACY
            own = {
                "samples": how.samples,
                "epochs": how.epochs,
                "batch_size": how.batch_size,
                "grid": how.grid(**grid),
                "controls": {},
                "path": self.folder / "noise_runs" / file,
                "progress": False,
            }
        with interruptible():
            return noise_fit(
                self._made_of(cell),
                data.train,
                protocol=protocol,
                family=family,
                seed=self.seed,
                root=root_of_others(data.name, data.config.root),
                normalisation=data.normalisation,
                recipe=recipe,
                trainer={key: getattr(self.trainer, key) for key in FROM_TRAINING[protocol]},
                **own,
            ).to_dict()

    def _search(self, origin: Record | None) -> tuple[Genotype, Record]:
        """Search in a folder of its own, or continue the search in it if it has these settings."""
        setup, weight, own = self.config.search, self.network.noise_weight, self.network.settings
        assert weight is not None
        family = self.config.noise_family
        config = replace(
            setup.model, **own, noise_weight=weight, noise_family=family, seed=self.seed
        )
        if origin is not None:
            if not origin.get("gradient_steps"):
                key = f"strategies.{self.network.strategy}.strategy_steps"
                raise SettingError(key, "expected a number, because the study's search has none")
            config = replace(config, strategy_steps=int(origin["gradient_steps"]))
        data = ImageDataModule(replace(setup.data, seed=self.seed))
        name = f"{self.network.key}-seed{self.seed}".replace("+", "")  # of a λ such as 1e+06
        run = RunConfig(name, runs=str(self.folder), wandb="off")
        trainer = with_epochs(setup.trainer, SEARCH_EPOCHS)
        folder = self.folder / "search" / name
        if _has_settings(folder, stated_settings(self.seed, run, trainer, config, data.config)):
            run = replace(run, resume=name)
        else:
            remove_run(folder)
        found = search(data, config, trainer=trainer, run=run, console=Console(quiet=True))
        card = found.card
        # Without a supernet, a search has only the accuracy of the cell.
        accuracy = card.get("validation_accuracy", card.get("cell_validation_accuracy"))
        figures = {"validation_accuracy": accuracy, **{key: card.get(key) for key in FIGURES}}
        return found.genotype, {**figures, "seconds": card["wall_time_s"]}

    def _space(self) -> Space:
        """Return the space of random cells. Seeds take the mappings of a list ``macro`` in turn."""
        spaces = spaces_of(self.config.search.model)
        return spaces[self.seed % len(spaces)]

    def _match(self, genotype: Genotype, origin: Record) -> tuple[Genotype, int]:
        arguments = self._arguments()

        def count(cell: Genotype, channels: int) -> int:
            return count_parameters(create_model(cell, **arguments, channels=channels))

        channels = self._settings(origin)[1].channels
        target, stem = count(genotype, channels), arguments["stem"]
        return matched_cell(self._space(), self.seed, target, count, channels, stem)

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments of `create_model` for a network of a cell, without the channels."""
        data, config = self._settings(None)
        data.setup()
        chosen = {key: getattr(config, key) for key in ("num_cells", "stem", "stem_stride")}
        return {**chosen, "num_classes": data.num_classes, "in_channels": data.in_channels}

    def _settings(self, cell: Record | None) -> tuple[ImageDataModule, TrainConfig]:
        """Return the data and the recipe of the network's training."""
        setup = self.config.train
        changes = {**self.network.own.model, **(cell["model"] if cell else {})}
        config = replace(setup.model, **changes, parameters=None, genotype=None, seed=self.seed)
        return ImageDataModule(replace(setup.data, seed=self.seed)), config

    def _made_of(self, cell: Record | None) -> Genotype | Factory:
        if cell is not None:
            return Genotype.from_dict(cell["genotype"])
        assert self.network.control is not None
        if self.network.control == POSITIVE_CONTROL:
            return partial(resnet18, stem_stride=self.network.own.stem_stride)
        return CONTROL_NETWORKS[self.network.control]


def _has_settings(run: Path, settings: Mapping[str, Any]) -> bool:
    """Return whether a run has these settings, besides its folder and the folder of the data."""
    with suppress(SettingError, TypeError):  # no such run, or a damaged file
        kept = read_run_config(run)
        return all(
            {**kept.get(group, {}), "root": None} == {**settings[group], "root": None}
            for group in GROUPS
        )
    return False


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 1)
