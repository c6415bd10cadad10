"""What a figure shows in words, for readers who cannot see it."""

from collections.abc import Mapping

from darts_noise.report.alpha_history import AlphaHistory, source_name
from darts_noise.report.metrics import Series
from darts_noise.space.genotype import Cell, Genotype


def describe_cells(genotype: Genotype) -> str:
    """Every node as a sum of operations."""
    macro = [f"{name} {value}" for name, value in genotype.macro.items()]
    cells = [
        f"Normal cell: {_describe_cell(genotype.normal)}.",
        f"Reduction cell: {_describe_cell(genotype.reduce)}.",
    ]
    return " ".join(([f"{', '.join(macro).capitalize()}."] if macro else []) + cells)


def describe_lines(title: str, lines: Mapping[str, Series]) -> str:
    """Where each line begins and ends.

    >>> describe_lines("loss", {"train": [(1, 2.3), (2, 1.5), (3, 0.5)]})
    'loss by epoch; train from 2.3 (epoch 1) to 0.5 (epoch 3)'
    """
    parts = [
        f"{name} from {points[0][1]:.3g} (epoch {points[0][0]:g}) "
        f"to {points[-1][1]:.3g} (epoch {points[-1][0]:g})"
        for name, points in lines.items()
        if points
    ]
    return f"{title} by epoch; {'; '.join(parts)}"


def describe_film(history: AlphaHistory) -> str:
    """When the genotype changed."""
    changes = [str(moment.epoch) for moment in history.changes()[1:]]
    epochs = len(history.moments)
    if not changes:
        return f"The operation kept on each edge over {epochs} epochs; the genotype never changed."
    return (
        f"The operation kept on each edge over {epochs} epochs; the genotype changed "
        f"{len(changes)} times, after the epochs {', '.join(changes)}."
    )


def _describe_cell(cell: Cell) -> str:
    return "; ".join(
        f"node {i} is {' plus '.join(f'{name} of {source_name(p)}' for name, p in pairs)}"
        for i, pairs in enumerate(cell)
    )
