"""The commands: each parses its arguments, calls a function and prints the result."""

import argparse
import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shlex import join, quote
from typing import Any, NoReturn, TypeVar

import yaml

from darts_noise.cli.configs import find_config, merge_configs, read_config
from darts_noise.cli.defaults import (
    default_search,
    find_cell,
    handed_on,
    naming_source,
    require_bundle,
    runs_option,
)
from darts_noise.cli.measuring import attack, certify, evaluate_ensemble, examine
from darts_noise.cli.names import may_be_extended, reads_no_file, require_built_in
from darts_noise.cli.options import ENSEMBLE, SEARCH, SEEDED, SETUPS, STUDY, TRAIN
from darts_noise.cli.parser import Arguments, Command, Given, Parser, UsageError, split
from darts_noise.cli.plugins import naming_plugins, plugins_option, run_plugins, with_plugins
from darts_noise.cli.program import COMMAND, called, fail, ready
from darts_noise.configured import require_at_least, require_seed
from darts_noise.data.settings import DataConfig
from darts_noise.errors import SettingError, about, names_unknown, within
from darts_noise.runs.folder import (
    CONFIG,
    find_run,
    has_ended,
    lacking_plugins,
    require_free,
    require_replaceable,
)
from darts_noise.runs.settings import OBJECTS, RunConfig, TrainerConfig, check_trainer
from darts_noise.search.settings import SearchConfig
from darts_noise.shown import shown
from darts_noise.space.json_file import read_json
from darts_noise.space.published import list_genotypes, load_genotype
from darts_noise.space.wandb_artifact import is_artifact_path
from darts_noise.study.settings import DECIDED, GROUPS, NEEDS_OPTUNA, StudyConfig
from darts_noise.train.settings import NoiseConfig, NoiseFamily, TrainConfig

T = TypeVar("T")

BESIDE_RESUME = ("runs", "wandb", "wandb_project", "trust")
"""The options that ``--resume`` allows: folders, tracking and trusted packages."""


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
    """Print how to continue a stopped run, and return the exit status."""
    from darts_noise.runs.run import Interrupted

    if not isinstance(stop, Interrupted):
        return 130
    if stop.status:  # zero in all processes except the first
        print("\n".join([str(stop), *stop.hints]))
        if name in ("study", "examine"):
            print("to resume: the same command")
        elif stop.run is not None:
            plugins = plugins_option(split(argv)[0].plugins)
            command = f"{COMMAND} ensemble train" if name == ENSEMBLE.name else called(name)
            print(f"to resume: {command} --resume {quote(str(stop.run))}{plugins}")
    return stop.status


def _fail(error: Exception) -> NoReturn:
    """End the program with one line.

    If all processes raise the same error, only the first prints it. The others exit without a
    failure: otherwise a launcher would kill the first before it has closed its files.
    """
    if type(error).__name__ == "CollectiveError":
        from darts_noise.distributed.collectives import process_rank

        if process_rank() > 0:
            raise SystemExit(0)
    fail("; ".join([str(error), *getattr(error, "__notes__", ())]))


def search(argv: Sequence[str]) -> None:
    """Run ``darts-noise search``: search for a cell."""
    given = _read(SEARCH, argv, default_search)
    if given is None:
        return
    config = given.settings(SearchConfig, "model.")
    data = given.settings(DataConfig, "data.")
    trainer = given.settings(TrainerConfig, "trainer.")
    run = given.settings(RunConfig)
    check_trainer(config, trainer)
    if run.resume is None:
        require_free(run.runs, "search", run.name)

    from darts_noise.search.parts import make_parts

    with naming_plugins(run.plugins, *given.configs), within("model"):
        make_parts(config)  # an error in it need not wait for Lightning
    _require_root_read(given, lambda: _reads_root(data.name, lambda: [config.noise_family]))

    from darts_noise.data.module import ImageDataModule
    from darts_noise.report.card import row, verdict
    from darts_noise.runs import search as searching

    ready()
    with naming_plugins(run.plugins, *given.configs):
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
    options += plugins_option(run.plugins)
    print(f"next: {called('train')}{options}{runs_option(run.runs)}")


def train(argv: Sequence[str]) -> None:
    """Run ``darts-noise train``: train a network of a cell, on the data and on noise."""
    given = _read(TRAIN, argv, handed_on)
    if given is None:
        return
    cell, data, settings = _of_training(given, "train")

    from darts_noise.data.module import ImageDataModule
    from darts_noise.report.card import control_row, row, verdict
    from darts_noise.runs.train import train as training

    ready()
    with _training(given, cell, settings["noise"]):
        result = training(cell, ImageDataModule(data), **settings)
    if not result.card:  # another process has it
        return
    print(row(result.card))
    if control := control_row(result.card):
        print(f"control: {control}")
    print(f"card: {result.path / 'card.md'}\nbundle: {result.bundle}")
    print(f"verdict: {verdict(result.card)}")


def ensemble(argv: Sequence[str]) -> None:
    """Run ``darts-noise ensemble train`` or ``darts-noise ensemble evaluate``."""
    name, *rest = argv or [""]
    if name in ("-h", "--help"):
        print(f"usage: {COMMAND} ensemble train|evaluate [--help] [ARGUMENTS ...]")
    elif name == "train":
        _train_ensemble(rest)
    elif name == "evaluate":
        evaluate_ensemble(rest)
    else:
        raise UsageError(f"expected train or evaluate, got {name!r}")


def _train_ensemble(argv: Sequence[str]) -> None:
    """Train networks of one cell."""
    given = _read(ENSEMBLE, argv, handed_on)
    if given is None:
        return
    require_at_least(2, members=given.values["members"])
    cell, data, settings = _of_training(given, ENSEMBLE.name)

    from darts_noise.data.module import ImageDataModule
    from darts_noise.report.card import row
    from darts_noise.runs.ensembles import train_ensemble

    ready()
    members = given.values["members"]
    with _training(given, cell, settings["noise"]):
        trained = train_ensemble(cell, ImageDataModule(data), members=members, **settings)
    plugins = plugins_option(settings["run"].plugins)
    for member in trained.members:
        print(f"{member}: {row(read_json(member / 'card.json'))}")
    print(f"ensemble: {trained.path}")
    print(f"next: {COMMAND} ensemble evaluate {quote(str(trained.path))}{plugins}")


def _of_training(given: Given, kind: str) -> tuple[str, DataConfig, dict[str, Any]]:
    """Return the cell of a training, its data and its other settings, all checked."""
    config = given.settings(TrainConfig, "model.")
    noise = given.settings(NoiseConfig, "noise_")
    data = given.settings(DataConfig, "data.")
    trainer = given.settings(TrainerConfig, "trainer.")
    run = given.settings(RunConfig)
    for key in ("model.adversarial_steps", "model.adversarial_norm"):
        if key in given.stated and not config.adversarial_eps:
            raise SettingError("model.adversarial_eps", f"expected more than 0 with {key}, got 0")
    if run.resume is None:
        require_free(run.runs, kind, run.name)
    cell = find_cell(config.genotype, run.runs, given.configs)
    if config.init is not None:
        with about("model.init"):
            require_bundle(config.init)

    with naming_plugins(run.plugins, *given.configs, cell):
        meta: Mapping[str, Any] = {}
        if not is_artifact_path(cell):  # which would be downloaded twice
            with about("model.genotype"):
                meta = load_genotype(cell).meta
        _check_parts(config, noise.families(meta))
    return cell, data, {"config": config, "noise": noise, "trainer": trainer, "run": run}


def _check_parts(config: TrainConfig, families: Iterable[NoiseFamily]) -> None:
    """Raise a `SettingError` for invalid settings of what a training names, before Lightning."""
    from darts_noise.noise.families import require_noise
    from darts_noise.train.noisy_labels import make_selection

    with within("model"):
        make_selection(config.noisy_labels)
    with within("noise_"):
        for family in families:
            require_noise(family)


@contextmanager
def _training(given: Given, cell: str, noise: NoiseConfig) -> Iterator[None]:
    """Refuse a root that nothing reads. Inside the context, errors name plugins and sources."""
    with naming_plugins(given.values["plugins"], *given.configs, cell), naming_source(given):
        _require_root_read(
            given,
            lambda: _reads_root(
                given.values["data.name"], lambda: noise.families(load_genotype(cell).meta)
            ),
        )
        yield


def report(argv: Sequence[str]) -> None:
    """Run ``darts-noise report``: write runs as one HTML page."""
    parser = Arguments("Write runs as one HTML page that needs no network.")
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="folder of a search, training, study, ensemble or bundle, such as runs/search/latest",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("report.html"), help="the page [report.html]"
    )
    given = parser.parse_args(argv)
    require_replaceable(given.output, "darts_noise")  # the generator that a page states
    for run in given.runs:
        if not run.is_dir():
            fail(f"{run}: expected the directory of a run, such as runs/search/latest")

    from darts_noise.atomic import write_text
    from darts_noise.report.page import make_page

    ready()

    def explain(run: Path, error: Exception) -> str:
        lacking = lacking_plugins(run, given.plugins) if names_unknown(error) else None
        return "; ".join(filter(None, (str(error), lacking)))

    with with_plugins(given.plugins, *given.runs):
        page = make_page(given.runs, explain)
    write_text(given.output, page)
    print(f"report: {given.output}")


def bundle(argv: Sequence[str]) -> None:
    """Run ``darts-noise bundle``: write the network of a training run as a folder."""
    parser = Arguments("Write the network of a training run as a bundle for dn.load_pretrained.")
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("folder", type=Path, help="folder of the bundle")
    given = parser.parse_args(argv)
    if given.folder.is_file() or any(given.folder.glob("[!.]*")):
        fail(f"{given.folder}: expected a new or an empty folder; its files are not replaced")
    read_json(given.run / "card.json")

    from darts_noise.runs.train import bundle_run

    ready()
    with with_plugins(given.plugins, given.run):
        print(bundle_run(given.run, given.folder))


def predict(argv: Sequence[str]) -> None:
    """``darts-noise predict``: the class of image files."""
    parser = Arguments("Print the class of each image and its probability.")
    parser.add_argument(
        "run", help="folder of a training run or of a bundle, or the name of a shipped network"
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image file of any size")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON with the probability of each class")
    form.add_argument("--csv", action="store_true", help="lines of image,class,probability")
    given = parser.parse_args(argv)
    require_bundle(given.run)

    from PIL import Image, UnidentifiedImageError

    for image in given.images:
        if not Path(image).exists():
            fail(f"{image}: cannot read the image (no such file)")
        try:
            Image.open(image).close()
        except UnidentifiedImageError:
            fail(f"{image}: cannot read the image (not an image)")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            pass  # the prediction reports it

    from darts_noise.pretrained.predict import predict as predicting

    ready()
    with with_plugins(given.plugins, given.run):
        found = predicting(given.run, given.images)
    if given.json:
        rows = [
            {
                "image": str(one.image),
                "class": one.label,
                "probability": one.probability,
                "probabilities": dict(one.probabilities),
            }
            for one in found
        ]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    elif given.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["image", "class", "probability"])
        writer.writerows([one.image, one.label, f"{one.probability:.6f}"] for one in found)
    else:
        for one in found:
            print(f"{one.image}: {one.label} ({100 * one.probability:.1f}%)")


def study(argv: Sequence[str]) -> None:
    """Run ``darts-noise study``: compare many runs."""
    words = ["--table=true" if word == "--table" else word for word in argv]
    front, rest = split(words if not words or words[0].startswith("-") else ["--config", *words])
    if front.resume is not None:
        raise UsageError("--resume: expected none with a study; repeat the same command")
    run_plugins(front.plugins)
    if len(front.config) != 1 and not front.help:
        raise UsageError(f"expected one config, as in {called()} digits")
    file = find_config((front.config or ["digits"])[0], "study")
    parser = Parser(STUDY)
    content = partial(_study_content, file)
    given = parser.parse(rest, default=content, source=file)
    values: dict[str, Any] = {**given.values, **{f"{name}.config": None for name in SETUPS}}
    values["name"] = values["name"] or file.stem
    cells = values["cells"] or {}
    values["cells"] = {k: _found_cells(v, file.parent) for k, v in cells.items()}
    if values["root"] is not None:
        values |= {f"{name}.data.root": values["root"] for name in SETUPS}
    given = replace(given, values=values)
    if _told(parser, given, front):
        return
    config = given.settings(StudyConfig)
    if not may_be_extended():
        require_built_in(values)
        for setup in SETUPS:
            own = {k.partition(".")[2]: v for k, v in values.items() if k.startswith(f"{setup}.")}
            with within(setup):
                require_built_in(own)
    if find_spec("optuna") is None:  # the extra ``study`` is not installed
        fail(NEEDS_OPTUNA)  # before the import of torch, which takes seconds

    from darts_noise.study.units import check_names

    check_names(config)  # an error in it need not wait for Lightning
    try:
        from darts_noise.study import run as studying
    except ImportError as error:  # another version of Optuna
        fail(error)

    ready()
    make = studying.tabulate if values["table"] else studying.study
    command = join(["darts-noise", "study", *(word for word in argv if word != "--table")])
    found = make(config, runs=values["runs"], command=command)
    print(f"table: {found.path / 'table.md'}")


def _study_content(file: Path, stated: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config of a study, merged over the search and training configs that it names.

    Args:
        file: the study's config. The named configs are looked up in its folder, then among the
            shipped ones.
        stated: the keys that the options state.
    """
    content = read_config(file)
    setups: dict[str, Any] = {}
    for key in DECIDED:
        setup, group, name = key.split(".")
        if name in ((content.get(setup) or {}).get(group) or {}):
            raise SettingError(key, "expected none, because the study sets it")
    for setup, command in SETUPS.items():
        named = stated.get(f"{setup}.config", (content.get(setup) or {}).get("config"))
        if named is None:
            continue
        with within(setup):
            if not isinstance(named, str):
                raise SettingError("config", f"expected a file or a name, got {shown(named)}")
            path = file.parent / named
            path = path if path.is_file() else find_config(named, setup)
        try:
            Parser(command).parse([], [path])
        except UsageError as error:
            raise UsageError(f"{setup}: {error}") from None
        setups[setup] = {k: v for k, v in read_config(path).items() if k in GROUPS}
    return merge_configs([setups, content])


def _found_cells(cells: str | list[str], folder: Path) -> str | list[str]:
    """Return the cells of a study, with absolute paths instead of paths that exist."""
    if not isinstance(cells, str):
        return [str(_found_cells(cell, folder)) for cell in cells]
    for path in (folder / cells, Path(cells)):
        if cells.lower() not in list_genotypes() and path.exists():
            return str(path.resolve())
    return cells


def _read(
    command: Command,
    argv: Sequence[str],
    default: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> Given | None:
    """Return the settings of a command line, or None after printing ``--help`` or the config.

    Args:
        command: the command.
        argv: its arguments.
        default: returns the config to use without ``--config``, given the keys that the options
            state.

    Raises:
        UsageError: an option that the command does not take.
        SettingError: a config that cannot be read, or no run to resume.
        SystemExit: 0 if the run to resume has ended.
    """
    front, rest = split(argv)
    run_plugins(front.plugins)
    parser = Parser(command)
    if front.resume is not None:
        run, options = _resumed(parser, front, rest)
        given = parser.parse(options, [run / CONFIG])
        values: dict[str, Any] = {**given.values, "resume": str(run)}
    else:
        configs = [find_config(named, command.configs or command.name) for named in front.config]
        given = parser.parse(rest, configs, default)
        values = dict(given.values)
    values |= dict.fromkeys(SEEDED, values["seed"])
    require_seed(values["seed"])
    values["plugins"] = tuple(front.plugins)
    values["trust"] = ",".join(_trusted(values["trust"], given.stated)) or None
    given = replace(given, values=values)
    if _told(parser, given, front):
        return None
    if not may_be_extended():
        with naming_plugins(front.plugins, *given.configs):
            require_built_in(values)
        if command is SEARCH:
            _require_root_read(given, lambda: not reads_no_file(values))
        root = values["data.root"]
        if values["data.name"] == "image_folder" and not Path(root).expanduser().is_dir():
            raise SettingError("data.root", f"expected the folder of your images, got {root!r}")
    return given


def _require_root_read(given: Given, is_read: Callable[[], bool]) -> None:
    """Refuse a root that the user states and nothing reads, because other data were meant.

    A config that states the root and the data, such as the config of a run, is not refused.

    Args:
        given: the settings of a search or a training.
        is_read: returns whether the data or a noise family reads files in the root.

    Raises:
        SettingError: neither the data nor a noise family reads a file of this root.
    """
    name, root = given.values["data.name"], given.values["data.root"]
    groups = [read_config(file).get("data") or {} for file in given.configs]
    stated = "data.root" in given.stated or any("root" in g and "name" not in g for g in groups)
    if stated and not is_read():
        raise SettingError(
            "data.root",
            f"expected none, because {name!r} is installed with the package and no noise family "
            f"reads files, got {root!r}; for your own images add --config small or "
            "--data.name image_folder",
        )


def _reads_root(name: str, families: Callable[[], list[NoiseFamily]]) -> bool:
    """Return whether a data set or one of the noise families reads files in the root."""
    from darts_noise.data.datasets import has_files
    from darts_noise.noise.families import reads_root

    return has_files(name) or any(map(reads_root, families()))


def _told(parser: Parser, given: Given, front: argparse.Namespace) -> bool:
    """Print the help or the config if the command line asks for it, and return whether it does."""
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
    """Return the run to resume, and the options to parse with its config."""
    stated = parser.stated(argv)
    for key in ["config" for _ in front.config] + list(stated):
        if key not in BESIDE_RESUME:
            allowed = ", ".join(f"--{k}" for k in BESIDE_RESUME)
            raise SettingError(
                "resume",
                f"a resumed run keeps its settings; expected only {allowed} beside --resume, "
                f"got --{key}",
            )
    run = find_run(stated.get("runs", "runs"), parser.command.name, front.resume)
    if has_ended(run):
        print(f"{run} has ended; its card is {run / 'card.md'}")
        raise SystemExit(0)
    return run, [*argv, f"--runs={run.parent.parent}", f"--name={run.name}"]


def _trusted(packages: str | None, stated: Mapping[str, Any]) -> list[str]:
    """Return the packages whose classes a config may name.

    They are the packages of ``--trust`` and of the Trainer's classes on the command line itself."""
    own = " ".join(str(stated.get(f"trainer.{key}", "")) for key in OBJECTS)
    return sorted(
        {*(packages or "").split(","), *re.findall(r"([A-Za-z_]\w*)(?:\.\w+)+", own)} - {""}
    )


COMMANDS: Mapping[str, Callable[[Sequence[str]], None]] = {
    "search": search,
    "train": train,
    "ensemble": ensemble,
    "study": study,
    "report": report,
    "bundle": bundle,
    "predict": predict,
    "attack": attack,
    "certify": certify,
    "examine": examine,
}
