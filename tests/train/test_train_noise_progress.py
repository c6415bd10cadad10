"""What is seen of the trainings: a line for each where there is no terminal, a bar on one."""

import io

import pytest
from noise_networks import BreaksAfter, linear, measure
from rich.console import Console

import darts_noise as dn

GRID = dn.NoiseGrid(sgd_rates=(0.01, 0.1), adam_rates=(), seeds=1)


def shown(network=linear, **console):
    out = io.StringIO()
    measure(network, grid=GRID, epochs=2, progress=Console(file=out, width=100, **console))
    return out.getvalue()


def test_without_a_terminal_each_run_is_a_line():
    first, second = shown().splitlines()
    assert first.startswith("noise fit, network on noise, 1/2, sgd 0.01, seed 0: ")
    assert " %, 2 epochs, " in first
    assert "2/2, sgd 0.1" in second


def test_a_run_that_diverged_says_so():
    assert "diverged, no accuracy, 1 epochs" in shown(lambda c, i: BreaksAfter(linear(c, i), 0))


def test_on_a_terminal_a_bar_names_the_run_and_is_gone_afterwards():
    text = shown(force_terminal=True, legacy_windows=False, force_interactive=True)
    assert "sgd 0.1, seed 0" in text
    assert text.rstrip().endswith("\x1b[2K")  # the line is cleared


@pytest.mark.parametrize(("progress", "lines"), [(None, 0), (False, 0), (True, 2)])
def test_by_default_a_pipe_is_left_alone(capfd, progress, lines):
    measure(linear, grid=GRID, epochs=1, progress=progress)
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == lines
