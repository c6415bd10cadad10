"""Which entries of α a genotype stands for, and how strong they are."""

from collections.abc import Mapping, Sequence

from darts_noise.space.genotype import Genotype

Entry = tuple[int, int]  # row and column of α
Weights = Mapping[str, Sequence[Sequence[float]]]  # kind → rows, one per edge


def chosen_entries(
    genotype: Genotype, operations: Sequence[str], edges: Sequence[tuple[int, int]]
) -> dict[str, list[list[Entry]]]:
    """The entries of α that the cells consist of: kind → node → pair → (row, column).

    Args:
        genotype: found by a search.
        operations: names of α's columns.
        edges: (predecessor, node) of α's rows.

    Raises:
        ValueError: an operation or an edge that the search did not have.
    """
    row = {tuple(edge): i for i, edge in enumerate(edges)}
    column = {name: i for i, name in enumerate(operations)}
    found = {}
    for kind, cell in (("normal", genotype.normal), ("reduce", genotype.reduce)):
        try:
            found[kind] = [
                [(row[predecessor, node], column[name]) for name, predecessor in pairs]
                for node, pairs in enumerate(cell)
            ]
        except KeyError as error:
            raise ValueError(f"{kind}: α has no row or column for {error}") from None
    return found


def strengths(
    genotype: Genotype,
    weights: Weights,
    operations: Sequence[str],
    edges: Sequence[tuple[int, int]],
) -> dict[str, list[list[float]]]:
    """The relaxed weight of each operation of the cells, in the form that `draw_cells` takes.

    Raises:
        ValueError: an operation, an edge or a row that the search did not have.
    """
    try:
        return {
            kind: [[weights[kind][i][j] for i, j in pairs] for pairs in nodes]
            for kind, nodes in chosen_entries(genotype, operations, edges).items()
        }
    except (KeyError, IndexError) as error:
        raise ValueError(f"weights: no entry for a chosen operation: {error}") from None
