"""Examine what a network memorises, and how: the sections of `darts_noise.examine` in one folder.

The folder ``runs/examine/<name>`` has one JSON file for each finished section, and the page
``report.html``. The same call continues the newest examination of the same network, images and
settings.
"""

import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from rich.console import Console

from darts_noise.atomic import write_text
from darts_noise.configured import changed, config_of, fields_of
from darts_noise.data.images import LabelledImages
from darts_noise.data.module import ImageDataModule
from darts_noise.data.settings import DataConfig
from darts_noise.data.splits import stratified_subset
from darts_noise.errors import SettingError, names_unknown, unknown
from darts_noise.examine.record import as_json, from_json
from darts_noise.examine.section import Pieces, Section, Subject
from darts_noise.examine.sections import make_sections
from darts_noise.examine.settings import ExamineConfig
from darts_noise.noise.datasets import root_of_others
from darts_noise.noise.families import fingerprint
from darts_noise.pretrained.bundle import pretrained_config
from darts_noise.pretrained.shipped import SIZES, find_bundle, list_pretrained
from darts_noise.report.page import Finding, Table, make_findings_page
from darts_noise.runs.folder import (
    CONFIG,
    RunLock,
    create_run,
    newest_first,
    point_latest,
    read_run_config,
    write_config,
)
from darts_noise.runs.robustness import trained_on
from darts_noise.runs.run import Interrupted, plain
from darts_noise.runs.settings import RunConfig
from darts_noise.runs.stops import Interrupts
from darts_noise.shown import readable_duration, shortened, shown
from darts_noise.space.genotype import Genotype
from darts_noise.space.json_file import read_text, shown_path
from darts_noise.space.published import list_genotypes
from darts_noise.train.control_networks import CONTROL_NETWORKS
from darts_noise.train.factories import (
    Factory,
    NetworkLike,
    identify,
    loaded,
    make_network,
    suited_network,
)
from darts_noise.train.progress import quiet_lightning
from darts_noise.train.settings import TrainConfig

KIND = "examine"
"""The folder of all examinations in the folder of the runs."""
PAGE = "report.html"
FORMAT = "darts_noise.section/1"
MOST_BYTES = 64 << 20
"""Largest size of the file of a section."""
HASHES = ("identity", "train", "test")
"""What identifies an examination but says nothing to a reader."""


@dataclass(frozen=True)
class Examination:
    """An examination.

    Attributes:
        path: its folder.
        page: the page.
        results: name of a section → its result.
    """

    path: Path
    page: Path
    results: Mapping[str, Any]


def examine(
    network: NetworkLike,
    data: ImageDataModule | None = None,
    config: ExamineConfig | None = None,
    *,
    recipe: TrainConfig | None = None,
    runs: str | Path = "runs",
    name: str | None = None,
    accelerator: str = "auto",
    console: Console | None = None,
    **settings: Any,
) -> Examination:
    """Examine what a network memorises, and how.

    Each section trains new networks; the weights of a trained network are not used.

    Args:
        network: a published name, a `Genotype`, a path to a ``.json``, the folder of a run or of a
            bundle, the name of a shipped network or of a control network, or a function
            (num_classes, in_channels) that returns a new module.
        data: the images. None: the images of the training that made the network.
        config: the settings.
        recipe: gives a network of cells its size and stem. None: the trained network has them;
            for a genotype alone, the defaults of `TrainConfig`.
        runs: folder of all runs.
        name: name of the examination. None: continue the newest one of the same network, images and
            settings, or start a new one.
        accelerator: ``cpu``, ``gpu`` or ``auto``.
        console: where to show progress. None: standard output.
        settings: fields of `ExamineConfig` by name.

    Raises:
        ValueError: a network, section or setting does not exist, or the images do not suit the
            network.
        Interrupted: a signal stopped it. The same call continues.
    """
    config = config_of(ExamineConfig, config, settings)
    RunConfig(name=name)  # checks the name
    sections = make_sections(config.only, config.sections)
    fabric = _fabric(accelerator)
    found, recipe, trained = network_of(network, recipe)
    if data is None:
        if trained is None:
            raise SettingError("data", "expected images beside a network without its own, got none")
        data = ImageDataModule(changed(DataConfig(), trained_on(trained)))
    data.setup()
    console = console or Console(soft_wrap=True, highlight=False, markup=False)
    shown_name = str(getattr(network, "__name__", None) or network)
    if isinstance(network, Genotype):
        shown_name = str(network.meta.get("name", "genotype"))
    net = suited_network(shown_name, found, data.num_classes, data.image_shape, recipe)

    def make(cells: int = recipe.num_cells) -> torch.nn.Module:
        size = replace(recipe, num_cells=cells)
        return make_network(found, data.num_classes, data.in_channels, size)

    subject = Subject(
        make,
        _some(data.train.with_true_labels(), config),
        _some(data.test, config),
        data.normalisation,
        config,
        fabric,
        make if isinstance(found, Genotype) else None,
        root_of_others(data.name, data.config.root),
    )
    about = {
        "network": shown_name,
        "identity": identify(found, net),
        "parameters": sum(p.numel() for p in net.parameters()),
        "data": data.name,
        "train": fingerprint(subject.train),
        "test": fingerprint(subject.test),
        **{key: value for key, value in fields_of(config).items() if key != "only"},
    }
    folder = _folder(runs, name, plain(about))
    interrupts, lock = Interrupts(), RunLock(folder, "name")
    lock.take()
    try:
        with quiet_lightning(), interrupts, interrupts.allowed():
            console.print(f"examination: {folder}")
            return _work(folder, subject, sections, about, console)
    except KeyboardInterrupt:
        raise Interrupted(folder, 128 + (interrupts.received or signal.SIGINT)) from None
    finally:
        lock.release()


def _fabric(accelerator: str) -> Fabric:
    try:
        return Fabric(accelerator=accelerator, devices=1)
    except (ImportError, RuntimeError, MisconfigurationException, ValueError) as error:
        raise SettingError("accelerator", f"{accelerator!r} cannot be used: {error}") from None


def network_of(
    network: NetworkLike, recipe: TrainConfig | None
) -> tuple[Genotype | Factory, TrainConfig, str | Path | None]:
    """Return the network, the settings of its size, and the bundle or the run of its training."""
    if isinstance(network, str) and network in CONTROL_NETWORKS:
        return CONTROL_NETWORKS[network], recipe or TrainConfig(), None
    if not isinstance(network, str | Path):
        return loaded(network), recipe or TrainConfig(), None
    try:
        folder = find_bundle(network)
    except ValueError:
        try:
            return loaded(network), recipe or TrainConfig(), None
        except ValueError as error:
            problem: object = error
            if names_unknown(error):
                names = (*CONTROL_NETWORKS, *list_pretrained(), *list_genotypes())
                known = unknown("network", shortened(str(network)), names)
                problem = f"{known}, or the path of a .json, a run, a bundle or FILE.py:FUNCTION"
            raise SettingError("network", problem) from None
    sizes: dict[str, Any] = {key: pretrained_config(folder).model[key] for key in SIZES}
    return loaded(folder), replace(recipe or TrainConfig(), parameters=None, **sizes), network


def _some(data: LabelledImages, config: ExamineConfig) -> LabelledImages:
    """Return the images, in memory: a stratified sample if there are more than `config.samples`."""
    if len(data) > config.samples:
        data = data.subset(stratified_subset(data.labels, config.samples, config.seed))
    if isinstance(data.images, torch.Tensor):
        return data
    return replace(data, images=data.images[torch.arange(len(data))])


def _folder(runs: str | Path, name: str | None, about: Mapping[str, Any]) -> Path:
    """Return the folder of the examination: a new one, or one of the same network and settings."""
    folder = Path(runs) / KIND
    if name is not None and (folder / name / CONFIG).is_file():
        before = read_run_config(folder / name)
        for key, value in sorted(about.items(), key=lambda pair: pair[0] in HASHES):
            if before.get(key) != value:
                raise SettingError(
                    "name",
                    f"{folder / name} is another examination, whose {key} is "
                    f"{shown(before.get(key))}, not {shown(value)}; use another --name",
                )
        return folder / name
    if name is None:
        for run in newest_first(folder):
            if read_run_config(run) == about:
                return run
    made = create_run(runs, KIND, name, str(about["data"]))
    write_config(made, dict(about))
    point_latest(made)
    return made


def _work(
    folder: Path,
    subject: Subject,
    sections: Mapping[str, Section[Any]],
    about: Mapping[str, Any],
    console: Console,
) -> Examination:
    """Measure the sections that the folder lacks, and write the page after each of them."""
    missing = {n: s for n, s in sections.items() if not (folder / f"{n}.json").is_file()}
    if missing:
        seconds = subject.seconds_per_step()
        times = {name: seconds * section.steps(subject) for name, section in missing.items()}
        for name, time in times.items():
            console.print(f"  {name}: at most about {readable_duration(time)}")
        if len(times) > 1:
            console.print(f"  all: at most about {readable_duration(sum(times.values()))}")
    for name, section in missing.items():
        unfinished = folder / f"{name}.pieces.json"
        try:
            result = section.measure(subject, Pieces(unfinished, f"  {name}: ", console))
        except SettingError:
            raise
        except ValueError as error:
            raise SettingError(name, error) from error
        content = {"format": FORMAT, "section": name, "result": as_json(result)}
        write_text(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")
        unfinished.unlink(missing_ok=True)
        console.print(f"{name}: {section.sentence(result)}")
        _write_page(folder, about)
    return _write_page(folder, about)


def read_section(file: Path, section: Section[Any]) -> Any:
    """Return the result in the file of a section.

    Raises:
        ValueError: the file is missing or damaged. The message names it.
    """
    try:
        content = json.loads(read_text(file, MOST_BYTES))
        if content["format"] != FORMAT:
            raise ValueError(f"expected {FORMAT}")
        return from_json(section.result, content["result"])
    except (KeyError, TypeError, RecursionError, ValueError) as error:
        raise ValueError(f"{shown_path(file)}: {error}; delete it to measure it again") from None


def _write_page(folder: Path, about: Mapping[str, Any]) -> Examination:
    """Write the page of all finished sections."""
    findings, results = [], {}
    for name, section in make_sections((), about["sections"]).items():
        file = folder / f"{name}.json"
        if not file.is_file():
            continue
        results[name] = result = read_section(file, section)
        findings.append(
            Finding(
                name,
                section.title,
                section.question,
                section.sentence(result),
                section.figures(result),
                section.tables(result),
                section.sources,
            )
        )
    stated = {k.replace("_", " "): v for k, v in about.items() if k not in (*HASHES, "sections")}
    for name, given in about["sections"].items():
        stated |= {f"{name}.{key}": value for key, value in given.items()}
    rows = [(key, _text(value)) for key, value in stated.items()]
    table = Table("The network, the images and the settings", ("Setting", "Value"), rows)
    title = f"{Path(str(about['network'])).name} on {about['data']}"
    page = folder / PAGE
    write_text(page, make_findings_page(title, table, findings))
    return Examination(folder, page, results)


def _text(value: Any) -> str:
    """Return the value of a setting as text.

    >>> _text(67450), _text(0.003), _text([0.1, 0.2])
    ('67,450', '0.003', '0.1, 0.2')
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(plain(value))
