"""``search.py`` and ``train.py`` as a study runs them: their settings and modules, in this process.

The same command line parser reads the same configs, so a study's search finds the cell that
``search.py`` finds with those settings and that seed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

from darts_noise.cli.parser import ScriptCLI
from darts_noise.cli.search import SearchCLI, check_settings
from darts_noise.cli.train import FinalLoss, TrainCLI
from darts_noise.nets.network import auxiliary_fits
from darts_noise.search.module import SearchModule
from darts_noise.space.genotype import Genotype
from darts_noise.study.settings import Script
from darts_noise.train.module import TrainModule
from darts_noise.train.networks import NetworkLike

SILENT = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@dataclass(frozen=True)
class Trained:
    """What came of a training on the data."""

    module: TrainModule
    figures: Mapping[str, float]
    epochs: int
    diverged: bool


def search_script(script: Script, seed: int, root: str | None, **model: Any) -> SearchCLI:
    """``search.py`` with these settings: its module and data, not yet set up.

    Args:
        script: of the study.
        seed: of everything random, from here on.
        root: folder of the data; None for the config's.
        model: keys of the model that differ from the study's.

    Raises:
        SystemExit: 2 after one line about a setting that is wrong.
    """
    return SearchCLI(SearchModule, _arguments(script, seed, root, model))


def train_script(script: Script, seed: int, root: str | None, **model: Any) -> TrainCLI:
    """``train.py``, likewise."""
    return TrainCLI(TrainModule, _arguments(script, seed, root, model))


def _arguments(script: Script, seed: int, root: str | None, model: Mapping[str, Any]) -> list[str]:
    data = {**script.data, **({} if root is None else {"root": root})}
    own = {"data": data, "model": {**script.model, **model}, "trainer": dict(script.trainer)}
    return ["--config", script.config, "--config", json.dumps(own), f"--seed={seed}"]


def search_cell(cli: SearchCLI) -> tuple[Genotype, dict[str, float]]:
    """Searches; the cell and the figures of the last epoch.

    Raises:
        KeyboardInterrupt: a Ctrl-C.
        ValueError: data or settings on which no search is possible.
    """
    module = cli.model
    assert isinstance(module, SearchModule)
    check_settings(cli)
    cli.datamodule.setup()
    module.build(cli.datamodule)
    trainer = cli.make_trainer(**SILENT)
    _run(trainer.fit, module, cli)
    figures = {key: float(value) for key, value in trainer.callback_metrics.items()}
    return module.genotype(), figures


def train_network(cli: TrainCLI, network: NetworkLike) -> Trained:
    """Trains a network on the data and tests it.

    Args:
        cli: from `train_script`, whose seed the initial weights come from.
        network: a genotype, or a function that makes a module.

    Raises:
        KeyboardInterrupt, ValueError: as for `search_cell`.
    """
    module, data = cli.model, cli.datamodule
    assert isinstance(module, TrainModule)
    data.setup()
    form = (data.num_classes, data.in_channels)
    if isinstance(network, Genotype):
        stem = (module.hparams["stem"], module.hparams["stem_stride"])
        if not auxiliary_fits(data.image_shape[1:], *stem):
            module.hparams["auxiliary_weight"] = 0.0
        module.build(network, *form)
    else:
        assert callable(network)
        module.use(network(*form), *form)
    loss = FinalLoss()
    trainer = cli.make_trainer(callbacks=[loss], **SILENT)
    _run(trainer.fit, module, cli)
    epochs = trainer.current_epoch
    validated = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
    tested = _run(trainer.test, module, cli, verbose=False)[0]
    return Trained(module, {**validated, **tested}, epochs, loss.diverged)


def _run(call: Any, module: pl.LightningModule, cli: ScriptCLI, **settings: Any) -> Any:
    try:
        return call(module, datamodule=cli.datamodule, **settings)
    except SystemExit:  # how Lightning leaves after a KeyboardInterrupt
        raise KeyboardInterrupt from None
