"""Plan the stack of cells in a network: widths, strides and connections.

The supernet and the discrete network use the same plan, so a cell has the same surroundings in the
search and in the training. This file only computes numbers and makes no modules.
"""

from dataclasses import dataclass

from darts_noise.errors import SettingError
from darts_noise.space.macro import Value


@dataclass(frozen=True)
class CellPlan:
    """The surroundings of one cell.

    Attributes:
        channels_before_last: channels of the first input, the output of the cell before the last.
        channels_last: channels of the second input, the output of the last cell.
        channels: channels of each of the cell's own states.
        reduction: whether the cell halves height and width.
        reduction_last: whether the last cell halved height and width, so that the first input is
            twice as large as the second.
    """

    channels_before_last: int
    channels_last: int
    channels: int
    reduction: bool
    reduction_last: bool

    @property
    def kind(self) -> str:
        """``"reduce"`` or ``"normal"``: the cell of a genotype and the rows of α."""
        return "reduce" if self.reduction else "normal"


def reduction_cells(num_cells: int, where: Value = "both") -> set[int]:
    """Return the indices of the reduction cells, at 1/3 and 2/3 of the depth (DARTS, section 3.1).

    Args:
        num_cells: number of cells.
        where: the macro choice ``reductions``: ``both``, only the ``first`` or the ``second``, or
            ``none``.

    >>> sorted(reduction_cells(20)), reduction_cells(20, "first")
    ([6, 13], {6})
    """
    first, second = num_cells // 3, 2 * num_cells // 3
    return {"first": {first}, "second": {second}, "none": set()}.get(str(where), {first, second})


def plan_cells(
    *,
    num_cells: int,
    channels: int,
    stem_channels: tuple[int, int],
    stem_reduces: bool,
    concat: dict[str, int],
    reductions: Value = "both",
) -> list[CellPlan]:
    """Return one plan per cell. Each reduction doubles the channels.

    Args:
        num_cells: number of cells.
        channels: channels of a state before the first reduction.
        stem_channels: channels of the stem's two outputs.
        stem_reduces: whether the stem's second output is half as large as its first.
        concat: number of states that the cell concatenates, for ``"normal"`` and ``"reduce"``.
        reductions: the macro choice of this name; see `reduction_cells`.

    Raises:
        ValueError: `num_cells` is below 1.
    """
    if num_cells < 1:
        raise SettingError("num_cells", f"expected at least 1, got {num_cells}")
    plans = []
    before_last, last = stem_channels
    reduction_last = stem_reduces
    for index in range(num_cells):
        reduction = index in reduction_cells(num_cells, reductions)
        if reduction:
            channels *= 2
        plan = CellPlan(before_last, last, channels, reduction, reduction_last)
        plans.append(plan)
        before_last, last = last, channels * concat[plan.kind]
        reduction_last = reduction
    return plans
