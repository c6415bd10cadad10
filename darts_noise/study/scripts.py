"""``search.py`` and ``train.py`` as a study runs them: their settings and modules, in this process.

The same command line parser reads the same configs, so a study's search finds the cell that
``search.py`` finds with those settings and that seed.
"""

import io
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any, TypeVar

import pytorch_lightning as pl
from torch import nn

from darts_noise.cli.parser import ScriptCLI
from darts_noise.cli.search import SearchCLI
from darts_noise.cli.search import check_settings as check_search
from darts_noise.cli.train import TrainCLI
from darts_noise.errors import SettingError
from darts_noise.finite import NotFiniteError
from darts_noise.noise.datasets import root_of_others
from darts_noise.noise.families import make_noise
from darts_noise.search.candidates import choose
from darts_noise.search.module import SearchModule
from darts_noise.space.genotype import Genotype
from darts_noise.study.sample import first_proposal, proposed_settings
from darts_noise.study.settings import Script, StudySettings
from darts_noise.train.module import TrainModule
from darts_noise.train.networks import Factory

SILENT = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
CLI = TypeVar("CLI", bound=ScriptCLI)


@dataclass(frozen=True)
class Trained:
    """What came of a training on the data.

    Attributes:
        net: the network.
        trainer: that trained it.
        figures: of the last epoch; of the last whole one where the training diverged.
        diverged: a loss or a gradient was not finite, where the training ended.
    """

    net: nn.Module
    trainer: pl.Trainer
    figures: Mapping[str, float]
    diverged: bool


def search_script(script: Script, seed: int, root: str | None, **model: Any) -> SearchCLI:
    """``search.py`` with these settings: its module and data, not yet set up.

    Args:
        script: of the study.
        seed: of everything random, from here on.
        root: folder of the data; None for the config's.
        model: keys of the model that differ from the study's.

    Raises:
        ValueError: a setting that is wrong; the message names it.
    """
    arguments = _arguments(script, seed, root, model)
    return _parsed("search", lambda: SearchCLI(SearchModule, arguments))


def train_script(script: Script, seed: int, root: str | None, **model: Any) -> TrainCLI:
    """``train.py``, likewise."""
    arguments = _arguments(script, seed, root, model)
    return _parsed("train", lambda: TrainCLI(TrainModule, arguments))


def check_scripts(settings: StudySettings, root: str | None) -> None:
    """Raises the ``ValueError`` of the first setting that ``search.py`` or ``train.py`` refuses."""
    _check_both(settings, root)
    if settings.sample.trials:
        try:
            _check_both(proposed_settings(settings, first_proposal(settings)), root)
        except ValueError as error:
            raise ValueError(f"sample.settings: {error}") from None
    for name in settings.controls:
        try:
            train_script(settings.train, 0, root, **settings.control(name).model)
        except ValueError as error:
            raise ValueError(f"controls.{name}: {error}") from None


def check_data(settings: StudySettings, root: str | None) -> None:
    """Raises the ``ValueError`` of data that cannot be read or are too few, and of noise that
    cannot be made of them, before the first unit needs them."""
    search = search_script(settings.search, 0, root, noise_family=settings.noise_family)
    module, data = search.model, search.datamodule
    assert isinstance(module, SearchModule)
    try:
        data.setup()
        module.build(data)
        data.train_stream()
        data.validation_stream(shuffle=True)
    except ValueError as error:
        raise ValueError(f"search: {error}") from None
    data = train_script(settings.train, 0, root).datamodule
    try:
        data.setup()
        data.train_stream()
    except ValueError as error:
        raise ValueError(f"train: {error}") from None
    for family in settings.unseen_families:
        try:
            place = root_of_others(data.name, data.config.root)
            make_noise(family, settings.converged.samples, data.train, 0, place)
        except SettingError as error:
            key = "unseen_families" if error.key == "family" else f"converged.{error.key}"
            raise SettingError(key, error.problem) from None


def _check_both(settings: StudySettings, root: str | None) -> None:
    search = search_script(settings.search, 0, root)
    try:
        check_search(search)
    except ValueError as error:
        raise ValueError(f"search: {error}") from None
    train = train_script(settings.train, 0, root)
    if settings.parameters is None and train.config["model"]["parameters"] is not None:
        raise ValueError("train.model.parameters: expected it as a key of the study itself")
    if train.config["trainer"]["limit_test_batches"] == 0:
        raise ValueError("train.trainer.limit_test_batches: expected some, since a study tests")


def _arguments(script: Script, seed: int, root: str | None, model: Mapping[str, Any]) -> list[str]:
    data = {**script.data, **({} if root is None else {"root": root})}
    own = {"data": data, "model": {**script.model, **model}, "trainer": script.trainer}
    return ["--config", script.config, "--config", json.dumps(own), f"--seed={seed}"]


def _parsed(key: str, parse: Callable[[], CLI]) -> CLI:
    """The parsed script; the line in which it would end the program becomes an error."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return parse()
    except SystemExit:
        message = said.getvalue().strip().rpartition("error: ")[2]
        raise ValueError(f"{key}: {message.replace(' (--help lists the options)', '')}") from None
    finally:
        if sys.exc_info()[0] is None:
            sys.stderr.write(said.getvalue())


def search_cell(cli: SearchCLI) -> tuple[Genotype, dict[str, float]]:
    """Searches; the cell and the figures of the last epoch.

    Raises:
        KeyboardInterrupt: a Ctrl-C.
        ValueError: data or settings on which no search is possible.
    """
    module = cli.model
    assert isinstance(module, SearchModule)
    check_search(cli)
    cli.datamodule.setup()
    module.build(cli.datamodule)
    trainer = cli.make_trainer(**SILENT)
    _run(trainer.fit, module, cli)
    if module.config.candidates > 1:
        choose(module, cli.datamodule)
    return module.genotype(), _figures(trainer)


def train_network(cli: TrainCLI, network: Genotype | Factory) -> Trained:
    """Trains a network on the data.

    Args:
        cli: from `train_script`, whose seed the initial weights come from.
        network: a genotype, or a function that makes a module.

    Raises:
        KeyboardInterrupt: a Ctrl-C.
        ValueError: data or settings on which no training is possible.
    """
    module, data = cli.model, cli.datamodule
    assert isinstance(module, TrainModule)
    data.setup()
    form = (data.num_classes, data.in_channels)
    if isinstance(network, Genotype):
        module.leave_out_head(network, data.image_shape)
        module.build(network, *form)
    else:
        module.use(network(*form), *form)
    trainer, diverged = cli.make_trainer(**SILENT), False
    try:
        _run(trainer.fit, module, cli)
    except NotFiniteError:
        diverged = True
    return Trained(module.net, trainer, _figures(trainer), diverged)


def tested(cli: TrainCLI, trained: Trained) -> dict[str, float]:
    """The figures of the trained network on the test images."""
    return dict(_run(trained.trainer.test, cli.model, cli, verbose=False)[0])


def _figures(trainer: pl.Trainer) -> dict[str, float]:
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


def _run(call: Any, module: pl.LightningModule, cli: ScriptCLI, **settings: Any) -> Any:
    try:
        return call(module, datamodule=cli.datamodule, **settings)
    except SystemExit:  # how Lightning leaves after a KeyboardInterrupt
        raise KeyboardInterrupt from None
