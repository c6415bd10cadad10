"""Cells that papers printed, by name, and `load_genotype`, which also reads files and runs.

A new one is one more `_publish` with its source. Predecessors 0 and 1 are the outputs of the
last cell but one and of the last cell.
"""

from collections.abc import Sequence
from pathlib import Path

from darts_noise.naming import unknown
from darts_noise.space.genotype import Genotype

_PUBLISHED: dict[str, Genotype] = {}

Pairs = Sequence[tuple[str, int]]


def _publish(
    name: str,
    source: str,
    normal: Pairs,
    normal_concat: Sequence[int],
    reduce: Pairs,
    reduce_concat: Sequence[int],
) -> None:
    """Registers a cell given as papers print it: a flat list, two pairs to a node."""
    _PUBLISHED[name] = Genotype(
        normal=_in_twos(normal),
        normal_concat=tuple(normal_concat),
        reduce=_in_twos(reduce),
        reduce_concat=tuple(reduce_concat),
        meta={"name": name, "source": source},
    )


def _in_twos(pairs: Pairs) -> tuple[tuple[tuple[str, int], ...], ...]:
    return tuple(tuple(pairs[i : i + 2]) for i in range(0, len(pairs), 2))


def list_genotypes() -> list[str]:
    """The names of all published cells, sorted."""
    return sorted(_PUBLISHED)


def load_genotype(source: str | Path | Genotype) -> Genotype:
    """A genotype from wherever it is.

    Args:
        source: a published name (see `list_genotypes`; case does not matter), a path to a
            ``.json``, the directory of a search or a training run, or a `Genotype` itself.

    Raises:
        ValueError: nothing of these; the message lists the names and suggests the nearest, or
            names the file and what is wrong in it.

    >>> load_genotype("darts_v2").normal_concat
    (2, 3, 4, 5)
    """
    if isinstance(source, Genotype):
        return source
    name = str(source)
    if name.lower() in _PUBLISHED:
        return _PUBLISHED[name.lower()]
    path = Path(source)
    if path.is_dir():
        file = path / "genotype.json"
        if not file.is_file():
            raise ValueError(f"{path}: no genotype.json in this directory")
        return Genotype.from_json(file)
    if path.suffix == ".json" or path.is_file():
        return Genotype.from_json(path)
    error = unknown("genotype", name, _PUBLISHED)
    raise ValueError(f"{error}, or a path to a .json file or to a run directory")


_publish(
    "darts_v1",
    "DARTS, first order (Liu et al. 2019, arXiv:1806.09055)",
    normal=[
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0),
        ("skip_connect", 0),
        ("sep_conv_3x3", 1),
        ("skip_connect", 0),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0),
        ("skip_connect", 2),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("max_pool_3x3", 0),
        ("max_pool_3x3", 1),
        ("skip_connect", 2),
        ("max_pool_3x3", 0),
        ("max_pool_3x3", 0),
        ("skip_connect", 2),
        ("skip_connect", 2),
        ("avg_pool_3x3", 0),
    ],
    reduce_concat=range(2, 6),
)
_publish(
    "darts_v2",
    "DARTS, second order (Liu et al. 2019, arXiv:1806.09055)",
    normal=[
        ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1),
        ("skip_connect", 0),
        ("skip_connect", 0),
        ("dil_conv_3x3", 2),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("max_pool_3x3", 0),
        ("max_pool_3x3", 1),
        ("skip_connect", 2),
        ("max_pool_3x3", 1),
        ("max_pool_3x3", 0),
        ("skip_connect", 2),
        ("skip_connect", 2),
        ("max_pool_3x3", 1),
    ],
    reduce_concat=range(2, 6),
)
