"""The commands: each parses its arguments, calls a function and prints the result."""

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from shlex import join, quote
from typing import Any, NoReturn

import yaml

from darts_noise.cli.configs import (
    CONFIGS,
    find_config,
    list_configs,
    merge_configs,
    read_config,
)
from darts_noise.cli.parser import Command, Given, Option, Parser, UsageError, split
from darts_noise.cli.program import called, fail, ready
from darts_noise.configured import LARGEST_SEED, require_seed
from darts_noise.data.settings import DataConfig
from darts_noise.errors import SettingError, within
from darts_noise.runs.folder import (
    CONFIG,
    find_run,
    has_ended,
    lacking_plugins,
    newest_run,
    read_run_config,
)
from darts_noise.runs.settings import OBJECTS, RunConfig, TrainerConfig
from darts_noise.search.settings import SearchConfig
from darts_noise.space.json_file import read_json
from darts_noise.space.shown import shown
from darts_noise.study.settings import DECIDED, GROUPS, StudyConfig
from darts_noise.train.settings import NoiseConfig, TrainConfig

SEED = Option("seed", int, 0, f"of everything that is random, 0 to {LARGEST_SEED}")
SEEDED = ("model.seed", "data.seed")
"""Keys that ``--seed`` sets."""
BESIDE_RESUME = ("runs", "wandb", "wandb_project", "trust")
"""What ``--resume`` may stand beside: places, tracking, and whose classes are made."""
OF_A_TRAINING = (
    *("batch_size", "validation_fraction", "train_samples", "seed"),
    *("crop_padding", "cutout", "random_resized_crop", "color_jitter"),
)
"""Keys of the data that a training takes from its own config and never from a search."""
MORE = ("Every other argument of Lightning's Trainer is accepted as --trainer.KEY VALUE.",)


def _names(cls: type) -> list[str]:
    return [f.name for f in fields(cls)]


SEARCH = Command(
    "search",
    "Searches a cell that learns the data and cannot learn noise.",
    {"": RunConfig, "trainer.": TrainerConfig, "model.": SearchConfig, "data.": DataConfig},
    [SEED],
    dict.fromkeys(set(_names(TrainConfig)) - set(_names(SearchConfig)), "train.py"),
    SEEDED,
    MORE,
)
TRAIN = Command(
    "train",
    "Trains a network of a found or a published cell, on the data and on noise.",
    {
        "": RunConfig,
        "noise_": NoiseConfig,
        "trainer.": TrainerConfig,
        "model.": TrainConfig,
        "data.": DataConfig,
    },
    [SEED],
    dict.fromkeys(set(_names(SearchConfig)) - set(_names(TrainConfig)), "search.py"),
    SEEDED,
    MORE,
)

SETUPS: Mapping[str, Command] = {"search": SEARCH, "train": TRAIN}
"""Whose configs a study names, and lays its own keys over."""
STUDY = Command(
    "study",
    "Searches, seeds and controls, each trained and measured alike; resumes and shares.",
    {"": StudyConfig},
    [
        Option("runs", str, "runs", "folder that holds all runs"),
        Option("root", str | None, None, "folder of the data; null for the configs'"),
        Option("table", bool, False, "rewrite table and plot from what is there, and end"),
        *(Option(f"{name}.config", str | None, None, f"config of {name}.py") for name in SETUPS),
    ],
    hidden=DECIDED,
    more=[
        "Keys of a search and of a training likewise: --search.model.channels 8",
        "--train.trainer.max_epochs 40. See python search.py --help and python train.py --help.",
    ],
    brief=[f"{name}." for name in SETUPS],
)


def run(name: str, argv: Sequence[str]) -> None:
    """Run a command; see `darts_noise.cli.program.main`."""
    try:
        COMMANDS[name](argv)
    except (OSError, ValueError) as error:
        _fail(error)
    except KeyboardInterrupt as stop:
        raise SystemExit(_stopped(stop, name, argv)) from None
    except RuntimeError as error:
        from darts_noise.distributed.collectives import lost_process

        message = lost_process(error)
        if message is None:
            raise
        print(message, file=sys.stderr)
        raise SystemExit(1) from None


def _stopped(stop: KeyboardInterrupt, name: str, argv: Sequence[str]) -> int:
    """Say how a run that was stopped goes on; the exit status."""
    from darts_noise.runs.run import Interrupted

    if not isinstance(stop, Interrupted):
        return 130
    if stop.status:  # zero in all processes but the first
        print("\n".join([str(stop), *stop.hints]))
        if name == "study":
            print("to go on: the same command")
        elif stop.run is not None:
            plugins = _plugins_option(split(argv)[0].plugins)
            print(f"to go on: {called(name)} --resume {quote(str(stop.run))}{plugins}")
    return stop.status


def _fail(error: Exception) -> NoReturn:
    """End with one line.

    What every process finds wrong is told by the first. The others leave without a failure, at
    which a launcher would kill the first before it has put its files away.
    """
    if type(error).__name__ == "SharedError":
        from darts_noise.distributed.collectives import process_rank

        if process_rank() > 0:
            raise SystemExit(0)
    fail("; ".join([str(error), *getattr(error, "__notes__", ())]))


def search(argv: Sequence[str]) -> None:
    """``darts-noise search``: find a cell."""
    given = _read(SEARCH, argv, lambda stated: _shipped("search/digits"))
    if given is None:
        return
    config = given.settings(SearchConfig, "model.")
    data = given.settings(DataConfig, "data.")
    trainer = given.settings(TrainerConfig, "trainer.")
    run = given.settings(RunConfig)

    from darts_noise.data.module import ImageDataModule
    from darts_noise.report.card import row, verdict
    from darts_noise.runs import search as searching

    ready()
    with _naming_plugins(run.plugins, *given.configs):
        found = searching.search(ImageDataModule(data), config, trainer=trainer, run=run)
    if not found.card:  # another process has it
        return
    if found.stopped_because:
        print(found.stopped_because)
    print(row(found.card))
    print(f"verdict: {verdict(found.card)}")
    print(f"cell: {found.path / 'genotype.json'}")
    size = config.candidate_parameters
    options = f" --model.parameters {size}" if size and config.candidates > 1 else ""
    options += _plugins_option(run.plugins)
    print(f"next: {called('train')}{options}{_runs_option(run.runs)}")


def train(argv: Sequence[str]) -> None:
    """``darts-noise train``: train a network of a cell, on the data and on noise."""
    given = _read(TRAIN, argv, _handed_on)
    if given is None:
        return
    config = given.settings(TrainConfig, "model.")
    noise = given.settings(NoiseConfig, "noise_")
    data = given.settings(DataConfig, "data.")
    trainer = given.settings(TrainerConfig, "trainer.")
    run = given.settings(RunConfig)
    cell = _cell(config.genotype, run.runs, given.configs)

    from darts_noise.data.module import ImageDataModule
    from darts_noise.report.card import row, verdict
    from darts_noise.runs import train as training

    ready()
    with _naming_plugins(run.plugins, *given.configs, cell):
        result = training.train(
            cell, ImageDataModule(data), config, noise=noise, trainer=trainer, run=run
        )
    if not result.card:  # another process has it
        return
    print(row(result.card))
    print(f"card: {result.path / 'card.md'}\nbundle: {result.bundle}")
    print(f"verdict: {verdict(result.card)}")


def report(argv: Sequence[str]) -> None:
    """``darts-noise report``: runs as one HTML page."""
    parser = _Arguments("report", "Write runs as one HTML page that needs no network.")
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="folder of a search, a training or a study, such as runs/search/latest",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("report.html"), help="the page [report.html]"
    )
    given = parser.parse_args(argv)

    from darts_noise.atomic import write_text
    from darts_noise.report.page import make_page

    ready()

    def explain(run: Path, error: Exception) -> str:
        return "; ".join(filter(None, (str(error), lacking_plugins(run, given.plugins))))

    with _naming_plugins(given.plugins, *given.runs):
        _run_plugins(given.plugins)
        page = make_page(given.runs, explain)
    write_text(given.output, page)
    print(f"report: {given.output}")


def bundle(argv: Sequence[str]) -> None:
    """``darts-noise bundle``: the network of a training run as a folder."""
    parser = _Arguments(
        "bundle", "Write the network of a training run as a bundle for dn.load_pretrained."
    )
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("folder", type=Path, help="folder of the bundle")
    given = parser.parse_args(argv)

    from darts_noise.runs.train import bundle_run

    ready()
    with _naming_plugins(given.plugins, given.run):
        _run_plugins(given.plugins)
        print(bundle_run(given.run, given.folder))


def study(argv: Sequence[str]) -> None:
    """``darts-noise study``: many runs compared."""
    words = ["--table=true" if word == "--table" else word for word in argv]
    front, rest = split(words if not words or words[0].startswith("-") else ["--config", *words])
    if front.resume is not None:
        raise UsageError("--resume: expected none with a study; the same command goes on")
    _run_plugins(front.plugins)
    if len(front.config) != 1 and not front.help:
        raise UsageError(f"expected one config, as in {called()} digits")
    file = find_config((front.config or ["digits"])[0], "study")
    parser = Parser(STUDY, called())
    given = parser.parse(rest, default=lambda stated: _study_content(file, stated))
    values: dict[str, Any] = {**given.values, **{f"{name}.config": None for name in SETUPS}}
    values["name"] = values["name"] or file.stem
    values["cells"] = {k: _found_cells(v, file.parent) for k, v in values["cells"].items()}
    if values["root"] is not None:
        values |= {f"{name}.data.root": values["root"] for name in SETUPS}
    given = replace(given, values=values)
    if _told(parser, given, front):
        return
    config = given.settings(StudyConfig)
    try:
        from darts_noise.study import run as studying
    except ImportError as error:  # of an extra
        fail(error)

    ready()
    make = studying.tabulate if values["table"] else studying.study
    command = join(["darts-noise", "study", *(word for word in argv if word != "--table")])
    found = make(config, runs=values["runs"], command=command)
    print(f"table: {found.path / 'table.md'}")


def _study_content(file: Path, stated: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config of a study, laid over the configs of a search and a training that it names.

    Args:
        file: from whose folder those are found, else the shipped ones of their names.
        stated: the keys that the options state.
    """
    content = read_config(file)
    setups: dict[str, Any] = {}
    for key in DECIDED:
        setup, group, name = key.split(".")
        if name in ((content.get(setup) or {}).get(group) or {}):
            raise SettingError(key, "expected none, since the study decides it")
    for setup, command in SETUPS.items():
        named = stated.get(f"{setup}.config", (content.get(setup) or {}).get("config"))
        if named is None:
            continue
        path = file.parent / named
        with within(setup):
            path = path if path.is_file() else find_config(named, setup)
            if not path.is_file():
                raise SettingError("config", f"no such file: {path}")
        try:
            Parser(command, called()).parse([], [path])
        except UsageError as error:
            raise UsageError(f"{setup}: {error}") from None
        setups[setup] = {k: v for k, v in read_config(path).items() if k in GROUPS}
    return merge_configs([setups, content])


def _found_cells(cells: str | list[str], folder: Path) -> str | list[str]:
    """Return the same with absolute paths in place of those that are there."""
    from darts_noise.space.published import list_genotypes

    if not isinstance(cells, str):
        return [str(_found_cells(cell, folder)) for cell in cells]
    for path in (folder / cells, Path(cells)):
        if cells.lower() not in list_genotypes() and path.exists():
            return str(path.resolve())
    return cells


class _Arguments(argparse.ArgumentParser):
    """A parser of a few arguments, whose errors are one line."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(called(), description=description, allow_abbrev=False)
        self.add_argument(
            "--plugins",
            action="append",
            default=[],
            metavar="FILE",
            help="Python file that runs first, as with search.py; may be given several times",
        )

    def error(self, message: str) -> NoReturn:
        fail(message)


def _read(
    command: Command,
    argv: Sequence[str],
    default: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> Given | None:
    """Return what a command line says; None where it only asks for ``--help`` and the like.

    Args:
        command: which one.
        argv: its arguments.
        default: the config where none is named, from the keys that the options state.

    Raises:
        UsageError: an option that the command does not take.
        SettingError: a config that cannot be read, or no run to resume.
        SystemExit: 0 where the run to resume has ended.
    """
    front, rest = split(argv)
    _run_plugins(front.plugins)
    parser = Parser(command, called())
    if front.resume is not None:
        run, options = _resumed(parser, front, rest)
        given = parser.parse(options, [run / CONFIG])
        values: dict[str, Any] = {**given.values, "resume": str(run)}
    else:
        configs = [find_config(named, command.name) for named in front.config]
        given = parser.parse(rest, configs, default)
        values = dict(given.values)
    values |= dict.fromkeys(SEEDED, values["seed"])
    require_seed(values["seed"])
    values["plugins"] = tuple(front.plugins)
    values["trust"] = ",".join(_trusted(values["trust"], parser.stated(rest))) or None
    given = replace(given, values=values)
    return None if _told(parser, given, front) else given


def _told(parser: Parser, given: Given, front: argparse.Namespace) -> bool:
    """Print what a command line only asks for; whether it does."""
    if front.help:
        print(parser.help(given), end="")
    elif front.print_config:
        stated = {key: value for key, value in given.values.items() if key not in DECIDED}
        config = replace(given, values=stated).nested()
        print(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), end="")
    return bool(front.help or front.print_config)


def _resumed(
    parser: Parser, front: argparse.Namespace, argv: Sequence[str]
) -> tuple[Path, list[str]]:
    """Return the run that goes on, and the options with which its own config is read."""
    stated = parser.stated(argv)
    for key in ["config" for _ in front.config] + list(stated):
        if key not in BESIDE_RESUME:
            allowed = ", ".join(f"--{k}" for k in BESIDE_RESUME)
            raise SettingError(
                "resume",
                f"the settings are those of the run; expected only {allowed} beside --resume, "
                f"got --{key}",
            )
    run = find_run(stated.get("runs", "runs"), parser.command.name, front.resume)
    if has_ended(run):
        print(f"{run} has ended; its card is {run / 'card.md'}")
        raise SystemExit(0)
    return run, [*argv, f"--runs={run.parent.parent}", f"--name={run.name}"]


def _trusted(packages: str | None, stated: Mapping[str, Any]) -> list[str]:
    """Return the packages whose classes may be made: those after ``--trust``, and those of classes
    that the command line itself names for the Trainer, which is the user's own."""
    own = " ".join(str(stated.get(f"trainer.{key}", "")) for key in OBJECTS)
    return sorted(
        {*(packages or "").split(","), *re.findall(r"([A-Za-z_]\w*)(?:\.\w+)+", own)} - {""}
    )


def _shipped(named: str) -> dict[str, Any]:
    return read_config(CONFIGS / f"{named}.yaml")


def _handed_on(stated: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config of a training where none is named: all that a search hands on.

    The search is that of the named cell, or the newest. Its data are handed on as they are, except
    for the keys `OF_A_TRAINING`. The rest is the config that is shipped for that data set; for own
    images, it is `small` with the search's stem. If there is none, it is the one for digits with
    the search's stem. The noise family is not here, because the genotype holds it; plugins are not
    either, because only the command line may name them.

    Args:
        stated: the keys that the options state.

    Raises:
        SettingError: the config of the search is damaged, or a genotype lies alone and was found
            on other data than digits.
    """
    default = _shipped("train/digits")
    cell = _cell_file(stated.get("model.genotype"), stated.get("runs", "runs"))
    if "data.name" in stated or cell is None:
        return default
    file = cell.parent / CONFIG
    if cell.name != "genotype.json" or not file.is_file():
        _require_found_on(default["data"]["name"], cell)
        return default
    run = read_run_config(cell.parent)
    try:
        data, model = dict(run["data"]), dict(run["model"])
        name = data["name"]
    except (KeyError, TypeError, ValueError):
        raise SettingError(str(file), "not the config of a search") from None
    config = default
    if name == "image_folder":
        config = _shipped("train/small")
    elif name in list_configs("train"):
        config, model = _shipped(f"train/{name}"), {}
    usual = vars(DataConfig())
    data = {
        key: value
        for key, value in data.items()
        if key == "name" or (key not in OF_A_TRAINING and value != usual.get(key))
    }
    model = {key: model[key] for key in ("stem", "stem_stride") if key in model}
    for group, carried in (("data", data), ("model", model)):
        config = {**config, group: {**config.get(group, {}), **carried}}
    return config


def _require_found_on(dataset: str, cell: Path) -> None:
    """Raise the error of a genotype without its search's config that was found on other data."""
    found = None
    with suppress(ValueError, KeyError, TypeError):  # whoever loads the cell says what is wrong
        found = read_json(cell)["meta"]["dataset"]
    if isinstance(found, str) and found != dataset:
        raise SettingError(
            "data.name",
            f"{cell} was found on {shown(found)}, and the config of its search is not beside it; "
            "say what to train on with --data.name or --config",
        )


def _cell_file(named: str | None, runs: str) -> Path | None:
    """Return the file of the cell that a training takes; None for a published or a missing one."""
    if named is None:
        newest = newest_run(runs, "search")
        return None if newest is None else newest / "genotype.json"
    from darts_noise.space.published import list_genotypes

    path = Path(_by_name(named, runs) or named)
    if named.lower() in list_genotypes():
        return None
    file = path / "genotype.json" if path.is_dir() else path
    return file if file.is_file() else None


def _cell(named: str | None, runs: str, configs: Sequence[Path]) -> str:
    """Return the cell that the user named, or the newest search's.

    Raises:
        UsageError: there is neither.
    """
    if named is not None:
        return _beside_config(named, configs) or _by_name(named, runs) or named
    newest = newest_run(runs, "search")
    if newest is None:
        raise UsageError(
            f"no search in {Path(runs) / 'search'}: run `{called('search')}{_runs_option(runs)}` "
            "first, or name a cell, as in --model.genotype darts_v2"
        )
    return str(newest)


def _by_name(named: str, runs: str) -> str | None:
    """Return the folder of the search of that name, unless it is a published cell's or a path."""
    from darts_noise.space.published import list_genotypes

    if named.lower() in list_genotypes() or Path(named).exists() or Path(named).name != named:
        return None
    run = Path(runs) / "search" / named
    return str(run) if (run / "genotype.json").is_file() else None


def _beside_config(named: str, configs: Sequence[Path]) -> str | None:
    """Return the genotype beside the config that names it, where that run's folder has moved."""
    if Path(named).name != "genotype.json" or Path(named).exists():
        return None
    for file in reversed(configs):
        beside = file.parent / "genotype.json"
        if beside.is_file():
            model = read_config(file).get("model") or {}
            if model.get("genotype") == named:
                return str(beside)
    return None


def _runs_option(runs: str) -> str:
    """Return what a command needs after it to find runs in this folder, for a shell.

    >>> _runs_option("runs"), _runs_option("/tmp/my runs")
    ('', " --runs '/tmp/my runs'")
    """
    return "" if runs == "runs" else f" --runs {quote(runs)}"


def _plugins_option(files: Sequence[str]) -> str:
    """Return the options that name these plugins, for a shell.

    >>> _plugins_option(["my own.py"]), _plugins_option([])
    (" --plugins 'my own.py'", '')
    """
    return "".join(f" --plugins {quote(file)}" for file in files)


@contextmanager
def _naming_plugins(given: Sequence[str], *runs: str | Path) -> Iterator[None]:
    """Add to an error inside the context which plugins the runs were made with, if they are not
    given: a name that only they register is unknown.

    Args:
        given: the plugins of this command.
        runs: folders of runs, or files in them.
    """
    try:
        yield
    except ValueError as error:
        for run in dict.fromkeys(p if p.is_dir() else p.parent for p in map(Path, runs)):
            lacking = lacking_plugins(run, given)
            if lacking is not None:
                error.add_note(lacking)
        raise


def _run_plugins(files: Sequence[str]) -> None:
    for file in files:
        _run_plugin(Path(file))


def _run_plugin(file: Path) -> None:
    """Run a file of the user's, which registers operations, spaces, noise families or penalties.

    Only the command line can name such a file: a config or a checkpoint, which may be another's,
    cannot.

    Raises:
        SettingError: no such file, or what it raises, in one line.
    """
    if file.suffix != ".py" or not file.is_file():
        raise SettingError("plugins", f"expected a file of Python code, got {str(file)!r}")
    spec = spec_from_file_location(f"darts_noise_plugin_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    try:
        spec.loader.exec_module(module_from_spec(spec))
    except Exception as error:  # whatever the user's code raises
        raise SettingError("plugins", f"{file}: {type(error).__name__}: {error}") from error


COMMANDS: Mapping[str, Callable[[Sequence[str]], None]] = {
    "search": search,
    "train": train,
    "study": study,
    "report": report,
    "bundle": bundle,
}
