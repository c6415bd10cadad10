"""The commands: each parses its arguments, calls a function and prints the result."""

import argparse
import csv
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from shlex import join, quote
from types import ModuleType, NoneType, UnionType
from typing import Any, NoReturn, TypeVar, get_args, get_origin

import yaml

from darts_noise.cli.configs import (
    CONFIGS,
    find_config,
    list_configs,
    merge_configs,
    read_config,
)
from darts_noise.cli.names import may_be_extended, require_built_in
from darts_noise.cli.parser import (
    Command,
    Given,
    Option,
    Parser,
    UsageError,
    options_of,
    split,
)
from darts_noise.cli.program import called, fail, ready
from darts_noise.configured import LARGEST_SEED, changed, require_seed
from darts_noise.data.settings import DataConfig
from darts_noise.errors import SettingError, names_unknown, unknown, within
from darts_noise.examine.settings import EPS, AttackConfig, ExamineConfig
from darts_noise.runs.folder import (
    CONFIG,
    find_run,
    has_ended,
    lacking_plugins,
    newest_run,
    read_run_config,
    require_free,
)
from darts_noise.runs.settings import OBJECTS, RunConfig, TrainerConfig, check_trainer
from darts_noise.search.settings import SearchConfig
from darts_noise.space.json_file import read_json
from darts_noise.space.shown import shown
from darts_noise.study.settings import DECIDED, GROUPS, NEEDS_OPTUNA, StudyConfig
from darts_noise.train.settings import NoiseConfig, NoiseFamily, TrainConfig

T = TypeVar("T")

SEED = Option("seed", int, 0, f"seed of all random numbers, 0 to {LARGEST_SEED}")
SEEDED = ("model.seed", "data.seed")
"""Keys that ``--seed`` sets."""
BESIDE_RESUME = ("runs", "wandb", "wandb_project", "trust")
"""The options that ``--resume`` allows: folders, tracking and trusted packages."""
OF_A_TRAINING = (
    *("batch_size", "validation_fraction", "train_samples", "seed"),
    *("crop_padding", "cutout", "random_resized_crop", "color_jitter"),
)
"""Keys of ``data`` that a training takes from its own config, never from the search."""
OF_THE_RACE = ("space", "strategy", "race")
"""Keys of ``model`` whose values the race of the default search needs."""
MORE = ("Every other argument of Lightning's Trainer is accepted as --trainer.KEY VALUE.",)


def _names(cls: type) -> list[str]:
    return [f.name for f in fields(cls)]


SEARCH = Command(
    "search",
    "Search for a cell that learns the data and cannot learn noise.",
    {"": RunConfig, "trainer.": TrainerConfig, "model.": SearchConfig, "data.": DataConfig},
    [SEED],
    dict.fromkeys(set(_names(TrainConfig)) - set(_names(SearchConfig)), "train.py"),
    SEEDED,
    MORE,
    short={f"model.{name}": name for name in ("strategy", "strategy_steps")},
)
TRAIN = Command(
    "train",
    "Train a network of a searched or published cell, on the data and on noise.",
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
    short={"model.noisy_labels": "noisy_labels"},
)

SETUPS: Mapping[str, Command] = {"search": SEARCH, "train": TRAIN}
"""The commands whose configs a study can name. The study's own keys override these configs."""
STUDY = Command(
    "study",
    "Compare searches, seeds and controls, all trained and measured alike. Repeat to resume.",
    {"": StudyConfig},
    [
        Option("runs", str, "runs", "folder of all runs"),
        Option("root", str | None, None, "folder of the data. null: the folder in the configs"),
        Option("table", bool, False, "only rewrite the table and the plot from the results so far"),
        *(Option(f"{name}.config", str | None, None, f"config of {name}.py") for name in SETUPS),
    ],
    hidden=DECIDED,
    more=[
        "Settings of a search and of a training: --search.model.channels 8",
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
    """Print how to continue a stopped run, and return the exit status."""
    from darts_noise.runs.run import Interrupted

    if not isinstance(stop, Interrupted):
        return 130
    if stop.status:  # zero in all processes except the first
        print("\n".join([str(stop), *stop.hints]))
        if name in ("study", "examine"):
            print("to resume: the same command")
        elif stop.run is not None:
            plugins = _plugins_option(split(argv)[0].plugins)
            print(f"to resume: {called(name)} --resume {quote(str(stop.run))}{plugins}")
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
    given = _read(SEARCH, argv, _default_search)
    if given is None:
        return
    config = given.settings(SearchConfig, "model.")
    data = given.settings(DataConfig, "data.")
    trainer = given.settings(TrainerConfig, "trainer.")
    run = given.settings(RunConfig)
    check_trainer(config, trainer)
    if run.resume is None:
        require_free(run.runs, "search", run.name)

    from darts_noise.data.module import ImageDataModule
    from darts_noise.report.card import row, verdict
    from darts_noise.runs import search as searching

    ready()
    _require_root_read(given, lambda: [config.noise_family])
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
    """Run ``darts-noise train``: train a network of a cell, on the data and on noise."""
    given = _read(TRAIN, argv, _handed_on)
    if given is None:
        return
    config = given.settings(TrainConfig, "model.")
    noise = given.settings(NoiseConfig, "noise_")
    data = given.settings(DataConfig, "data.")
    trainer = given.settings(TrainerConfig, "trainer.")
    run = given.settings(RunConfig)
    cell = _cell(config.genotype, run.runs, given.configs)
    if run.resume is None:
        require_free(run.runs, "train", run.name)
    if config.init is not None:
        with _about("model.init"):
            _require_bundle(config.init)

    from darts_noise.space.published import load_genotype
    from darts_noise.space.wandb_artifact import is_artifact_path

    plugins = _naming_plugins(run.plugins, *given.configs, cell)
    if not is_artifact_path(cell):  # which would be downloaded twice
        with plugins, _about("model.genotype"):
            load_genotype(cell)

    from darts_noise.data.module import ImageDataModule
    from darts_noise.report.card import control_row, row, verdict
    from darts_noise.runs import train as training

    ready()
    with _naming_plugins(run.plugins, *given.configs, cell), _naming_source(given):
        _require_root_read(given, lambda: training.measured_families(noise, load_genotype(cell)))
        result = training.train(
            cell, ImageDataModule(data), config, noise=noise, trainer=trainer, run=run
        )
    if not result.card:  # another process has it
        return
    print(row(result.card))
    if control := control_row(result.card):
        print(f"control: {control}")
    print(f"card: {result.path / 'card.md'}\nbundle: {result.bundle}")
    print(f"verdict: {verdict(result.card)}")


def report(argv: Sequence[str]) -> None:
    """Run ``darts-noise report``: write runs as one HTML page."""
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
    for run in given.runs:
        if not run.is_dir():
            fail(f"{run}: expected the directory of a run, such as runs/search/latest")

    from darts_noise.atomic import write_text
    from darts_noise.report.page import make_page

    ready()

    def explain(run: Path, error: Exception) -> str:
        lacking = lacking_plugins(run, given.plugins) if names_unknown(error) else None
        return "; ".join(filter(None, (str(error), lacking)))

    with _naming_plugins(given.plugins, *given.runs):
        _run_plugins(given.plugins)
        page = make_page(given.runs, explain)
    write_text(given.output, page)
    print(f"report: {given.output}")


def bundle(argv: Sequence[str]) -> None:
    """Run ``darts-noise bundle``: write the network of a training run as a folder."""
    parser = _Arguments(
        "bundle", "Write the network of a training run as a bundle for dn.load_pretrained."
    )
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("folder", type=Path, help="folder of the bundle")
    given = parser.parse_args(argv)
    read_json(given.run / "card.json")

    from darts_noise.runs.train import bundle_run

    ready()
    with _naming_plugins(given.plugins, given.run):
        _run_plugins(given.plugins)
        print(bundle_run(given.run, given.folder))


def predict(argv: Sequence[str]) -> None:
    """``darts-noise predict``: the class of image files."""
    parser = _Arguments("predict", "Print the class of each image and its probability.")
    parser.add_argument(
        "run", help="folder of a training run or of a bundle, or the name of a shipped network"
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image file of any size")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON with the probability of each class")
    form.add_argument("--csv", action="store_true", help="lines of image,class,probability")
    given = parser.parse_args(argv)
    _require_bundle(given.run)

    from darts_noise.pretrained.predict import predict as predicting

    ready()
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
            print(f"{one.image}: {one.label} ({100 * one.probability:.1f} %)")


def attack(argv: Sequence[str]) -> None:
    """Run ``darts-noise attack``: measure the accuracy of a trained network under attack."""
    parser = _Arguments("attack", "Measure the accuracy of a trained network under attack.")
    _add_examined(parser, "attack_NORM.json")
    _add_settings(parser, AttackConfig)
    given = parser.parse_args(argv)
    config = _settings_of(given, AttackConfig)
    _require_bundle(given.run)

    from darts_noise.examine.attacks import FORMAT
    from darts_noise.runs.robustness import attack as attacking

    ready()
    file = _result_file(given, f"attack_{config.norm}.json", FORMAT)
    with _naming_plugins(given.plugins, given.run):
        _run_plugins(given.plugins)
        found = attacking(given.run, _data_of(given), config)
    columns = {name: found.accuracy(name) for name in found.smallest}
    if found.radii is not None:
        columns = {"certified": found.certified(), **columns}
    columns["strongest"] = found.accuracy()
    count = len(found.strongest)
    print(f"attack: {given.run} | {config.norm} | {count:,} test images | seed {config.seed}")
    _print_accuracies((0.0, *found.eps), columns)
    for warning in found.warnings:
        print(f"warning: {warning}")
    _write_result(found, file)


def certify(argv: Sequence[str]) -> None:
    """Run ``darts-noise certify``: how far images can change without changing their class."""
    parser = _Arguments(
        "certify",
        "Print how far the test images can change before a network of bounded gain may err.",
    )
    _add_examined(parser, "certificate.json")
    parser.add_argument(
        "--eps",
        type=float,
        nargs="+",
        metavar="EPS",
        help=f"l2 sizes of a change, with pixels from 0 to 1 {list(EPS['l2'])}",
    )
    parser.add_argument("--samples", type=int, help="number of test images [all]")
    parser.add_argument("--seed", type=int, default=0, help="seed of their choice [0]")
    given = parser.parse_args(argv)
    require_seed(given.seed)
    sizes = AttackConfig("l2", None if given.eps is None else tuple(given.eps)).sizes
    _require_bundle(given.run)

    from darts_noise.examine.certificates import FORMAT
    from darts_noise.runs.robustness import certify as certifying

    ready()
    file = _result_file(given, "certificate.json", FORMAT)
    with _naming_plugins(given.plugins, given.run):
        _run_plugins(given.plugins)
        found = certifying(given.run, _data_of(given), samples=given.samples, seed=given.seed)
    print(f"certificate: {given.run} | l2 | {len(found.radii):,} test images")
    eps = (0.0, *sizes)
    _print_accuracies(eps, {"certified": [found.accuracy(size) for size in eps]})
    print(f"median radius: {found.radii.median():.3g}, with pixels from 0 to 1")
    _write_result(found, file)


def _add_examined(parser: argparse.ArgumentParser, file: str) -> None:
    """Add the arguments of `attack` and `certify`: the network, its data, and the file."""
    parser.add_argument(
        "run", help="folder of a training run or of a bundle, or the name of a shipped network"
    )
    parser.add_argument("--root", help="folder of the data [the folder of the training]")
    parser.add_argument(
        "--output", type=Path, help=f"file of the result [for a training run: RUN/{file}]"
    )


def _result_file(given: argparse.Namespace, name: str, form: str) -> Path | None:
    """Return the file of a result: the one that the user named, or one in the folder of the run.

    Raises:
        SettingError: another file has this name. It is found before the work, not after it.
    """
    from darts_noise.runs.robustness import require_replaceable

    in_run = Path(given.run) / name if (Path(given.run) / CONFIG).is_file() else None
    file: Path | None = given.output or in_run
    if file is not None:
        require_replaceable(file, form)
    return file


def _data_of(given: argparse.Namespace) -> Any:
    """Return the data of a network in another folder, or None if the user names no folder."""
    if given.root is None:
        return None
    from darts_noise.data.module import ImageDataModule
    from darts_noise.runs.robustness import trained_on

    return ImageDataModule(changed(DataConfig(), {**trained_on(given.run), "root": given.root}))


def _write_result(result: Any, file: Path | None) -> None:
    from darts_noise.runs.robustness import write_result

    if file is not None:
        write_result(result, file)
        print(f"file: {file}")


def examine(argv: Sequence[str]) -> None:
    """Run ``darts-noise examine``: measure what a network memorises, and how."""
    parser = _Arguments("examine", "Measure what a network memorises, and how, on one page.")
    parser.add_argument(
        "network",
        help="folder of a run or of a bundle, genotype (name, file or text), name of a shipped "
        "network or of a control network, or FILE.py:FUNCTION, a function (num_classes, "
        "in_channels) that returns a module",
    )
    parser.add_argument(
        "--on", metavar="DATA", help="data set or folder of images [of the run; otherwise digits]"
    )
    parser.add_argument("--root", help="folder of the data [of the config]")
    parser.add_argument(
        "--config",
        help="config of a training: its images and its network size [those of the run or the data]",
    )
    parser.add_argument("--name", help="name of the examination [the data and the time]")
    parser.add_argument("--runs", default="runs", help="folder of all runs [runs]")
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu or auto [auto]")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PART.KEY=VALUE",
        help="setting of a part, such as capacity.labellings=3; may be repeated",
    )
    _add_settings(parser, ExamineConfig, metavars={"only": "PART"}, leave=("sections",))
    given = parser.parse_args(argv)

    from darts_noise.data.module import ImageDataModule
    from darts_noise.runs.examine import examine as examining
    from darts_noise.train.settings import TrainConfig

    ready()
    with _naming_plugins(given.plugins, given.network):
        _run_plugins(given.plugins)
        config = _settings_of(given, ExamineConfig, sections=_of_sections(given.set))
        network, content = _to_examine(given)
        model = {key: value for key, value in content["model"].items() if key in SIZES}
        found = examining(
            network,
            ImageDataModule(changed(DataConfig(), content["data"])),
            config,
            recipe=changed(TrainConfig(), model),
            runs=given.runs,
            name=given.name,
            accelerator=given.accelerator,
        )
    print(f"page: {found.page}")


SIZES = ("channels", "parameters", "num_cells", "stem", "stem_stride")
"""Settings of the size and the stem of a network of cells."""


def _of_sections(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the settings of sections from texts such as ``capacity.labellings=3``.

    >>> _of_sections(["capacity.labellings=3", "capacity.share=0.5"])
    {'capacity': {'labellings': 3, 'share': 0.5}}
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        section, dot, name = key.partition(".")
        if not (equals and dot and section and name):
            raise SettingError("set", f"expected PART.KEY=VALUE, got {text!r}")
        try:
            found.setdefault(section, {})[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise SettingError(key, f"expected a value, got {value!r}") from None
    return found


def _to_examine(given: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Return the network to examine, and the config of a training on the images.

    Raises:
        SettingError: there is no such network, config or data set.
    """
    from darts_noise.data.datasets import list_datasets
    from darts_noise.pretrained.shipped import find_bundle
    from darts_noise.train.control_networks import CONTROL_NETWORKS

    network, on = given.network, {}
    if given.on is not None:
        on = {"name": given.on}
        if given.on not in list_datasets():
            if not Path(given.on).is_dir():
                raise SettingError("on", unknown("data set or folder", given.on, list_datasets()))
            on = {"name": "image_folder", "root": given.on}
    name = on.get("name")
    file, _, function = network.rpartition(":")
    is_trained = False
    if file.endswith(".py"):
        network = getattr(_run_plugin(Path(file)), function, None)
        if not callable(network):
            raise SettingError("network", f"expected a function of {file}, got {function!r}")
    elif network not in CONTROL_NETWORKS:
        network = _by_name(network, given.runs) or network
        with suppress(ValueError):
            is_trained = bool(find_bundle(network))
    if given.config is not None:
        content: Mapping[str, Any] = read_config(find_config(given.config, "train"))
    elif is_trained:
        content = _of_a_trained_network(
            {"model.init": network, **({"data.name": name} if name else {})}
        )
    elif name is not None:
        content = _shipped_for(name)
    elif isinstance(network, str) and network not in CONTROL_NETWORKS:
        content = _handed_on({"model.genotype": network, "runs": given.runs})
    else:
        content = _shipped("train/digits")
    data = {**content.get("data", {}), **on}
    if given.root is not None:
        data["root"] = given.root
    return network, {"model": content.get("model", {}), "data": data}


def _add_settings(
    parser: argparse.ArgumentParser,
    cls: type,
    metavars: Mapping[str, str] | None = None,
    leave: Sequence[str] = (),
) -> None:
    """Add an argument for each field of a class of settings."""
    for option in options_of(cls, ""):
        if option.key in leave:
            continue
        value, is_list = option.default, get_origin(_without_none(option.type)) is tuple
        shown_default = " ".join(value) if isinstance(value, tuple) else value
        kind = get_args(_without_none(option.type))[0] if is_list else _without_none(option.type)
        parser.add_argument(
            f"--{option.key}",
            type=kind,
            default=value,
            metavar=(metavars or {}).get(option.key, option.key.upper()),
            help=option.text.rstrip(".").removesuffix(" null: all").replace("null", "default")
            + (f" [{shown_default}]" if value not in (None, ()) else ""),
            nargs="+" if is_list else None,
        )


def _without_none(kind: Any) -> Any:
    """Return the type of an optional value.

    >>> _without_none(int | None), _without_none(str)
    (<class 'int'>, <class 'str'>)
    """
    kinds = [one for one in get_args(kind) if one is not NoneType]
    return kinds[0] if get_origin(kind) is UnionType else kind


def _settings_of(given: argparse.Namespace, cls: type[T], **more: Any) -> T:
    """Return the settings that `_add_settings` has added to a parser."""
    values = {name: getattr(given, name) for name in _names(cls) if name not in more}
    values |= {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return cls(**values, **more)


def _print_accuracies(eps: Sequence[float], columns: Mapping[str, Sequence[float]]) -> None:
    """Print a table: a row for each size of a change, a column for each accuracy."""
    widths = [max(9, len(name)) for name in columns]
    cells = [f"{name:>{width}}" for name, width in zip(columns, widths, strict=True)]
    print("  ".join(["     eps", *cells]))
    for size, *row in zip(eps, *columns.values(), strict=True):
        shares = [f"{100 * share:.2f} %" for share in row]
        cells = [f"{share:>{width}}" for share, width in zip(shares, widths, strict=True)]
        print("  ".join([f"{size:>8g}", *cells]))


def study(argv: Sequence[str]) -> None:
    """Run ``darts-noise study``: compare many runs."""
    words = ["--table=true" if word == "--table" else word for word in argv]
    front, rest = split(words if not words or words[0].startswith("-") else ["--config", *words])
    if front.resume is not None:
        raise UsageError("--resume: expected none with a study; repeat the same command")
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
    if find_spec("optuna") is None:  # the extra ``study`` is not installed
        fail(NEEDS_OPTUNA)  # before the import of torch, which takes seconds
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
        path = file.parent / named
        with within(setup):
            path = path if path.is_file() else find_config(named, setup)
        try:
            Parser(command, called()).parse([], [path])
        except UsageError as error:
            raise UsageError(f"{setup}: {error}") from None
        setups[setup] = {k: v for k, v in read_config(path).items() if k in GROUPS}
    return merge_configs([setups, content])


def _found_cells(cells: str | list[str], folder: Path) -> str | list[str]:
    """Return the cells of a study, with absolute paths instead of paths that exist."""
    from darts_noise.space.published import list_genotypes

    if not isinstance(cells, str):
        return [str(_found_cells(cell, folder)) for cell in cells]
    for path in (folder / cells, Path(cells)):
        if cells.lower() not in list_genotypes() and path.exists():
            return str(path.resolve())
    return cells


class _Arguments(argparse.ArgumentParser):
    """A parser of a few arguments that reports errors in one line."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(called(), description=description, allow_abbrev=False)
        self.add_argument(
            "--plugins",
            action="append",
            default=[],
            metavar="FILE",
            help="Python file to run first, as with search.py; may be repeated",
        )

    def error(self, message: str) -> NoReturn:
        fail(message)


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
    values["trust"] = ",".join(_trusted(values["trust"], given.stated)) or None
    given = replace(given, values=values)
    if _told(parser, given, front):
        return None
    if not may_be_extended():
        with _naming_plugins(front.plugins, *given.configs):
            require_built_in(values)
        root = values["data.root"]
        if values["data.name"] == "image_folder" and not Path(root).is_dir():
            raise SettingError("data.root", f"expected the folder of your images, got {root!r}")
    return given


def _require_root_read(given: Given, families: Callable[[], list[NoiseFamily]]) -> None:
    """Refuse a root that the user states and nothing reads, because other data were meant.

    A config that states the root and the data, such as the config of a run, is not refused.

    Args:
        given: the settings of a search or a training.
        families: returns its noise families.

    Raises:
        SettingError: neither the data nor a noise family reads a file of this root.
    """
    from darts_noise.data.datasets import has_files
    from darts_noise.noise.families import reads_root

    name, root = given.values["data.name"], given.values["data.root"]
    groups = [read_config(file).get("data") or {} for file in given.configs]
    stated = "data.root" in given.stated or any("root" in g and "name" not in g for g in groups)
    if stated and not has_files(name) and not any(map(reads_root, families())):
        raise SettingError(
            "data.root",
            f"expected none, because {name!r} is installed with the package and no noise family "
            f"reads files, got {root!r}; for your own images add --config small or "
            "--data.name image_folder",
        )


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


def _shipped(named: str) -> dict[str, Any]:
    return read_config(CONFIGS / f"{named}.yaml")


def _default_search(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a search without ``--config``.

    Its race is a race of its own macro choices in its own space, so it does not go with others. A
    stated list of combinations replaces its combinations.
    """
    content = _shipped("search/digits")
    usual = {"strategy": "darts", **content["model"]}
    differs = any(stated.get(f"model.{key}", usual[key]) != usual[key] for key in OF_THE_RACE)
    if differs or not isinstance(stated.get("model.macro", []), list):
        for key in ("race", "macro"):
            del content["model"][key]
    return content


def _shipped_for(dataset: str) -> dict[str, Any]:
    """Return the shipped config of a training on a data set; `small` for own images."""
    if dataset == "image_folder":
        return _shipped("train/small")
    return _shipped(f"train/{dataset if dataset in list_configs('train') else 'digits'}")


def _handed_on(stated: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config of a training without ``--config``: the settings that a search hands on.

    The search is the search of the named cell, or the newest search. Its data are handed on as they
    are, except for the keys `OF_A_TRAINING`. The other settings come from the shipped config of
    that data set. For own images they come from `small`, and for any other data from `digits`, both
    with the stem of the search. The noise family is left out, because the genotype holds it, and so
    are plugins, because only the command line may name them.

    Args:
        stated: the keys that the options state.

    Raises:
        SettingError: the config of the search is damaged, or a genotype without such a config was
            found on other data than digits.
    """
    if stated.get("model.init") is not None:
        return _of_a_trained_network(stated)
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
    config = _shipped_for(name)
    if name in list_configs("train"):
        model = {}
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
    """Raise a `SettingError` if a genotype without the config of its search is of other data."""
    found = None
    with suppress(ValueError, KeyError, TypeError):  # loading the cell reports what is wrong
        found = read_json(cell)["meta"]["dataset"]
    if isinstance(found, str) and found != dataset:
        raise SettingError(
            "data.name",
            f"{cell} was found on {shown(found)}, and the config of its search is not beside it; "
            "name the data with --data.name or --config",
        )


def _cell_file(named: str | None, runs: str) -> Path | None:
    """Return the file of the training's cell, or None for a published or a missing cell."""
    if named is None:
        newest = newest_run(runs, "search")
        return None if newest is None else newest / "genotype.json"
    from darts_noise.space.genotype_text import has_genotype
    from darts_noise.space.published import list_genotypes

    if named.lower() in list_genotypes() or has_genotype(named):
        return None
    path = Path(_by_name(named, runs) or named)
    file = path / "genotype.json" if path.is_dir() else path
    return file if file.is_file() else None


def _of_a_trained_network(stated: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config of a training that starts from a trained network: its cell and its size.

    If the options state no data, they are those on which the network was trained.
    """
    from darts_noise.pretrained.shipped import find_bundle

    source = stated["model.init"]
    with _about("model.init"):
        folder = find_bundle(source)

    from darts_noise.pretrained.bundle import pretrained_config
    from darts_noise.runs.robustness import trained_on

    with _about("model.init"):
        trained = pretrained_config(folder)
    data = trained_on(source, stated.get("data.name"))
    config = _shipped_for(data["name"])
    form = {key: trained.model[key] for key in ("channels", "num_cells", "stem", "stem_stride")}
    model = {**config["model"], **form, "parameters": None, "genotype": str(folder.resolve())}
    return {**config, "model": model, "data": {**config["data"], **data}}


def _require_bundle(source: str) -> None:
    """Refuse a network that does not exist before the import of torch, which takes seconds."""
    from darts_noise.pretrained.shipped import find_bundle, is_artifact

    if not is_artifact(source):
        find_bundle(source)


@contextmanager
def _about(key: str) -> Iterator[None]:
    """Inside the context, an error becomes an error about a setting."""
    try:
        yield
    except ValueError as error:
        raise SettingError(key, error) from None


def _cell(named: str | None, runs: str, configs: Sequence[Path]) -> str:
    """Return the cell that the user named, or the folder of the newest search.

    Raises:
        UsageError: no cell is named, and there is no search.
    """
    if named is not None:
        from darts_noise.space.genotype_text import has_genotype

        if has_genotype(named):
            return named
        return _beside_config(named, configs) or _by_name(named, runs) or named
    newest = newest_run(runs, "search")
    if newest is None:
        raise UsageError(
            f"no search in {Path(runs) / 'search'}: run `{called('search')}{_runs_option(runs)}` "
            "first, or name a cell, as in --model.genotype darts_v2"
        )
    return str(newest)


def _by_name(named: str, runs: str) -> str | None:
    """Return the folder of the search with this name, or None if a cell or a path has the name."""
    from darts_noise.space.published import list_genotypes

    if named.lower() in list_genotypes() or Path(named).exists() or Path(named).name != named:
        return None
    run = Path(runs) / "search" / named
    if (run / CONFIG).is_file() and not (run / "genotype.json").is_file():
        raise SettingError(
            "model.genotype",
            f"{run} has no cell yet; {called('search')} --resume {quote(str(run))} goes on with it",
        )
    return str(run) if run.is_dir() else None


def _beside_config(named: str, configs: Sequence[Path]) -> str | None:
    """Return the genotype beside the config that names it, if the folder of the run has moved."""
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
    """Return the option with which a command finds runs in this folder, for a shell.

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
def _naming_source(given: Given) -> Iterator[None]:
    """Say in an error inside the context where a key of ``data`` comes from if nobody stated it."""
    try:
        yield
    except SettingError as error:
        group, _, name = error.key.partition(".")
        value = given.values.get(error.key)
        if (
            group == "data"
            and name not in OF_A_TRAINING
            and error.key not in given.stated
            and not given.configs
            and value != vars(DataConfig())[name]
        ):
            error.add_note(
                f"{error.key} {value} comes from the search or the trained network; "
                f"--{error.key} null replaces it"
            )
        raise


@contextmanager
def _naming_plugins(given: Sequence[str], *runs: str | Path) -> Iterator[None]:
    """Name the missing plugins of the runs in an error about an unknown name inside the context.

    A name that only a plugin registers is unknown without it.

    Args:
        given: the plugins of this command.
        runs: folders of runs, or files in them.
    """
    try:
        yield
    except ValueError as error:
        folders = dict.fromkeys(p if p.is_dir() else p.parent for p in map(Path, runs))
        for run in folders if names_unknown(error) else ():
            lacking = lacking_plugins(run, given)
            if lacking is not None:
                error.add_note(lacking)
        raise


def _run_plugins(files: Sequence[str]) -> None:
    for file in files:
        _run_plugin(Path(file))


def _run_plugin(file: Path) -> ModuleType:
    """Run a Python file of the user that registers operations, spaces, noise families or penalties.

    Only the command line can name such a file. A config or a checkpoint cannot, because it may come
    from somebody else.

    Raises:
        SettingError: there is no such file, or it raised an error. The message is one line.
    """
    if file.suffix != ".py" or not file.is_file():
        raise SettingError("plugins", f"expected a file of Python code, got {str(file)!r}")
    spec = spec_from_file_location(f"darts_noise_plugin_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # any error of the user's code
        raise SettingError("plugins", f"{file}: {type(error).__name__}: {error}") from error
    return module


COMMANDS: Mapping[str, Callable[[Sequence[str]], None]] = {
    "search": search,
    "train": train,
    "study": study,
    "report": report,
    "bundle": bundle,
    "predict": predict,
    "attack": attack,
    "certify": certify,
    "examine": examine,
}
