"""Each consumer of random numbers has its own: switching one off changes no other."""

import random

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import darts_noise as dn
from darts_noise.data.seeds import Stream, drawing
from darts_noise.search import candidate_trainings
from darts_noise.search.final_cell import choose

TINY = {"nodes": 1, "channels": 4, "num_cells": 3, "stem": "small", "noise_samples": 32}
DRAWING = ["gdas", "p_darts", "smooth_darts_random", "smooth_darts_adversarial"]


class Watch(pl.Callback):
    """What w is given for α in every pass, and what it puts out."""

    def __init__(self):
        self.passes = []

    def on_fit_start(self, trainer, pl_module):
        def seen(net, arguments, logits):
            if net.training:
                relaxed = [w.detach().clone() for w in arguments[1].values()]
                self.passes.append([*relaxed, logits.detach().clone()])

        pl_module.net.register_forward_hook(seen)


class Tracking(pl.Callback):
    """Draws from every global generator between the steps, as a tracker or a drawing may."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.rand(7)
        np.random.rand(3)
        random.random()

    def on_train_epoch_end(self, trainer, pl_module):
        torch.rand(2)


def search(data, callbacks=(), batches=1, **settings):
    module = dn.SearchModule(**{**TINY, **settings})
    pl.Trainer(
        max_epochs=2,
        limit_train_batches=batches,
        limit_val_batches=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
    ).fit(module, datamodule=data)
    return module


def same(one, other):
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize("variant", DRAWING)
def test_the_twin_changes_no_draw_of_alpha_and_w(digits, variant):
    """At an α that stands still w sees the same samples and learns the same."""
    how = {"variants": variant, "alpha_learning_rate": 0.0}
    usual = Watch()
    module = search(digits(), [usual], **how)
    assert len(usual.passes) >= 4
    for other in (
        {"noise_weight": 0.0},
        {"twin_steps": 2, "twin_restart": 1},
        {"penalty": "lookahead"},
    ):
        watch = Watch()
        changed = search(digits(), [watch], **how, **other)
        for one, two in zip(usual.passes, watch.passes, strict=True):
            assert same(one, two), other
        assert same(list(module.net.parameters()), list(changed.net.parameters())), other


@pytest.mark.parametrize("variant", [*DRAWING, "drnas", "reinmax", "snas"])
def test_what_others_draw_changes_nothing(digits, variant):
    torch.manual_seed(1)
    alone = search(digits(), variants=variant)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    tracked = search(digits(), [Tracking()], variants=variant)
    assert same(list(alone.parameters()), list(tracked.parameters()))
    assert not torch.equal(state, torch.get_rng_state())  # the callback has drawn


def test_a_search_draws_nothing_from_the_global_generators(digits, monkeypatch):
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 2)
    data = digits()
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    settings = {"candidates": 2, "candidate_epochs": 1}
    module = search(data, variants={"gdas": None, "smooth_darts_random": None}, **settings)
    choose(module, data)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), str(np.random.get_state()))


@pytest.mark.parametrize(
    "other",
    [{"noise_weight": 0.0}, {"variants": "gdas"}, {"candidates": 3}, {"noise_family": "gaussian"}],
    ids=str,
)
def test_the_initial_weights_depend_on_the_seed_alone(digits, other):
    made = []
    for settings in ({}, other, {"seed": 1}):
        module = dn.SearchModule(**{**TINY, **settings})
        module.build(digits())
        made.append([*module.arch.parameters(), *module.net.parameters()])
    assert same(made[0], made[1])
    assert not same(made[0], made[2])


def test_steps_and_uses_have_samples_of_their_own(digits):
    watch = Watch()
    search(digits(), [watch], batches=2, variants="gdas", alpha_learning_rate=0.0)
    alpha_and_w = [torch.cat([w.flatten() for w in seen[:-1]]) for seen in watch.passes]
    assert len({tuple(sample.round().tolist()) for sample in alpha_and_w}) == len(alpha_and_w)


def test_drawing_depends_on_its_key_alone_and_leaves_the_generator():
    found = []
    for before in (1, 2):
        torch.manual_seed(before)
        state = torch.get_rng_state()
        with drawing(3, Stream.LAG, 5):
            found.append(torch.rand(4))
        assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(*found)
    with drawing(3, Stream.LAG, 6):
        assert not torch.equal(found[0], torch.rand(4))
    with drawing(3):
        first = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(first, torch.rand(4))
