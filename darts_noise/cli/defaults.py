"""What a command uses if the user does not name it: the newest search, its config, its cell."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import Any

from darts_noise.cli.configs import CONFIGS, list_configs, read_config
from darts_noise.cli.parser import Given, UsageError
from darts_noise.cli.program import called
from darts_noise.data.settings import DataConfig
from darts_noise.errors import SettingError, about
from darts_noise.pretrained.shipped import SIZES, find_bundle, is_artifact, list_pretrained
from darts_noise.runs.folder import CONFIG, newest_run, read_run_config
from darts_noise.shown import shown
from darts_noise.space.genotype_text import has_genotype
from darts_noise.space.json_file import read_json
from darts_noise.space.published import list_genotypes

OF_A_TRAINING = (
    *("batch_size", "validation_fraction", "train_samples", "seed", "split_seed", "bootstrap"),
    *("crop_padding", "cutout", "random_resized_crop", "color_jitter"),
)
"""Keys of ``data`` that a training takes from its own config, never from the search."""
OF_THE_RACE = ("space", "strategy", "race")
"""Keys of ``model`` whose values the race of the default search needs."""


def shipped(named: str) -> dict[str, Any]:
    """Return a config of the package, such as ``train/digits``."""
    return read_config(CONFIGS / f"{named}.yaml")


def default_search(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a search without ``--config``.

    Its race is a race of its own macro choices in its own space, so it does not go with others. A
    stated list of combinations replaces its combinations.

    Args:
        stated: the keys that the options state.
    """
    content = shipped("search/digits")
    usual = {"strategy": "darts", **content["model"]}
    differs = any(stated.get(f"model.{key}", usual[key]) != usual[key] for key in OF_THE_RACE)
    if differs or not isinstance(stated.get("model.macro", []), list):
        for key in ("race", "macro"):
            del content["model"][key]
    return content


def shipped_for(dataset: str) -> dict[str, Any]:
    """Return the shipped config of a training on a data set; `small` for own images."""
    if dataset == "image_folder":
        return shipped("train/small")
    return shipped(f"train/{dataset if dataset in list_configs('train') else 'digits'}")


def handed_on(stated: Mapping[str, Any]) -> Mapping[str, Any]:
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
        return of_a_trained_network(stated)
    default = shipped("train/digits")
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
    config = shipped_for(name)
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


def of_a_trained_network(stated: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config of a training that starts from a trained network: its cell and its size.

    If the options state no data, they are those on which the network was trained.
    """
    source = stated["model.init"]
    with about("model.init"):
        folder = find_bundle(source)

    from darts_noise.pretrained.bundle import pretrained_config
    from darts_noise.runs.robustness import trained_on

    with about("model.init"):
        trained = pretrained_config(folder)
    data = trained_on(source, stated.get("data.name"))
    config = shipped_for(data["name"])
    form = {key: trained.model[key] for key in SIZES}
    model = {**config["model"], **form, "parameters": None, "genotype": str(folder.resolve())}
    return {**config, "model": model, "data": {**config["data"], **data}}


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
    if named.lower() in list_genotypes() or has_genotype(named):
        return None
    path = Path(find_search(named, runs) or named)
    file = path / "genotype.json" if path.is_dir() else path
    return file if file.is_file() else None


def find_cell(named: str | None, runs: str, configs: Sequence[Path]) -> str:
    """Return the cell that the user named, or the folder of the newest search.

    Raises:
        UsageError: no cell is named, and there is no search.
    """
    if named is not None:
        if has_genotype(named):
            return named
        found = _beside_config(named, configs) or find_search(named, runs)
        if found is None and named in list_pretrained():  # a bundle holds its cell
            found = str(find_bundle(named))
        return found or named
    newest = newest_run(runs, "search")
    if newest is None:
        raise UsageError(
            f"no search in {Path(runs) / 'search'}: run `{called('search')}{runs_option(runs)}` "
            "first, or name a cell, as in --model.genotype darts_v2"
        )
    return str(newest)


def find_search(named: str, runs: str) -> str | None:
    """Return the folder of the search with this name, or None if a cell or a path has the name."""
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


@contextmanager
def naming_source(given: Given) -> Iterator[None]:
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


def require_bundle(source: str) -> None:
    """Refuse a network that does not exist before the import of torch, which takes seconds."""
    if not is_artifact(source):
        find_bundle(source)


def runs_option(runs: str) -> str:
    """Return the option with which a command finds runs in this folder, for a shell.

    >>> runs_option("runs"), runs_option("/tmp/my runs")
    ('', " --runs '/tmp/my runs'")
    """
    return "" if runs == "runs" else f" --runs {quote(runs)}"
