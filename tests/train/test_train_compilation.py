"""The compiled training equals the plain one, saves alike, and compiles only a few times."""

from functools import partial

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from small_runs import ONE_NODE, assert_equal_weights, small_module, small_trainer, weights
from torch import nn
from torchvision.ops import stochastic_depth

import darts_noise as dn
from darts_noise.nets.cell import dropped
from darts_noise.space.operations import get_operation
from darts_noise.train import module as training
from darts_noise.train.module import compile_forward


class Counting:
    """A backend that runs the traced graph as it is and counts how often it is asked for one."""

    def __init__(self):
        self.graphs = 0
        self.calls = 0

    def __call__(self, graph, inputs):
        self.graphs += 1

        def run(*args):
            self.calls += 1
            return graph.forward(*args)

        return run


@pytest.fixture
def backend(monkeypatch):
    torch.compiler.reset()
    counting = Counting()
    monkeypatch.setattr(training, "compile_forward", partial(compile_forward, backend=counting))
    return counting


def test_it_trains_saves_and_evaluates_as_the_plain_network(digits, tmp_path, backend):
    data = digits()
    states = []
    for compiled in (False, True):
        folder = tmp_path / str(compiled)
        module = small_module(ONE_NODE, compile=compiled, drop_path=0.0, ema_decay=0.5)
        keep = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True)
        trainer = small_trainer(2, [keep])
        trainer.fit(module, datamodule=data)
        assert backend.calls == 6 * compiled  # each training step, and no validation
        [result] = trainer.test(module, datamodule=data, verbose=False)
        assert backend.calls == 6 * compiled
        held = torch.load(folder / "last.ckpt", weights_only=True)
        states.append((weights(module), result["test/loss"], held))
    (plain, plain_loss, _), (fast, fast_loss, held) = states
    assert_equal_weights(plain, fast, rtol=1e-4, atol=1e-6)
    assert fast_loss == pytest.approx(plain_loss, rel=1e-4)

    net = dn.create_model(ONE_NODE, channels=4, num_cells=3, stem="small", in_channels=1)
    for key in ("state_dict", "current_model_state"):
        net.load_state_dict({k.removeprefix("net."): v for k, v in held[key].items()})

    again = small_module(ONE_NODE, compile=True, drop_path=0.0, ema_decay=0.5)
    small_trainer(3).fit(
        again, datamodule=data, ckpt_path=tmp_path / "True" / "last.ckpt", weights_only=True
    )
    assert backend.calls == 6 + 3


def test_a_rising_drop_path_does_not_compile_anew_in_each_epoch(backend):
    """torch.compile gives up after eight graphs, and would then run the rest uncompiled."""
    net = dn.create_model(ONE_NODE, channels=4, num_cells=3, stem="small").train()
    run = compile_forward(net, backend)
    x = torch.randn(4, 3, 8, 8)
    for epoch in range(12):
        net.drop_path = 0.2 * epoch / 12
        run(x)
    assert backend.graphs <= 3
    assert backend.calls == 12


def test_operations_that_draw_compile_once(backend):
    """One graph has all dilations, and draws anew at each call."""
    names = ("random_dil_conv_3x3", "selu_conv_3x3")
    block = nn.Sequential(*(get_operation(name).build(4, 1, True) for name in names)).train()
    run = compile_forward(block, backend)
    x = torch.randn(4, 4, 8, 8)
    torch.manual_seed(0)
    found = torch.stack([run(x) for _ in range(6)])
    assert (backend.graphs, backend.calls) == (1, 6)
    assert len(found.unique(dim=0)) == 6
    torch.manual_seed(0)
    torch.testing.assert_close(found, torch.stack([block(x) for _ in range(6)]))


def test_the_auxiliary_head_is_compiled_along(backend):
    net = dn.create_model(ONE_NODE, channels=4, num_cells=3, auxiliary=True).train()
    x = torch.randn(4, 3, 32, 32)
    out, expected = compile_forward(net, backend)(x), net(x)
    torch.testing.assert_close(out.logits, expected.logits)
    torch.testing.assert_close(out.auxiliary, expected.auxiliary)
    assert backend.calls == 1


@pytest.mark.parametrize("rate", [0.1, 0.6])
def test_drop_path_is_torchvisions_stochastic_depth(rate):
    """Zeros or the input over 1 - rate, for a sample as a whole, in shares rate and 1 - rate."""
    x = torch.ones(4000, 2, 3, 2)
    for drop in (partial(stochastic_depth, mode="row"), dropped):
        out = drop(x, rate)
        row = out[:, 0, 0, 0]
        assert torch.equal(out, row[:, None, None, None].expand_as(out))
        torch.testing.assert_close(row.unique(), torch.tensor([0.0, 1 / (1 - rate)]))
        share = (row == 0).float().mean().item()
        assert share == pytest.approx(rate, abs=4 * (rate * (1 - rate) / 4000) ** 0.5)
    assert dropped(x.bfloat16(), rate).dtype == torch.bfloat16


def test_what_the_compiler_raises_reaches_the_user(digits, monkeypatch):
    def refuse(graph, inputs):
        raise RuntimeError("no such compiler")

    torch.compiler.reset()
    monkeypatch.setattr(training, "compile_forward", partial(compile_forward, backend=refuse))
    with pytest.raises(Exception, match="no such compiler"):
        small_trainer(1).fit(small_module(ONE_NODE, compile=True), datamodule=digits())


@pytest.mark.slow
def test_the_real_compiler_computes_the_same_logits_and_gradients(device):
    torch.compiler.reset()
    net = small_module(ONE_NODE).net.train().double()  # rounding would hide behind a tolerance
    x = torch.randn(8, 1, 8, 8, dtype=torch.float64).to(device)
    net.to(device)
    results = []
    for run in (net, compile_forward(net)):
        net.zero_grad()
        loss = nn.functional.cross_entropy(run(x), torch.arange(8, device=device))
        loss.backward()
        results.append((loss.detach(), {n: p.grad.clone() for n, p in net.named_parameters()}))
    torch.testing.assert_close(results[0][0], results[1][0])
    assert_equal_weights(results[0][1], results[1][1], rtol=1e-9, atol=1e-9)


@pytest.mark.cuda
def test_a_gpu_trains_compiled_in_bf16(digits):
    torch.compiler.reset()
    losses = []
    for compiled in (False, True):
        module = small_module(ONE_NODE, 10, 3, compile=compiled, drop_path=0.0)
        trainer = small_trainer(2, accelerator="cuda", devices=1, precision="bf16-mixed")
        trainer.fit(module, datamodule=digits(grey=False))
        losses.append(trainer.callback_metrics["train/loss"].item())
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
