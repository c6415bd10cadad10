"""What is not finite is named, with step and rate; a GPU's answers are read together."""

import math

import pytest
import torch
from torch.optim import SGD, Adam

from darts_noise.finite import READ_EVERY, FiniteCheck, NotFiniteError, make_guardable

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


@pytest.fixture
def like_cuda(monkeypatch):
    """Nothing is read before it is asked for; the CPU has fused optimisers as well."""
    monkeypatch.setattr("darts_noise.finite.reads_at_once", lambda device: False)


@pytest.mark.usefixtures("like_cuda")
def test_the_answers_of_cuda_are_read_together_and_the_first_is_named():
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


@pytest.mark.usefixtures("like_cuda")
@pytest.mark.parametrize(
    "make",
    [
        lambda p: SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
        lambda p: Adam(p, 0.1, weight_decay=0.1),
    ],
    ids=["SGD", "Adam"],
)
def test_an_answer_that_waits_to_be_read_holds_every_update_back(make):
    weight = torch.nn.Parameter(torch.ones(3))
    optimiser = make_guardable(make([weight]))
    check = FiniteCheck("")

    def update(gradient):
        weight.grad = gradient
        look(check, gradient)
        check.guard(optimiser)
        optimiser.step()
        return weight.detach().clone()

    first = update(ONE)
    second = update(ONE)
    assert not torch.equal(first, second)
    for gradient in (torch.full((3,), math.nan), ONE, torch.full((3,), math.inf), ONE):
        assert torch.equal(update(gradient), second)
    with pytest.raises(NotFiniteError):
        check.read()
