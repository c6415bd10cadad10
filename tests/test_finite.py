"""What is not finite is named, with step and rate; a GPU's answers are read together."""

import math

import pytest
import torch

from darts_noise.finite import READ_EVERY, FiniteCheck, NotFiniteError

ONE = torch.ones(3)
BAD = [torch.tensor([1.0, math.nan]), torch.tensor(math.inf), torch.tensor(-math.inf)]


def look(check, *terms, step=0):
    check.look([(f"term {i}", [t]) for i, t in enumerate(terms)], step=step, epoch=0, rate=0.5)


@pytest.mark.parametrize("bad", BAD)
def test_the_first_term_that_is_not_finite_is_named(bad):
    check = FiniteCheck("try less")
    look(check, ONE, torch.full((4,), 3e38))  # whose norm is infinite, and they are not
    with pytest.raises(NotFiniteError) as error:
        look(check, ONE, bad, bad, step=6)
    expected = "term 1 is not finite at step 7 (epoch 1), learning rate 0.5; try less"
    assert str(error.value) == expected


class Elsewhere(torch.Tensor):
    """Claims to be on a GPU, so that nothing is read before it is asked for."""

    device = torch.device("cuda")


def test_the_answers_of_a_gpu_are_read_together_and_the_first_is_named(monkeypatch):
    monkeypatch.setattr(
        "darts_noise.finite._finite", lambda t: torch.as_tensor(t[0].isfinite().all())
    )
    monkeypatch.setattr(torch, "stack", lambda t: torch.tensor(t).as_subclass(Elsewhere))
    check = FiniteCheck("")
    look(check, ONE, step=0)
    look(check, ONE, BAD[0], step=1)
    look(check, BAD[0], step=2)
    with pytest.raises(NotFiniteError, match=r"term 1 .* step 2 "):
        check.read()
    check.read()  # what has been read is done with
    for step in range(READ_EVERY - 1):
        look(check, BAD[0], step=step)
    with pytest.raises(NotFiniteError, match="step 1 "):
        look(check, ONE)
