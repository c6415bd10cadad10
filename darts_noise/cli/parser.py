"""The command line of both scripts: LightningCLI with short help and one-line errors.

Arguments of a script of its own are added in `search.py` and `train.py` beside this file; those of
the model and the data are the arguments of their classes. What a message looks like is decided here.
"""

import argparse
import difflib
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from darts_noise.data.module import ImageDataModule

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

SHOWN_TRAINER_KEYS = ("max_epochs", "accelerator", "devices", "strategy", "precision")
"""The Trainer's arguments that ``--help`` shows; all others are accepted too."""

TRAINER_DEFAULTS: dict[str, Any] = {
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
}


class UserError(ValueError):
    """Something that the user can put right; its message is one line."""


def fail(message: object) -> NoReturn:
    """Ends the program with one line on standard error and exit status 2."""
    prog = Path(sys.argv[0]).name or "darts_noise"
    print(f"{prog}: error: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


class OneLineParser(LightningArgumentParser):
    """A parser whose errors are one line that names the key and the nearest valid one."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        fail(readable(message, self.keys()))

    def keys(self) -> list[str]:
        """Every key that a config or an option may set."""
        return [a.dest for a in self._actions if a.dest not in ("help", "==SUPPRESS==")]

    def shorten_help(self) -> None:
        """Hides the Trainer's rarely used arguments; they are accepted all the same."""
        shown = {f"trainer.{key}" for key in SHOWN_TRAINER_KEYS}
        for action in self._actions:
            if action.dest.startswith("trainer") and action.dest not in shown:
                action.help = argparse.SUPPRESS


def readable(message: str, keys: list[str]) -> str:
    """An error of the argument parser as one line in this project's words."""
    text = " ".join(message.split())
    if match := re.match(r"unrecognized arguments: (\S+)", text, re.IGNORECASE):
        option = match[1].split("=")[0]
        if not option.startswith("-"):
            return f"unexpected argument {option!r}: options look like --data.name mnist"
        return f"unknown option {option!r}" + _nearest(option.lstrip("-"), keys, "--")
    if match := re.match(r"Group '(.+)' does not accept option '(.+)'", text):
        key = f"{match[1]}.{match[2]}"
        return f"unknown config key {key!r}" + _nearest(key, keys)
    if match := re.match(r"(?:Key|Option) '([^']+)' is not (?:expected|accepted)", text):
        return f"unknown config key {match[1]!r}" + _nearest(match[1], keys)
    if match := re.match(r'Parser key "([^"]+)": (.*)', text):
        return f"{match[1]}: {_expectation(match[2])}"
    if text.startswith("Unexpected config"):
        return "config: expected a YAML file of key: value lines"
    return text


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
    got = re.search(r"(?:Got value|Given value): (.*)$", text)
    literals = [v for group in re.findall(r"Literal\[([^\]]*)\]", text) for v in group.split(", ")]
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

    kind = "search"

    def __init__(self, model: type[pl.LightningModule], argv: list[str] | None) -> None:
        argv = sys.argv[1:] if argv is None else argv
        # A config states only what differs from the classes' defaults, so the default config is
        # not mixed into one that the user names.
        if not any(a in ("-c", "--config") or a.startswith("--config=") for a in argv):
            argv = ["--config", str(CONFIGS / self.kind / "digits.yaml"), *argv]
        original = sys.argv
        sys.argv = original[:1]  # LightningCLI warns when it is given arguments besides these
        try:
            super().__init__(
                model,
                ImageDataModule,
                run=False,
                args=argv,
                trainer_defaults=TRAINER_DEFAULTS,
                save_config_callback=None,
                parser_kwargs={"allow_abbrev": False, "prog": Path(original[0]).name},
                parser_class=OneLineParser,
            )
        except ValueError as error:
            fail(error)
        finally:
            sys.argv = original

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--seed", type=int, default=0, help="of everything that is random")
        parser.add_argument("--name", type=str | None, help="of the run; else data set and time")
        parser.add_argument("--runs", type=str, default="runs", help="folder that holds all runs")
        parser.add_argument(
            "--wandb",
            type=str,
            default="auto",
            help="auto (online with a key, else offline), online, offline or off",
        )
        parser.add_argument("--wandb_project", type=str, default="darts_noise", help="W&B project")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("seed", "data.seed")
        assert isinstance(parser, OneLineParser)
        parser.shorten_help()

    def _set_seed(self) -> None:
        if self.config["seed"] < 0:
            raise ValueError(f"seed: expected 0 or more, got {self.config['seed']}")
        pl.seed_everything(self.config["seed"], workers=True, verbose=False)

    def instantiate_classes(self) -> None:
        self.config_init = self.parser.instantiate_classes(self.config)
        self.datamodule = self.config_init["data"]
        self.model = self.config_init["model"]

    def resolved_config(self) -> dict[str, Any]:
        """The whole configuration with all defaults, as it goes to ``config.yaml``."""
        self._dump_config()
        dump: dict[str, Any] = self.config_dump
        return {key: value for key, value in dump.items() if key != "config"}

    def make_trainer(self, **more: Any) -> pl.Trainer:
        """The Trainer of the configuration with these callbacks and loggers added to its own.

        Raises:
            ValueError: settings that the Trainer does not accept, such as absent devices.
        """
        settings = dict(self.config_init["trainer"])
        if settings.get("logger") in (None, True):
            settings["logger"] = False  # the session adds its own; a logger that is named stays
        settings["callbacks"] = [*(settings.get("callbacks") or []), *more.pop("callbacks", [])]
        try:
            return pl.Trainer(**{**settings, **more})
        except (ValueError, pl.utilities.exceptions.MisconfigurationException) as error:
            raise UserError(f"trainer: {error}") from None
