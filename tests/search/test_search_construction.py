"""The twin's restarts: each is a new twin, and a resumed search equals an unbroken one."""

import math

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

import darts_noise as dn

TINY = {"space": "darts", "nodes": 1, "channels": 4, "num_cells": 3, "stem": "small"}
MORE = {"noise_samples": 16, "learning_rate": 0.1, "alpha_learning_rate": 0.02}
EPOCHS = 4


def search(data, callbacks=(), resume=None, batches=2, **settings):
    torch.manual_seed(0)
    module = dn.SearchModule(**{**TINY, **MORE, **settings})
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        limit_train_batches=batches,
        limit_val_batches=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
    )
    trainer.fit(module, datamodule=data, ckpt_path=resume)
    return module


def few(digits):
    return digits(train_samples=48, batch_size=8)


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class Watch(pl.Callback):
    """The twin at the first batch of each epoch, and how much its optimiser remembers."""

    def __init__(self):
        self.twins, self.remembered, self.steps = [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.twins.append(state(pl_module.twin))
            self.remembered.append(len(trainer.optimizers[2].state))
            self.steps.append(pl_module.twin_step)


def test_it_restarts_from_weights_that_only_seed_and_count_decide(digits, monkeypatch):
    watch, other = Watch(), Watch()
    module = search(few(digits), [watch], twin_restart=2)
    search(few(digits), [other], twin_restart=2, alpha_learning_rate=0.5)
    rng = torch.manual_seed(5).get_state()
    monkeypatch.delattr(torch.cuda, "manual_seed_all")  # what seeds the GPUs' generators
    fresh = [state(module._fresh_twin(count)) for count in (0, 1)]
    assert torch.equal(rng, torch.get_rng_state())
    assert same(watch.twins[0], fresh[0])
    assert same(watch.twins[2], fresh[1])
    assert same(other.twins[2], fresh[1])
    assert not same(fresh[0], fresh[1])
    assert [n > 0 for n in watch.remembered] == [False, True, False, True]
    assert not same(watch.twins[1], watch.twins[0])


def test_a_restart_gives_what_a_fresh_twin_gives(digits):
    """At an α that stands still: the epochs after it, written out with a twin of their own."""
    watch = Watch()
    module = search(few(digits), [watch], twin_restart=2, warmup_epochs=EPOCHS)
    twin, steps = module._fresh_twin(1).train(), watch.steps
    optimiser = SGD(twin.parameters(), 0.1, momentum=0.9, weight_decay=3e-4)
    schedule = CosineAnnealingLR(optimiser, EPOCHS - 2, 0.001)  # of this life alone
    relaxed = {k: w.detach() for k, w in module.arch.expected().items()}
    per_epoch = steps[1]
    for epoch in range(EPOCHS):
        for step in range(per_epoch):
            if epoch >= 2:  # before, there was another twin
                images, labels = module.noise_stream.batch(epoch * per_epoch + step)
                optimiser.zero_grad()
                F.cross_entropy(twin(images, relaxed), labels).backward()
                nn.utils.clip_grad_norm_(twin.parameters(), 5.0)
                optimiser.step()
        if epoch >= 2:
            schedule.step()
    assert same(state(module.twin), state(twin))


class Rates(pl.Callback):
    def __init__(self):
        self.of_w, self.of_v = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            _, w, v = (optimiser.param_groups[0]["lr"] for optimiser in trainer.optimizers)
            self.of_w.append(w)
            self.of_v.append(v)


@pytest.mark.parametrize(
    ("every", "lives"), [(0, [4]), (1, [1, 1, 1, 1]), (2, [2, 2]), (3, [3, 1]), (9, [4])]
)
def test_every_life_of_the_twin_has_a_schedule_of_its_own(digits, every, lives):
    """A cosine from the start to learning_rate_min over the epochs of that life, as w's is over
    all; so that a later twin can fit the noise as well as the first."""
    rates = Rates()
    search(few(digits), [rates], batches=1, twin_restart=every, twin_learning_rate=0.2)

    def cosine(start, epochs):
        return [
            0.001 + (start - 0.001) * (1 + math.cos(math.pi * epoch / epochs)) / 2
            for epoch in range(epochs)
        ]

    assert rates.of_w == pytest.approx(cosine(0.1, EPOCHS))
    assert rates.of_v == pytest.approx([rate for life in lives for rate in cosine(0.2, life)])


class Save(pl.callbacks.Checkpoint):
    """Checkpoints at the ends of epochs, and one amid the epoch that begins with a restart."""

    def __init__(self, folder, wanted):
        self.folder, self.wanted = folder, wanted

    def save(self, trainer, name):
        if name in self.wanted:
            trainer.save_checkpoint(self.folder / f"{name}.ckpt")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (2, 0):
            self.save(trainer, "amid")

    def on_train_epoch_end(self, trainer, pl_module):
        self.save(trainer, f"after_{trainer.current_epoch}")


@pytest.mark.parametrize(
    ("how", "checkpoints"),
    [
        ({"twin_restart": 2}, ("after_0", "after_1", "amid", "after_2")),
        pytest.param({"space": "noise", "twin_restart": 2}, ("amid",), marks=pytest.mark.slow),
        ({"penalty": "lookahead", "twin_restart": 2}, ("amid",)),
        ({"penalty": {"gram": {"samples": 2}}}, ("amid",)),
        ({"penalty": "shared"}, ("amid",)),
        ({"variants": "gdas", "twin_steps": 2}, ("amid",)),
        ({"variants": {"p_darts": None, "smooth_darts_random": None}}, ("amid",)),
    ],
    ids=str,
)
def test_a_resumed_search_finds_the_same_alpha_bit_for_bit(how, checkpoints, digits, tmp_path):
    unbroken = search(few(digits), [Save(tmp_path, checkpoints)], **how)
    for checkpoint in checkpoints:
        resumed = search(few(digits), resume=tmp_path / f"{checkpoint}.ckpt", **how)
        assert same(state(resumed.arch), state(unbroken.arch)), checkpoint
        assert same(state(resumed), state(unbroken)), checkpoint


def test_a_restart_changes_what_is_found(digits):
    found = [search(few(digits), twin_restart=every) for every in (0, 2)]
    assert not same(*(state(module.arch) for module in found))
