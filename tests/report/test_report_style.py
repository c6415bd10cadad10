"""One colour for each kind of operation, and every operation its own look."""

import pytest
from matplotlib.figure import Figure

from darts_noise.report.style import OPERATION_KINDS, OTHER, explain_operations, looks
from darts_noise.space.operations import get_operation, list_operations


def test_legend_is_read_from_the_top_of_the_stack() -> None:
    axes = Figure().subplots()
    explain_operations(axes, looks(["none", "sep_conv_3x3", "skip_connect"]))
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
            OPERATION_KINDS[get_operation(name).kind].colour if known else OTHER.colour
        )


def test_a_look_does_not_depend_on_the_order_of_the_names() -> None:
    """A table has its columns in an order of its own; its curves are drawn as the film is."""
    assert looks(list_operations()) == looks(list_operations()[::-1])
