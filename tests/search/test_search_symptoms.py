"""A search that fails silently gives one warning, and a healthy search gives none."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytorch_lightning as pl
import torch

import darts_noise as dn
from darts_noise.search.symptoms import PATIENCE, Symptoms, mean_entropy

GUESS = math.log(10)


def cell(*names):
    return dn.Genotype(
        normal=[[[name, i % 2] for i, name in enumerate(names)]],
        normal_concat=[2],
        reduce=[[["skip_connect", 0], ["skip_connect", 1]]],
        reduce_concat=[2],
    )


CONVOLUTIONS = cell("sep_conv_3x3", "skip_connect")
SKIPS = cell("skip_connect", "skip_connect", "sep_conv_3x3")


def said(losses, genotype=CONVOLUTIONS, speed=1e-3, symptoms=None):
    """The warnings of so many epochs, in each of which α moves by `speed`."""
    symptoms = symptoms or Symptoms()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for epoch, loss in enumerate(losses):
            weights = {"normal": torch.full((1, 2), 0.5) + speed * epoch}
            symptoms.epoch(weights, genotype, loss, 10)
    return [str(warning.message) for warning in caught]


def test_a_search_that_learns_is_not_warned_of():
    assert said([2.2] + [GUESS] * 9) == []  # it is enough that the twin has been able to
    assert said([None] * 9) == []  # λ = 0 has no twin


def test_a_twin_that_never_learns():
    assert said([GUESS] * (PATIENCE - 1)) == []
    [message] = said([GUESS] * 9)
    assert "the twin has not begun to learn" in message
    assert "model.twin_steps" in message
    for macro in ({"gain": "bounded"}, {"contrast": "smooth"}):  # as the search wanted it
        assert said([GUESS] * 9, replace(CONVOLUTIONS, macro=macro)) == []
    assert len(said([GUESS] * 9, replace(CONVOLUTIONS, macro={"contrast": "centred"}))) == 1


def said_at_the_end(losses, weights):
    symptoms = Symptoms()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for epoch, loss in enumerate(losses):
            moved = {kind: rows + 1e-3 * epoch for kind, rows in weights.items()}
            symptoms.epoch(moved, CONVOLUTIONS, loss, 10)
        resumed = Symptoms()
        resumed.load(symptoms.state())
        resumed.end()
        resumed.end()
    return [str(warning.message) for warning in caught]


def test_what_has_not_happened_by_the_end_of_a_search():
    decided = {"normal": torch.tensor([[0.7, 0.3], [0.6, 0.4]])}
    undecided = {"normal": torch.tensor([[0.52, 0.48], [0.5, 0.5]])}
    assert said_at_the_end([2.0], decided) == said_at_the_end([], undecided) == []
    [message] = said_at_the_end([GUESS], decided)  # before PATIENCE has run out
    assert "the penalty has not moved α" in message
    assert len(said_at_the_end([GUESS] * 9, decided)) == 1
    for loss in (2.0, None):
        [message] = said_at_the_end([loss], undecided)
        assert "α has hardly moved" in message
        assert "model.alpha_learning_rate" in message


def test_entropy_within_two_per_cent_is_counted_over_all_edges_and_choices():
    rows = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)) * 3
    for factor in (0.05, 0.2, 1.0):
        weights = {"normal": (factor * rows).softmax(-1), "width": (factor * rows[:1]).softmax(-1)}
        p = torch.cat(list(weights.values())).numpy()
        expected = (-(p * np.log(p)).sum(1)).mean() / np.log(4)
        assert math.isclose(mean_entropy(weights), expected, rel_tol=1e-5)
        # PC-DARTS multiplies the rows of a node by the weights of its edges.
        assert math.isclose(
            mean_entropy({"a": weights["normal"] * 0.3}),
            mean_entropy({"a": weights["normal"]}),
            rel_tol=1e-5,
        )


def test_an_operation_that_is_not_allowed_does_not_hide_an_undecided_alpha():
    arch = dn.Architecture("robust_darts_s1").requires_grad_(False)
    assert mean_entropy(arch()) > 0.999
    arch.normal.mul_(1e4)
    arch.reduce.mul_(1e4)
    assert mean_entropy(arch()) < 0.5


def test_alpha_that_stands_still():
    assert said([2.0], speed=0) == []
    [message] = said([2.0] * 9, speed=0)
    assert "α did not move" in message
    assert "model.alpha_learning_rate" in message


def test_a_collapse_to_skip_connections():
    assert said([2.0] * (PATIENCE - 1), SKIPS) == []
    [message] = said([2.0] * 9, SKIPS)
    assert "skip connections take over" in message
    assert "darts_plus" in message


def test_a_run_that_goes_on_remembers_and_says_nothing_twice(tmp_path):
    whole, rest = [GUESS] * 9, {"genotype": SKIPS, "speed": 0}
    for stop in range(10):
        stopped, resumed = Symptoms(), Symptoms()
        before = said(whole[:stop], symptoms=stopped, **rest)
        torch.save(stopped.state(), tmp_path / "state")
        resumed.load(torch.load(tmp_path / "state", weights_only=True))
        assert before + said(whole[stop:], symptoms=resumed, **rest) == said(whole, **rest)


def test_the_search_tells_of_every_epoch_with_alpha(digits, small_space):
    """No step of α or of v leads anywhere, and both are warned of once; a warm-up is no symptom."""
    torch.manual_seed(0)
    module = dn.SearchModule(
        small_space,
        nodes=1,
        channels=4,
        num_cells=3,
        stem="small",
        noise_samples=16,
        warmup_epochs=1,
        learning_rate=0.0,
        learning_rate_min=0.0,
        alpha_learning_rate=0.0,
    )
    trainer = pl.Trainer(
        max_epochs=PATIENCE + 2,
        limit_train_batches=1,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(module, datamodule=digits())
    messages = [str(warning.message) for warning in caught]
    for words in ("α did not move", "the twin has not begun to learn", "α has hardly moved"):
        assert sum(words in message for message in messages) == 1
    assert module.symptoms.state()["epochs"] == PATIENCE + 1  # all but the warm-up
