"""The plot of regret: each strategy is a line with its interval."""

import numpy as np
import pytest

from darts_noise.report.regret import LOOKS, draw_regret
from darts_noise.report.style import save_figure


def test_each_strategy_has_a_line_an_area_and_a_look_of_its_own(tmp_path):
    costs = [10.0, 100.0, 1000.0]
    lines = {
        name: (costs, [0.3, 0.2 - i / 50, 0.0], [0.25, 0.1, 0.0], [0.35, 0.3, 0.1])
        for i, name in enumerate(["random", "evolution", "nas"])
    }
    figure = draw_regret(lines, title="digits")
    [axes] = figure.axes
    assert [line.get_label() for line in axes.lines] == list(lines)
    for line, (_, mean, _, _) in zip(axes.lines, lines.values(), strict=True):
        assert np.allclose(line.get_xydata(), np.transpose([costs, mean]))
    assert len(axes.collections) == 3
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert 0 < axes.get_ylim()[0] < 0.16  # below the smallest mean that is not 0
    assert len({colour for colour, _ in LOOKS}) == len({str(dashes) for _, dashes in LOOKS})
    once, again = (save_figure(draw_regret(lines), tmp_path / name)[1] for name in "ab")
    assert once.read_bytes() == again.read_bytes()


def test_regrets_that_are_all_0_can_be_drawn():
    [axes] = draw_regret({"random": ([1.0, 2.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0])}).axes
    assert axes.get_ylim()[0] > 0


def test_no_strategy_is_refused():
    with pytest.raises(ValueError, match="expected at least one strategy"):
        draw_regret({})
