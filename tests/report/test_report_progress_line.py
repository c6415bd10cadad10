"""Lines of progress: what they say, and that no width is exceeded."""

import re

import pytest

from darts_noise.report.progress_line import (
    BAR_WIDTH,
    FIGURES,
    LEAST_BAR_WIDTH,
    Progress,
    bar_line,
    clock,
    figure_texts,
    plain_line,
)

ALL = ("loss 1.125", "noise loss 2.160", "val acc 0.406", "penalty 0.010", "acc 0.700")
STATE = Progress("search", 12, 50, 110, 719, ALL, 754.0, 3765.0)
SHORT = Progress("search", 3, 3, 11, 11, ALL, 15.0, 6.0)


def test_plain_line_says_all() -> None:
    assert plain_line(STATE) == (
        "search epoch 12/50  loss 1.125  noise loss 2.160  val acc 0.406  penalty 0.010  "
        "acc 0.700  (12 min 34 s, 1 h 3 min left)"
    )
    assert plain_line(Progress("noise", 2, None, seconds=3)) == "noise epoch 2  (3 s)"


@pytest.mark.parametrize("state", [STATE, SHORT, Progress("train"), Progress("train", 4, None, 7)])
def test_no_width_is_exceeded_and_more_width_never_says_less(state: Progress) -> None:
    shown = -1
    for width in range(1, 200):
        line = bar_line(state, width).plain
        assert len(line) <= width
        assert "\n" not in line
        figures = [f for f in state.figures if f" {f} " in line]
        assert figures == list(state.figures[: len(figures)])
        assert len(figures) >= shown
        shown = len(figures)
    assert shown == len(state.figures)


def test_what_stands_at_usual_widths() -> None:
    assert re.fullmatch(
        r"search epoch 3/3 step 11/11 ━{6,} loss 1.125 noise loss 2.160 0:15, 0:06 left",
        bar_line(SHORT, 78).plain,
    )
    assert re.fullmatch(
        r"search epoch 12/50 step 110/719 [━─]{6,} loss 1.125 12:34, 1:02:45 left",
        bar_line(STATE, 78).plain,
    )
    wide = bar_line(STATE, 118).plain
    assert " noise loss 2.160 " in wide
    assert " val acc 0.406 " in wide
    assert bar_line(STATE, 50).plain == "search epoch 12/50 loss 1.125 12:34, 1:02:45 left"
    assert bar_line(STATE, 48).plain == "search epoch 12/50 loss 1.125 1:02:45 left"
    assert bar_line(STATE, 40).plain == "search epoch 12/50 12:34, 1:02:45 left"
    assert bar_line(STATE, 32).plain == "search epoch 12/50 1:02:45 left"
    assert bar_line(STATE, 20).plain == "search epoch 12/50"
    assert bar_line(STATE, 10).plain == "search epo"


@pytest.mark.parametrize(("epoch", "step", "share"), [(1, 0, 0), (2, 50, 0.375), (4, 100, 1)])
@pytest.mark.parametrize("signs", ["━─", "#-"])
def test_bar_is_over_the_whole_run(epoch: int, step: int, share: float, signs: str) -> None:
    line = bar_line(Progress("t", epoch, 4, step, 100), 100, ascii_only=signs == "#-").plain
    assert line.count(signs[0]) == round(BAR_WIDTH * share)
    assert line.count(signs[0]) + line.count(signs[1]) == BAR_WIDTH >= LEAST_BAR_WIDTH
    assert line.isascii() == (signs == "#-")


def test_run_without_an_end_has_no_bar() -> None:
    line = bar_line(Progress("t", 7, None, 3, None, ("loss 1.000",), 61.0), 100).plain
    assert line == "t epoch 7 step 3 loss 1.000 1:01"


def test_figures_come_in_the_order_of_the_names() -> None:
    metrics = dict.fromkeys(reversed(FIGURES), 0.5) | {"lr/weights": 0.1}
    assert figure_texts(metrics) == tuple(f"{text} 0.500" for text in FIGURES.values())
    assert figure_texts(metrics, {"lr/weights": "rate"}) == ("rate 0.100",)


@pytest.mark.parametrize("seconds", [0, 59.6, 61, 3599.7, 90_061])
def test_clock_reads_back(seconds: float) -> None:
    parts = [int(part) for part in clock(seconds).split(":")]
    assert sum(part * 60**i for i, part in enumerate(reversed(parts))) == round(seconds)
    assert all(part < 60 for part in parts[1:])
