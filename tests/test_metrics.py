"""The noise-fit metric equals its formula, for any batches and processes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.multiprocessing.spawn import start_processes
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

import darts_noise as dn

N, CLASSES = 60, 10


def samples(scale: float = 3.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that favour the label."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (N,), generator=random)
    logits = torch.randn(N, CLASSES, generator=random)
    logits[torch.arange(N), labels] += scale
    return logits, labels


def by_hand(logits: Tensor, labels: Tensor, classes: int = CLASSES) -> float:
    """1 − mean(−log p_label) / log C in float64, from the definition of the softmax."""
    scores = np.exp(logits.numpy().astype(np.float64))
    shares = scores[np.arange(len(labels)), labels.numpy()] / scores.sum(1)
    return max(0.0, 1 - float(-np.log(shares).mean()) / math.log(classes))


@given(st.lists(st.integers(1, N - 1), unique=True), st.floats(-3, 6), st.integers(2, 20))
@settings(max_examples=40, deadline=None)
def test_it_is_the_formula_however_the_samples_are_cut(cuts, scale, classes):
    logits, labels = samples(scale)
    metric = dn.NoiseFitMetric(classes)
    for part in zip(
        logits.tensor_split(sorted(cuts)), labels.tensor_split(sorted(cuts)), strict=True
    ):
        metric.update(*part)
    assert float(metric.compute()) == pytest.approx(by_hand(logits, labels, classes), abs=1e-6)


def test_it_is_zero_for_a_guess_and_anything_worse_and_one_for_a_perfect_fit():
    labels = torch.arange(CLASSES)
    for logits, expected in (
        (torch.zeros(CLASSES, CLASSES), 0.0),
        (-5 * torch.eye(CLASSES), 0.0),
        (1000 * torch.eye(CLASSES), 1.0),
    ):
        metric = dn.NoiseFitMetric(CLASSES)
        assert float(metric(logits, labels)) == pytest.approx(expected, abs=1e-7)


def test_a_reset_forgets_and_a_collection_may_hold_it():
    logits, labels = samples()
    metrics = MetricCollection(
        {"fit": dn.NoiseFitMetric(CLASSES), "accuracy": MulticlassAccuracy(CLASSES)}
    )
    metrics.update(-logits, labels)
    metrics.reset()
    metrics.update(logits, labels)
    assert float(metrics.compute()["fit"]) == pytest.approx(by_hand(logits, labels), abs=1e-6)


def test_its_gradient_is_that_of_the_loss_by_minus_log_c():
    logits, labels = samples()
    logits.requires_grad_()
    dn.NoiseFitMetric(CLASSES)(logits, labels).backward()
    loss = torch.nn.functional.cross_entropy(logits, labels)
    (expected,) = torch.autograd.grad(-loss / math.log(CLASSES), logits)
    torch.testing.assert_close(logits.grad, expected)


def test_fewer_than_two_classes_are_refused():
    with pytest.raises(ValueError, match="num_classes: expected at least 2, got 1"):
        dn.NoiseFitMetric(1)


def _one_process(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    logits, labels = samples()
    mine = slice(0, 7) if rank == 0 else slice(7, N)  # unequal parts
    metric = dn.NoiseFitMetric(CLASSES)
    metric.update(logits[mine], labels[mine])
    assert float(metric.compute()) == pytest.approx(by_hand(logits, labels), abs=1e-6)


def test_two_processes_agree_on_the_figure_of_all_samples(tmp_path):
    store = str(tmp_path / "store")
    # Forked: they need no autograd, and to import everything again would take many seconds.
    start_processes(_one_process, args=(store,), nprocs=2, start_method="fork")
