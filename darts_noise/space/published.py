"""Load genotypes: published cells by name, and genotypes from files, runs and W&B artifacts.

`published_cells` contains the cells.
"""

import re
from os import PathLike
from pathlib import Path
from typing import Any

from darts_noise.errors import unknown
from darts_noise.shown import shortened, shown
from darts_noise.space.genotype import Genotype
from darts_noise.space.genotype_text import genotype_fields, has_genotype
from darts_noise.space.json_file import read_text, shown_path
from darts_noise.space.published_cells import CELLS, PrintedCount
from darts_noise.space.wandb_artifact import artifact_genotype, is_artifact_path

_PUBLISHED = {cell.name: cell for cell in CELLS}
_ALIASES = {
    **{name.replace("_", ""): name for name in _PUBLISHED},
    "darts": "darts_v2",
    "pcdarts": "pc_darts_cifar",
    "pcdartsimage": "pc_darts_imagenet",
    "gdasv1": "gdas",
    "nasneta": "nasnet",
    "amoebaneta": "amoebanet",
}
"""Other names of the published cells, without case and punctuation, as their authors write them."""
BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
"""The trained networks in the package, which are no genotypes: one folder each."""


def list_genotypes() -> list[str]:
    """Return the names of all published cells, sorted.

    >>> list_genotypes()[:3]
    ['amoebanet', 'darts_v1', 'darts_v2']
    """
    return sorted(_PUBLISHED)


def printed_counts(name: str) -> tuple[PrintedCount, ...]:
    """Return the parameter counts that papers print for networks of a published cell.

    Raises:
        ValueError: the name is unknown. The message lists the names and suggests the nearest.

    >>> printed_counts("darts_v2")[0].millions
    3.3
    """
    if name not in _PUBLISHED:
        raise unknown("genotype", shortened(name), _PUBLISHED)
    return _PUBLISHED[name].printed


def load_genotype(source: str | Path | Genotype | tuple[Any, ...]) -> Genotype:
    """Load a genotype.

    Args:
        source: a published name (see `list_genotypes`; case and punctuation do not matter), a path
            to a ``.json`` file, the folder of a search or a training run, a W&B artifact as
            ``entity/project/name:version``, a text that papers and logs print (see
            `Genotype.from_text`) or a file with one, a named tuple such as DARTS's ``Genotype``, or
            a `Genotype`, which is returned unchanged.

    Raises:
        ValueError: the source is unknown or invalid. The message lists the names and suggests the
            nearest, or names the file and the problem in it.

    >>> load_genotype("darts_v2").normal_concat
    (2, 3, 4, 5)
    >>> load_genotype("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|").normal
    ((('nor_conv_3x3', 1),), (('skip_connect', 1), ('nor_conv_3x3', 2)))
    """
    if isinstance(source, Genotype):
        return source
    if isinstance(source, tuple) and hasattr(source, "_asdict"):
        return Genotype(**genotype_fields(source._asdict()))
    if not isinstance(source, str | PathLike):
        raise ValueError(f"expected a name, a path or a Genotype, got {shown(source)}")
    name = str(source)
    if name.lower() in _PUBLISHED:
        return _genotype(name.lower())
    path = Path(source)
    try:
        is_directory, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be read
        if has_genotype(name):  # a text that is too long for a path
            return Genotype.from_text(name)
        raise ValueError(f"{shown(name)}: {error.strerror or shown(error)}") from None
    if isinstance(source, str) and not (is_directory or is_file) and has_genotype(name):
        return Genotype.from_text(name)
    if is_directory:
        file = path / "genotype.json"
        if not file.is_file():
            raise ValueError(f"{path}: no genotype.json in this directory")
        return Genotype.from_json(file)
    if path.suffix == ".json":
        return Genotype.from_json(path)
    if is_file:
        return _from_file(path)
    if is_artifact_path(name):
        return artifact_genotype(name)
    alias = re.sub("[^a-z0-9]", "", name.lower())
    if alias in _ALIASES:
        return _genotype(_ALIASES[alias])
    if re.fullmatch(r"\w+", name) and (BUNDLES / name).is_dir():
        raise ValueError(
            f"{name!r} is a trained network and no genotype: call load_pretrained({name!r})"
        )
    message = unknown("genotype", shortened(name), _PUBLISHED)
    raise ValueError(f"{message}, or a path to a .json file or to a run directory")


def _genotype(name: str) -> Genotype:
    cell = _PUBLISHED[name]
    return Genotype(
        normal=cell.normal,
        normal_concat=cell.normal_concat,
        reduce=cell.reduce,
        reduce_concat=cell.reduce_concat,
        meta={"name": cell.name, "source": cell.source},
    )


def _from_file(path: Path) -> Genotype:
    """Read a file that may be JSON or a text with a printed genotype, such as a log."""
    text = read_text(path)
    if not has_genotype(text):
        return Genotype.from_json(path)
    try:
        return Genotype.from_text(text)
    except ValueError as error:
        raise ValueError(f"{shown_path(path)}: {error}") from None
