"""Messages name what is not finite, the step and the rate; checks on a GPU are read together."""

import copy
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


def test_a_process_that_trains_alone_does_not_wait_for_the_others(monkeypatch):
    monkeypatch.setattr("darts_noise.finite.true_everywhere", lambda answers: pytest.fail("waits"))
    check = FiniteCheck("", alone=True)
    look(check, ONE)
    with pytest.raises(NotFiniteError, match="term 0"):
        look(check, BAD[0])


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


MAKE = pytest.mark.parametrize(
    "make",
    [
        lambda p: SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
        lambda p: Adam(p, 0.1, weight_decay=0.1),
    ],
    ids=["SGD", "Adam"],
)


@MAKE
def test_an_answer_that_waits_to_be_read_holds_every_update_back(make, device, request):
    if device.type == "cpu":
        request.getfixturevalue("like_cuda")
    weight = torch.nn.Parameter(torch.ones(3, device=device))
    optimiser = make_guardable(make([weight]))
    check = FiniteCheck("")

    def update(*entries):
        weight.grad = torch.tensor(entries, device=device)
        look(check, weight.grad)
        check.guard(optimiser)
        optimiser.step()
        return weight.detach().clone()

    first = update(1.0, 1.0, 1.0)
    second = update(1.0, 1.0, 1.0)
    assert not torch.equal(first, second)
    for entry in (math.nan, 1.0, math.inf, 1.0):
        assert torch.equal(update(1.0, entry, 1.0), second)
    with pytest.raises(NotFiniteError):
        check.read()


@MAKE
@pytest.mark.parametrize("written_on", ["cpu", "like cuda"])
def test_the_state_of_a_run_on_another_device_leaves_the_form_as_it_is(
    make, written_on, monkeypatch
):
    """A run may go on elsewhere: what guards its updates there is decided there."""

    def made(on):
        with monkeypatch.context() as patch:
            patch.setattr("darts_noise.finite.reads_at_once", lambda device: on == "cpu")
            weight = torch.nn.Parameter(torch.ones(3))
            return make_guardable(make([weight])), weight

    def step(optimiser, weight):
        weight.grad = torch.ones(3)
        optimiser.step()

    written, weight = made(written_on)
    step(written, weight)
    optimiser, other = made("like cuda" if written_on == "cpu" else "cpu")
    form = optimiser.param_groups[0]["fused"]
    with torch.no_grad():
        other.copy_(weight)
    optimiser.load_state_dict(copy.deepcopy(written.state_dict()))
    assert optimiser.param_groups[0]["fused"] == form != written.param_groups[0]["fused"]
    step(written, weight)
    step(optimiser, other)
    torch.testing.assert_close(other, weight)
