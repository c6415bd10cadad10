"""Areas: heights add up, one colour for each kind of operation, every operation its own look."""

import math

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from darts_noise.report.share_areas import OTHER_COLOUR, draw_areas, explain_areas, looks
from darts_noise.report.style import OPERATION_KINDS
from darts_noise.space.operations import get_operation, list_operations

SHARES = {
    "none": [(0.0, 0.2), (1.0, 0.1)],
    "skip_connect": [(0.0, 0.3)],
    "sep_conv_3x3": [(0.0, 0.5), (1.0, 0.9)],
}


def tops(axes: object, epoch: float) -> list[float]:
    corners = [area.get_paths()[0].vertices for area in axes.collections]  # type: ignore[attr-defined]
    return [points[points[:, 0] == epoch, 1].max() for points in corners]


def test_heights_add_up_in_the_order_of_the_kinds() -> None:
    axes = Figure().subplots()
    draw_areas(axes, SHARES)
    np.testing.assert_allclose(tops(axes, 0.0), [0.5, 0.8, 1.0])
    np.testing.assert_allclose(tops(axes, 1.0), [0.9, 0.9, 1.0])
    labels = [area.get_label() for area in axes.collections]
    assert labels == ["sep_conv_3x3", "skip_connect", "none"]
    colours = [to_hex(area.get_facecolor()[0]).upper() for area in axes.collections]
    assert colours == [OPERATION_KINDS[k].colour for k in ("convolution", "skip", "none")]


def test_legend_is_read_from_the_top_of_the_stack() -> None:
    axes = Figure().subplots()
    explain_areas(axes, looks(SHARES))
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "none",
        "skip_connect",
        "sep_conv_3x3",
    ]


@pytest.mark.parametrize("names", [list_operations(), ["x", "y", *list_operations()]])
def test_every_operation_has_its_own_look(names: list[str]) -> None:
    found = looks(names)
    assert sorted(found) == sorted(names)
    spaces = [n for n in found if not n.startswith(("nor_", "conv_1x1", "conv_3x3"))]
    assert len({found[n] for n in spaces}) == len(spaces)  # all but more than six of one kind
    for name, (colour, _) in found.items():
        known = name in list_operations()
        assert colour == (
            OPERATION_KINDS[get_operation(name).kind].colour if known else OTHER_COLOUR
        )


def test_a_look_does_not_depend_on_the_order_of_the_names() -> None:
    """A table has its columns in an order of its own; its curves are drawn as the film is."""
    assert looks(list_operations()) == looks(list_operations()[::-1])


def test_shares_that_are_not_finite_or_all_zero() -> None:
    axes = Figure().subplots()
    draw_areas(axes, {"none": [(0.0, math.nan), (1.0, 0.0)]})
    assert tops(axes, 0.0) == [0.0]
    assert axes.get_ylim() == (0.0, 1.0)
