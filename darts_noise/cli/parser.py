"""The command line of both scripts: LightningCLI with short help and one-line errors.

A script's own arguments are added in `search.py` and `train.py` beside this file; those of the
model and the data are the arguments of their classes. What a message looks like is decided here.
"""

import argparse
import difflib
import re
import sys
import textwrap
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pytorch_lightning as pl
import yaml
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from darts_noise.cli.config_files import lay_over, with_shipped
from darts_noise.cli.program import program
from darts_noise.data.module import ImageDataModule
from darts_noise.data.settings import DataConfig
from darts_noise.distributed.collectives import SharedError, process_rank
from darts_noise.errors import SettingError
from darts_noise.loading import PlainModule
from darts_noise.nets.synchronised import SynchronisedNorms
from darts_noise.runs.settings import LARGEST_SEED
from darts_noise.search.settings import SearchConfig
from darts_noise.space.shown import shown
from darts_noise.train.settings import TrainConfig

TRAINER_KEYS = {
    "max_epochs": "passes over the training images",
    "accelerator": "cpu, gpu or auto",
    "devices": "how many, or which",
    "strategy": "how several devices work together: ddp",
    "num_nodes": "machines",
    "sync_batchnorm": "batch norms by the batch of all devices",
    "precision": "32-true, bf16-mixed or (on CUDA) 16-mixed",
}
"""The Trainer's arguments that ``--help`` shows; all others are accepted too."""

HELP = {
    "help": "this text",
    "config": "YAML file or name of a shipped one; a later one wins key by key",
    "print_config": "print all keys with their values and exit",
}
WIDTH, MARGIN = 100, 31
"""Columns of ``--help`` on every terminal, and those of them before the texts."""

TRAINER_DEFAULTS: dict[str, Any] = {
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
}


class UserError(ValueError):
    """Something that the user can put right; its message is one line."""


def fail(message: object, prog: str | None = None) -> NoReturn:
    """Ends the program with one line on standard error and exit status 2.

    Args:
        message: what is wrong.
        prog: the name with which the line begins; `program` by default.
    """
    print(f"{prog or program()}: error: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


class OneLineParser(LightningArgumentParser):
    """A parser whose errors are one line that names the key and the nearest valid one.

    Attributes:
        kind: of the script; see `readable`.
        hidden: options that ``--help`` leaves out.
        more: its last line.
    """

    kind = ""
    hidden: ClassVar[tuple[str, ...]] = ("model", "data", "trainer", "noise_grid", "print_shtab")
    more: ClassVar[str] = (
        "Any other argument of Lightning's Trainer is accepted as --trainer.KEY VALUE.\n"
        "--plugins FILE.py runs a file of yours first, which registers operations or spaces."
    )

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        fail(readable(message, self.keys(), self.kind), self.prog)

    def keys(self) -> list[str]:
        """Every key that a config or an option may set."""
        return [a.dest for a in self._actions if a.dest not in ("help", "==SUPPRESS==")]

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        """A line for each option, with its default; of the Trainer's, the ones that matter."""
        groups: dict[str, list[str]] = {"run": []}
        for action in self._actions:
            head, _, tail = action.dest.partition(".")
            text = TRAINER_KEYS.get(tail) if head == "trainer" else action.help
            option = next((o for o in action.option_strings if re.fullmatch(r"--[\w.]+", o)), None)
            if action.dest in self.hidden or option is None or not text or text == "==SUPPRESS==":
                continue
            default = action.default if action.default != "==SUPPRESS==" else None
            shown = "" if default is None else f" [{default}]"
            text = HELP.get(action.dest, text).rstrip(".") + shown
            wrapped = textwrap.wrap(text, WIDTH - MARGIN, break_on_hyphens=False)
            entry = f"\n{'':{MARGIN}}".join(wrapped)
            groups.setdefault(head if tail else "run", []).append(
                f"  {option:<{MARGIN - 3}} {entry}"
            )
        lines = [
            f"usage: {self.prog} [--config FILE] [--KEY VALUE ...]",
            "",
            self.description or "",
        ]
        for group, options in groups.items():
            lines += ["", f"{group}:", *options]
        return "\n".join([*lines, "", self.more]) + "\n"


def readable(message: str, keys: list[str], kind: str = "") -> str:
    """An error of the argument parser as one line in this project's words.

    Args:
        message: the parser's.
        keys: every key of the script.
        kind: of the script, ``search`` or ``train``; where it is named, a key of the other script
            is recognised.
    """
    text = " ".join(message.split())
    if match := re.match(r"unrecognized arguments: (\S+)", text, re.IGNORECASE):
        option = match[1].split("=")[0]
        if not option.startswith("-"):
            return f"unexpected argument {option!r}: options look like --data.name mnist"
        key = option.lstrip("-")
        hint = _elsewhere(key, keys, kind) or _nearest(key, keys, "--")
        return f"unknown option {option!r}{hint}"
    if match := re.match(r"Group '(.+)' does not accept option '(.+)'", text):
        key = f"{match[1]}.{match[2]}"
        return f"unknown config key {key!r}" + (_elsewhere(key, keys, kind) or _nearest(key, keys))
    if match := re.match(r"(?:Key|Option) '([^']+)' is not (?:expected|accepted)", text):
        key = match[1]
        return f"unknown config key {key!r}" + (_elsewhere(key, keys, kind) or _nearest(key, keys))
    if match := re.match(r'Parser key "([^"]+)": (.*)', text):
        return f"{match[1]}: {_expectation(match[2])}"
    if match := re.match(r"Problems parsing config: (.*)", text):
        return f"config: not YAML: {match[1]}"
    if text.startswith("Unexpected config"):
        return "config: expected a YAML file of key: value lines"
    return text


def _elsewhere(key: str, keys: list[str], kind: str) -> str:
    """Says so where only the other script has this key of the model."""
    others = {"search": ("train.py", TrainConfig), "train": ("search.py", SearchConfig)}
    group, _, name = key.rpartition(".")
    if kind not in others or group not in ("", "model") or f"model.{name}" in keys:
        return ""
    script, config = others[kind]
    return f": it is a key of {script}" if name in (f.name for f in fields(config)) else ""


def _nearest(key: str, keys: list[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(key, keys, 1, 0.6)
    if not close:
        # A bare name, such as "channels" for "model.channels".
        tails = {k.rsplit(".", 1)[-1]: k for k in keys}
        close = [tails[t] for t in difflib.get_close_matches(key.rsplit(".", 1)[-1], tails, 1, 0.8)]
    hint = f": did you mean '{prefix}{close[0]}'?" if close else ""
    return f"{hint} (--help lists the options)"


def _expectation(text: str) -> str:
    """``expected int, got 'abc'`` out of a validator's report on one value."""
    got = re.search(r"(?:Got value|Given value): (.*?)(?: - Expected .*)?$", text)
    groups = re.findall(r"Literal\[([^\]]*)\]", text)
    literals = [v.strip("'\"") for group in groups for v in group.split(", ")]
    types = re.findall(r"<class '(?:\w+\.)*(\w+)'>", text.split("Given value type")[0])
    wanted = list(dict.fromkeys(literals or types))
    if not got or not wanted:
        return text
    wanted = ["null" if w == "NoneType" else w for w in wanted]
    return f"expected {' or '.join(wanted)}, got {got[1]!r}"


class ScriptCLI(LightningCLI):
    """LightningCLI that parses and builds model and data, and leaves the Trainer for later.

    The Trainer is built by `make_trainer`, once the run's directory is there.
    """

    kind: ClassVar[str]
    description: ClassVar[str]
    max_epochs: ClassVar[int]

    def __init__(self, model: type[PlainModule[Any]], argv: list[str] | None) -> None:
        self.module_class = model
        argv = sys.argv[1:] if argv is None else argv
        # A config states only what differs from the classes' defaults, so the default config is
        # not mixed into one that the user names.
        if not any(a in ("-c", "--config") or a.startswith("--config=") for a in argv):
            argv = ["--config", f"{self.kind}/digits", *argv]
        prog = program()
        try:
            argv = lay_over(with_shipped(argv, self.kind))
        except ValueError as error:
            fail(error)
        original = sys.argv
        sys.argv = original[:1]  # LightningCLI warns when it is given arguments besides these
        try:
            super().__init__(
                model,
                ImageDataModule,
                run=False,
                args=argv,
                trainer_defaults={**TRAINER_DEFAULTS, "max_epochs": self.max_epochs},
                save_config_callback=None,
                parser_kwargs={
                    "allow_abbrev": False,
                    "prog": prog,
                    "description": self.description,
                },
                parser_class=OneLineParser,
                auto_configure_optimizers=False,
            )
        except ValueError as error:
            self.fail(error)
        finally:
            sys.argv = original

    def fail(self, error: object, more: str = "") -> NoReturn:
        """As the function.

        What every process finds wrong is told by the first. The others leave without a failure, at
        which a launcher would kill the first before it has put its files away.
        """
        if isinstance(error, SharedError) and process_rank() > 0:
            raise SystemExit(0)
        fail(f"{error}{more}")

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(pl.Trainer, "trainer")
        parser.set_defaults({f"trainer.{k}": v for k, v in self.trainer_defaults.items()})
        parser.add_class_arguments(self.module_class.config_class, "model", instantiate=False)
        parser.add_class_arguments(DataConfig, "data", instantiate=False)

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        assert isinstance(parser, OneLineParser)
        parser.kind = self.kind
        parser.add_argument("--seed", type=int, default=0, help="of everything that is random")
        parser.add_argument("--name", type=str | None, help="of the run; else data set and time")
        parser.add_argument(
            "--resume",
            nargs="?",
            type=str | None,
            help="go on with a stopped run: its name or folder, by itself the newest",
        )
        parser.add_argument("--runs", type=str, default="runs", help="folder that holds all runs")
        parser.add_argument(
            "--wandb",
            type=str,
            default="auto",
            help="auto (online with a key, else offline), online, offline or off",
        )
        parser.add_argument("--wandb_project", type=str, default="darts_noise", help="W&B project")
        parser.add_argument(
            "--trust",
            type=str | None,
            help="packages whose classes a config file may name, beside Lightning's",
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("seed", "data.seed")

    def _set_seed(self) -> None:
        if not 0 <= self.config["seed"] <= LARGEST_SEED:
            got = self.config["seed"]
            raise SettingError("seed", f"expected 0 to {LARGEST_SEED}, got {shown(got)}")
        pl.seed_everything(self.config["seed"], workers=True, verbose=False)

    def _add_instantiators(self) -> None:
        """Adds none: Lightning's would put a class path into every checkpoint's settings."""

    def instantiate_classes(self) -> None:
        epochs = self.config["trainer"]["max_epochs"]
        if epochs is None or epochs < 1:
            raise SettingError("trainer.max_epochs", f"expected 1 or more, got {epochs}")
        if self.config["resume"] is not None:
            raise SettingError("resume", "expected on the command line, and not in a config file")
        if self.config["trainer"]["limit_train_batches"] == 0:
            raise SettingError("trainer.limit_train_batches", "expected more than 0, got 0")
        self.config_init = self.parser.instantiate(self.config)
        self.datamodule = ImageDataModule(**vars(self.config["data"]))
        self.model = self.module_class(**vars(self.config["model"]))

    def resolved_config(self, run: Path) -> dict[str, Any]:
        """The whole configuration with all defaults, as it goes to the run's ``config.yaml``."""
        dump: dict[str, Any] = yaml.safe_load(
            self.parser.dump(self.config, skip_link_targets=False, skip_unset=False)
        )
        return {
            key: value for key, value in dump.items() if key not in ("config", "resume", "trust")
        }

    def make_trainer(self, **more: Any) -> pl.Trainer:
        """The Trainer of the configuration with these callbacks and loggers added to its own.

        Raises:
            ValueError: settings that the Trainer does not accept, such as absent devices.
        """
        settings = dict(self.config_init["trainer"])
        if settings.get("logger") in (None, True):
            settings["logger"] = False  # the session adds its own; a logger that is named stays
        for key in ("callbacks", "plugins"):
            given = settings.get(key) or []
            settings[key] = [*(given if isinstance(given, list) else [given]), *more.pop(key, [])]
        if settings.get("sync_batchnorm"):
            settings["plugins"].append(SynchronisedNorms())
        try:
            trainer = pl.Trainer(**{**settings, **more})
        except (ImportError, TypeError, ValueError, MisconfigurationException) as error:
            raise UserError(f"trainer: {error}") from None
        half = str(settings["precision"]) in ("16", "16-mixed")
        if half and trainer.strategy.root_device.type == "cpu":
            raise UserError("trainer.precision: 16-mixed needs a GPU; a CPU has bf16-mixed")
        return trainer
