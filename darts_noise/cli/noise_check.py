"""The noise check of ``train.py``: its options, and the measurement after the training."""

import shutil
from pathlib import Path
from typing import Any

from pytorch_lightning.cli import LightningArgumentParser

from darts_noise.cli.parser import ScriptCLI
from darts_noise.cli.session import Session
from darts_noise.errors import SettingError, within
from darts_noise.nets.synchronised import SynchronisedNorms
from darts_noise.noise.datasets import root_of_others
from darts_noise.noise.families import make_noise, require_noise
from darts_noise.train.control_networks import CONTROL_NETWORKS
from darts_noise.train.module import TrainModule
from darts_noise.train.networks import NetworkLike, loaded, suited_network
from darts_noise.train.noise_fit import (
    default_samples,
    noise_fit,
    require_samples,
)
from darts_noise.train.noise_record import NoiseFit
from darts_noise.train.run_file import RunFile
from darts_noise.train.settings import PROTOCOLS, NoiseGrid, TrainConfig, require_protocol

FIGURES = {"train/loss": "loss", "val/accuracy": "noise acc"}
"""In the quick check, what is validated on is the noise itself."""
SAME = (
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "precision",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "accumulate_grad_batches",
)
"""What the quick check has from the Trainer of the clean run."""
RUNS = "noise_runs.json"
EPOCHS = "noise_epochs"
"""Folder of the quick check's last epoch while it lasts."""


def add_options(parser: LightningArgumentParser) -> None:
    """The keys of the check."""
    add = parser.add_argument
    add("--noise_check", type=bool, default=True, help="also train the cell on noise")
    add(
        "--noise_family",
        type=dict[str, Any] | str,
        default="uniform",
        help="what the noise check trains on; see darts_noise.list_noise()",
    )
    add(
        "--noise_protocol",
        type=str,
        default="quick",
        help="quick (as the clean run), converged or selectivity (grids)",
    )
    add(
        "--noise_samples",
        type=int | None,
        help="images of noise; else as many as real ones, for a grid "
        f"{PROTOCOLS['converged'].samples}",
    )
    add(
        "--noise_epochs",
        type=int | None,
        help=f"passes over them; else max_epochs, for a grid {PROTOCOLS['converged'].epochs}",
    )
    add(
        "--noise_controls",
        type=list[str] | None,
        help=f"list of {', '.join(CONTROL_NETWORKS)} or names of cells; else [resnet18]",
    )
    add(
        "--noise_runs",
        type=str | None,
        help=f"{RUNS} of an interrupted run, to go on from it",
    )
    # Not made by the parser, whose message would not name the group.
    parser.add_class_arguments(NoiseGrid, "noise_grid", instantiate=False)


def check_names(config: Any) -> None:
    """Raises ``ValueError`` for a protocol or a family that does not exist; needs no data."""
    with within("noise_"):
        require_protocol(config["noise_protocol"])
        require_noise(config["noise_family"])


class NoiseCheck:
    """The measurement that a command line asks for; made before the training, so that what is
    wrong with it is said before much time has gone into anything.

    Args:
        cli: with data that are set up.

    Raises:
        ValueError: a setting that cannot be; the message names the key.
    """

    def __init__(self, cli: ScriptCLI) -> None:
        config, data = cli.config, cli.datamodule
        self.data, self.seed = data, config["seed"]
        self.wanted: bool = config["noise_check"]
        self.protocol: str = config["noise_protocol"]
        self.family = config["noise_family"]
        self.root = root_of_others(data.name, data.config.root)
        self.trainer = {key: config["trainer"][key] for key in SAME}
        if config["trainer"]["sync_batchnorm"]:
            self.trainer["plugins"] = [SynchronisedNorms()]
        self.epochs: int | None = config["noise_epochs"]
        if self.protocol == "quick" and self.epochs is None:
            self.epochs = config["trainer"]["max_epochs"]
        if self.epochs is not None and self.epochs < 1:
            raise SettingError("noise_epochs", f"expected 1 or more, got {self.epochs}")
        self.grid = _grid(config)
        self.controls = _controls(config["noise_controls"], cli)
        self.earlier = _earlier_runs(config["noise_runs"])
        grid = None if self.grid == NoiseGrid() else self.grid
        unused = PROTOCOLS[self.protocol].unused
        for key, argument, value in (
            ("noise_controls", "controls", self.controls),
            ("noise_grid", "grid", grid),
        ):
            if value is not None and argument in unused:
                raise SettingError(key, f"expected none with noise_protocol {self.protocol}")
        if self.earlier is not None and self.protocol == "quick":
            raise SettingError("noise_runs", "expected none with noise_protocol quick")
        if self.wanted:
            with within("noise_"):
                self.samples = self._choose_samples(config["noise_samples"])

    def measure(self, session: Session, module: TrainModule) -> NoiseFit:
        """Trains the cell of a trained module on noise, from scratch.

        Args:
            session: of the run; a Ctrl-C ends it.
            module: its cell and its recipe.
        """
        runs = session.run / RUNS
        own: dict[str, Any]
        if self.protocol == "quick":
            progress = session.progress("noise", FIGURES)
            own = {"callbacks": progress, "path": session.run / EPOCHS}
        else:
            # Where they exist, the run goes on.
            if self.earlier is not None and session.is_first and not runs.exists():
                shutil.copyfile(self.earlier, runs)
            own = {"grid": self.grid, "path": runs, "progress": session.console}
            own |= {} if self.controls is None else {"controls": self.controls}
        try:
            return noise_fit(
                module.net.genotype,
                self.data.train,
                protocol=self.protocol,
                family=self.family,
                samples=self.samples,
                root=self.root,
                epochs=self.epochs,
                batch_size=self.data.config.batch_size,
                seed=self.seed,
                recipe=module.config,
                trainer=self.trainer,
                **own,
            )
        except SettingError as error:
            if error.key != "path":
                raise
            raise ValueError(error.problem) from None  # of an earlier start's file, which it names
        except (KeyboardInterrupt, SystemExit):  # the second is how Lightning leaves
            if runs.exists():
                session.console.print(f"noise so far, also for another run: --noise_runs {runs}")
            session.interrupted()

    def _choose_samples(self, given: int | None) -> int:
        train = self.data.train
        if given is None:
            return default_samples(self.protocol, self.family, train, self.root)
        require_samples(self.protocol, given, train)
        make_noise(self.family, given, train, self.seed, self.root)
        return given


def _grid(config: Any) -> NoiseGrid:
    with within("noise_grid"):
        return NoiseGrid(**vars(config["noise_grid"]))


def _controls(names: list[str] | None, cli: ScriptCLI) -> dict[str, NetworkLike] | None:
    """The networks of these names, for images like the data's."""
    if names is None:
        return None
    data, recipe = cli.datamodule, TrainConfig(**vars(cli.config["model"]))
    controls: dict[str, NetworkLike] = {}
    for name in names:
        try:
            network = CONTROL_NETWORKS.get(name) or loaded(name)
            suited_network(name, network, data.num_classes, data.image_shape, recipe)
            controls[name] = network
        except ValueError as error:
            valid = ", ".join(CONTROL_NETWORKS)
            raise SettingError("noise_controls", f"expected {valid} or a cell: {error}") from None
    return controls


def _earlier_runs(named: str | None) -> Path | None:
    if named is None:
        return None
    if not Path(named).is_file():
        raise SettingError("noise_runs", f"expected the {RUNS} of a run, got {named!r}")
    try:
        RunFile(named, {})
    except SettingError as error:
        raise SettingError("noise_runs", error.problem) from None
    return Path(named)
