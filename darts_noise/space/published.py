"""Load genotypes: published cells by name, and genotypes from files, runs and W&B artifacts.

`published_cells` contains the cells.
"""

from dataclasses import replace
from os import PathLike
from pathlib import Path

from darts_noise.errors import unknown
from darts_noise.space.genotype import Genotype
from darts_noise.space.published_cells import CELLS, PrintedCount
from darts_noise.space.shown import shortened, shown
from darts_noise.space.wandb_artifact import artifact_genotype, is_artifact_path

_PUBLISHED = {
    cell.name: Genotype(
        normal=cell.normal,
        normal_concat=cell.normal_concat,
        reduce=cell.reduce,
        reduce_concat=cell.reduce_concat,
        meta={"name": cell.name, "source": cell.source},
    )
    for cell in CELLS
}


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
    printed = {cell.name: cell.printed for cell in CELLS}
    if name not in printed:
        raise unknown("genotype", shortened(name), printed)
    return printed[name]


def load_genotype(source: str | Path | Genotype) -> Genotype:
    """Load a genotype.

    Args:
        source: a published name (see `list_genotypes`; case does not matter), a path to a
            ``.json`` file, the folder of a search or a training run, a W&B artifact as
            ``entity/project/name:version``, or a `Genotype`, which is returned unchanged.

    Raises:
        ValueError: the source is unknown or invalid. The message lists the names and suggests the
            nearest, or names the file and the problem in it.

    >>> load_genotype("darts_v2").normal_concat
    (2, 3, 4, 5)
    """
    if isinstance(source, Genotype):
        return source
    if not isinstance(source, str | PathLike):
        raise ValueError(f"expected a name, a path or a Genotype, got {shown(source)}")
    name = str(source)
    if name.lower() in _PUBLISHED:
        # Copy it, so that no caller sees the changes of another caller to `meta`.
        return replace(_PUBLISHED[name.lower()])
    path = Path(source)
    try:
        is_directory, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise ValueError(f"{shown(name)}: {error.strerror or shown(error)}") from None
    if is_directory:
        file = path / "genotype.json"
        if not file.is_file():
            raise ValueError(f"{path}: no genotype.json in this directory")
        return Genotype.from_json(file)
    if path.suffix == ".json" or is_file:
        return Genotype.from_json(path)
    if is_artifact_path(name):
        return artifact_genotype(name)
    message = unknown("genotype", shortened(name), _PUBLISHED)
    raise ValueError(f"{message}, or a path to a .json file or to a run directory")
