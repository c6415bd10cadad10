"""The commands that measure trained networks: attack, certify, ensemble evaluate and examine."""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin

import yaml

from darts_noise.attacks.settings import ATTACK, CERTIFICATE, ENSEMBLE, EPS, MADE_ON, AttackConfig
from darts_noise.cli.configs import find_config
from darts_noise.cli.defaults import (
    find_search,
    handed_on,
    of_a_trained_network,
    require_bundle,
    shipped,
    shipped_for,
)
from darts_noise.cli.names import ACCELERATORS, DATASETS, SECTIONS, may_be_extended
from darts_noise.cli.options import TRAIN
from darts_noise.cli.parser import Arguments, Parser, field_names, options_of
from darts_noise.cli.plugins import naming_plugins, require_plugin, run_plugin, with_plugins
from darts_noise.cli.program import ready
from darts_noise.configured import alternatives, changed, require_at_least, require_seed
from darts_noise.data.settings import DataConfig
from darts_noise.errors import SettingError, unknown
from darts_noise.examine.settings import ExamineConfig
from darts_noise.pretrained.shipped import CONFIG as BUNDLE
from darts_noise.pretrained.shipped import SIZES, find_bundle, is_artifact
from darts_noise.runs.folder import CONFIG, members_of, require_replaceable
from darts_noise.runs.settings import RunConfig
from darts_noise.space.json_file import read_json
from darts_noise.train.settings import TrainConfig

T = TypeVar("T")


def attack(argv: Sequence[str]) -> None:
    """Run ``darts-noise attack``: measure the accuracy of a trained network under attack."""
    parser = Arguments("Measure the accuracy of a trained network under attack.")
    _add_examined(parser, "attack_NORM.json")
    _add_settings(parser, AttackConfig)
    given = parser.parse_args(argv)
    config = _settings_of(given, AttackConfig)
    file = _result_file(given, f"attack_{config.norm}.json", ATTACK)
    require_bundle(given.run)

    from darts_noise.runs.robustness import attack as attacking

    ready()
    with with_plugins(given.plugins, given.run):
        found = attacking(given.run, _data_of(given.run, given.root), config)
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
    parser = Arguments(
        "Print how far the test images can change before a network of bounded gain may err."
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
    if given.samples is not None:
        require_at_least(1, samples=given.samples)
    sizes = AttackConfig("l2", None if given.eps is None else tuple(given.eps)).sizes
    file = _result_file(given, "certificate.json", CERTIFICATE)
    require_bundle(given.run)

    from darts_noise.runs.robustness import certify as certifying

    ready()
    with with_plugins(given.plugins, given.run):
        found = certifying(
            given.run, _data_of(given.run, given.root), samples=given.samples, seed=given.seed
        )
    print(f"certificate: {given.run} | l2 | {len(found.radii):,} test images")
    eps = (0.0, *sizes)
    _print_accuracies(eps, {"certified": [found.accuracy(size) for size in eps]})
    print(f"median radius: {found.radii.median():.3g}, with pixels from 0 to 1")
    _write_result(found, file)


def evaluate_ensemble(argv: Sequence[str]) -> None:
    """Run ``darts-noise ensemble evaluate``: measure networks that decide together."""
    parser = Arguments(
        "Measure accuracy, calibration and accuracy under attack of networks that decide together."
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folder of an ensemble, of a training run or of a bundle, or the name of a shipped "
        "network",
    )
    parser.add_argument("--outside", metavar="RUN", help="another network, to make examples on")
    parser.add_argument("--root", help="folder of the data [the folder of the training]")
    parser.add_argument(
        "--output", type=Path, help="folder of the result [for one ensemble: its folder]"
    )
    _add_settings(parser, AttackConfig)
    given = parser.parse_args(argv)
    config = _settings_of(given, AttackConfig)
    one = Path(given.runs[0]) if len(given.runs) == 1 else None
    folder: Path | None = given.output or one
    if folder is not None:
        if folder.exists() and not folder.is_dir():
            raise SettingError("output", f"expected a folder, got the file {folder}")
        require_replaceable(folder / "ensemble.json", ENSEMBLE)
    members = [str(member) for member in members_of(given.runs)]
    for source in (*members, *([given.outside] if given.outside else [])):
        require_bundle(source)
    _require_same_images(members, given.outside)

    from darts_noise.report.style import save_figure
    from darts_noise.runs.ensembles import draw_features
    from darts_noise.runs.ensembles import evaluate_ensemble as evaluating

    ready()
    with with_plugins(given.plugins, *given.runs):
        found = evaluating(members, _data_of(members[0], given.root), config, outside=given.outside)
    print(
        f"ensemble: {found.members} networks | {config.norm} | {found.images:,} test images | "
        f"seed {config.seed}"
    )
    errors = [f"{name} {100 * error:.2f}%" for name, error in found.calibration.items()]
    print(f"calibration error: {', '.join(errors)}")
    for source, accuracies in found.attacked.items():
        print(f"examples made on {MADE_ON[source]}:")
        columns = {name: (found.accuracy[name], *of) for name, of in accuracies.items()}
        _print_accuracies((0.0, *found.eps), columns)
    for warning in found.warnings:
        print(f"warning: {warning}")
    if folder is None:
        print("not written; --output names a folder")
    else:
        _write_result(found, folder / "ensemble.json")
        figure = draw_features(members[0], _data_of(members[0], given.root), config)
        print(f"features: {save_figure(figure, folder / 'ensemble_features')[0]}")


def examine(argv: Sequence[str]) -> None:
    """Run ``darts-noise examine``: measure what a network memorises, and how."""
    parser = Arguments("Measure what a network memorises, and how, on one page.")
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
        help="config with the images and the network size [config of the run or of the data]",
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
    config = _settings_of(given, ExamineConfig, sections=_of_sections(given.set))
    RunConfig(name=given.name)  # checks the name
    if given.accelerator not in ACCELERATORS:
        problem = unknown("accelerator", given.accelerator, ACCELERATORS)
        raise SettingError("accelerator", problem)
    if given.config is not None:
        find_config(given.config, "train")
    if not given.plugins:
        with naming_plugins((), given.network):
            _require_examined(given, config)

    from darts_noise.data.module import ImageDataModule
    from darts_noise.runs.examine import examine as examining

    ready()
    with with_plugins(given.plugins, given.network):
        network, content = _to_examine(given)
        sizes = (*SIZES, "parameters")
        model = {key: value for key, value in content["model"].items() if key in sizes}
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
    in_run = Path(given.run) / name if (Path(given.run) / CONFIG).is_file() else None
    file: Path | None = given.output or in_run
    if file is not None:
        require_replaceable(file, form)
    return file


def _data_of(network: str, root: str | None) -> Any:
    """Return the data of a network in another folder, or None without such a folder."""
    if root is None:
        return None
    from darts_noise.data.module import ImageDataModule
    from darts_noise.runs.robustness import trained_on

    return ImageDataModule(changed(DataConfig(), {**trained_on(network), "root": root}))


def _write_result(result: Any, file: Path | None) -> None:
    from darts_noise.runs.robustness import write_result

    if file is not None:
        write_result(result, file)
        print(f"file: {file}")


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
    from darts_noise.train.control_networks import CONTROL_NETWORKS

    network, on = given.network, {}
    if given.on is not None:
        on = {"name": given.on}
        _require_data(given.on, list_datasets())
        if given.on not in list_datasets():
            on = {"name": "image_folder", "root": given.on}
    name = on.get("name")
    file, _, function = network.rpartition(":")
    is_trained = False
    if file.endswith(".py"):
        network = getattr(run_plugin(Path(file)), function, None)
        if not callable(network):
            raise SettingError("network", f"expected a function of {file}, got {function!r}")
    elif network not in CONTROL_NETWORKS:
        network = find_search(network, given.runs) or network
        with suppress(ValueError):
            is_trained = bool(find_bundle(network))
    if given.config is not None:
        parsed = Parser(TRAIN).parse([], [find_config(given.config, TRAIN.name)])
        content: Mapping[str, Any] = parsed.nested()
    elif is_trained:
        content = of_a_trained_network(
            {"model.init": network, **({"data.name": name} if name else {})}
        )
    elif name is not None:
        content = shipped_for(name)
    elif isinstance(network, str) and network not in CONTROL_NETWORKS:
        content = handed_on({"model.genotype": network, "runs": given.runs})
    else:
        content = shipped("train/digits")
    data = {**content.get("data", {}), **on}
    if given.root is not None:
        data["root"] = given.root
    return network, {"model": content.get("model", {}), "data": data}


def _require_examined(given: argparse.Namespace, config: ExamineConfig) -> None:
    """Raise the first error of the data, the sections and a plugin, before any long import."""
    if not may_be_extended():
        _require_data(given.on, DATASETS)
        for key, named in (("only", config.only), ("sections", config.sections)):
            for name in named:
                if name not in SECTIONS:
                    raise SettingError(key, unknown("section", name, SECTIONS))
    if config.sections:
        from darts_noise.examine.sections import make_sections

        make_sections((), config.sections)
    if ".py:" in given.network:
        require_plugin(Path(given.network.rpartition(":")[0]))


def _require_same_images(members: Sequence[str], outside: str | None) -> None:
    """Raise a `SettingError` for a network that was trained on other images than the first."""
    images = []
    for source in [*members, *([outside] if outside else [])]:
        if not is_artifact(source):
            trained = read_json(find_bundle(source) / BUNDLE).get("images") or {}
            images.append([trained.get(key) for key in ("image_size", "classes")])
            if images[-1] != images[0]:
                raise SettingError(
                    "outside" if source == outside else "members",
                    f"expected networks for the same images and classes; {source} was trained on "
                    f"others than {members[0]}",
                )


def _require_data(on: str | None, datasets: Sequence[str]) -> None:
    """Raise a `SettingError` if ``--on`` is neither a data set nor a folder."""
    if on is not None and on not in datasets and not Path(on).expanduser().is_dir():
        raise SettingError("on", unknown("data set or folder", on, datasets))


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
        kind = next(one for one in alternatives(option.type) if one is not NoneType)
        value, is_list = option.default, get_origin(kind) is tuple
        shown_default = " ".join(value) if isinstance(value, tuple) else value
        parser.add_argument(
            f"--{option.key}",
            type=get_args(kind)[0] if is_list else kind,
            default=value,
            metavar=(metavars or {}).get(option.key, option.key.upper()),
            help=option.text.rstrip(".").removesuffix(" null: all").replace("null", "default")
            + (f" [{shown_default}]" if value not in (None, ()) else ""),
            nargs="+" if is_list else None,
        )


def _settings_of(given: argparse.Namespace, cls: type[T], **more: Any) -> T:
    """Return the settings that `_add_settings` has added to a parser."""
    values = {name: getattr(given, name) for name in field_names(cls) if name not in more}
    values |= {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return cls(**values, **more)


def _print_accuracies(eps: Sequence[float], columns: Mapping[str, Sequence[float]]) -> None:
    """Print a table: a row for each size of a change, a column for each accuracy."""
    widths = [max(9, len(name)) for name in columns]
    cells = [f"{name:>{width}}" for name, width in zip(columns, widths, strict=True)]
    print("  ".join(["     eps", *cells]))
    for size, *row in zip(eps, *columns.values(), strict=True):
        shares = [f"{100 * share:.2f}%" for share in row]
        cells = [f"{share:>{width}}" for share, width in zip(shares, widths, strict=True)]
        print("  ".join([f"{size:>8g}", *cells]))
