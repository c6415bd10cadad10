"""How cells are stacked: widths, strides and connections, the same for every network.

The supernet and the discrete network are built from one plan, so a cell that was searched stands in
the same surroundings when it is retrained. Pure arithmetic: no module is made here.
"""

from dataclasses import dataclass

from darts_noise.errors import SettingError


@dataclass(frozen=True)
class CellPlan:
    """The surroundings of one cell.

    Attributes:
        channels_before_last: channels of the first input, the output of the last cell but one.
        channels_last: channels of the second input, the output of the last cell.
        channels: channels of each of the cell's own states.
        reduction: whether the cell halves height and width.
        reduction_last: whether the last cell did, so that the first input is still twice as large.
    """

    channels_before_last: int
    channels_last: int
    channels: int
    reduction: bool
    reduction_last: bool

    @property
    def kind(self) -> str:
        """``"reduce"`` or ``"normal"``: which cell of a genotype, which rows of α."""
        return "reduce" if self.reduction else "normal"


def reduction_cells(num_cells: int) -> set[int]:
    """Indices of the reduction cells: at one and two thirds of the depth (DARTS, section 3.1).

    >>> sorted(reduction_cells(20))
    [6, 13]
    """
    return {num_cells // 3, 2 * num_cells // 3}


def plan_cells(
    *,
    num_cells: int,
    channels: int,
    stem_channels: tuple[int, int],
    stem_reduces: bool,
    concat: dict[str, int],
) -> list[CellPlan]:
    """One plan per cell; channels double at each reduction.

    Args:
        num_cells: cells in all.
        channels: channels of a state before the first reduction.
        stem_channels: channels of the stem's two outputs.
        stem_reduces: whether the stem's second output is half as large as its first.
        concat: for ``"normal"`` and ``"reduce"``, how many states the cell concatenates.

    Raises:
        ValueError: fewer than one cell.
    """
    if num_cells < 1:
        raise SettingError("num_cells", f"expected at least 1, got {num_cells}")
    plans = []
    before_last, last = stem_channels
    reduction_last = stem_reduces
    for index in range(num_cells):
        reduction = index in reduction_cells(num_cells)
        if reduction:
            channels *= 2
        plan = CellPlan(before_last, last, channels, reduction, reduction_last)
        plans.append(plan)
        before_last, last = last, channels * concat[plan.kind]
        reduction_last = reduction
    return plans
