"""One search step, group by group: what each update changes and does not change."""

import copy
import math
from contextlib import suppress

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F

import darts_noise as dn
from darts_noise.search.gradients import assign, gradients, still_statistics
from darts_noise.space.operations.identity import Noise

pytestmark = pytest.mark.usefixtures("small_space")

TINY = {"space": "small", "nodes": 1, "channels": 4, "num_cells": 3, "stem": "small"}
PLAIN = {**TINY, "space": "darts"}
"""Without macro choices a step takes a third of the time."""


def trainer(epochs: int = 1, batches: int | float = 2, **settings) -> pl.Trainer:
    return pl.Trainer(
        **{
            "max_epochs": epochs,
            "limit_train_batches": batches,
            "limit_val_batches": 1,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            **settings,
        }
    )


def searched(data, epochs=1, batches=2, callbacks=(), **settings):
    torch.manual_seed(0)
    module = dn.SearchModule(**{**TINY, "noise_samples": 32, **settings})
    run = trainer(epochs, batches, callbacks=list(callbacks))
    run.fit(module, datamodule=data)
    return module, run


class Watch(pl.Callback):
    """Copies of the parameters around each update of the first step."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, set[str]]] = []
        self.leftovers: list[str] = []

    def on_fit_start(self, trainer, pl_module):
        original = pl_module._update

        def update(optimiser, parameters, values, clip=0.0):
            before = copy.deepcopy(pl_module.state_dict())
            original(optimiser, parameters, values, clip)
            after = pl_module.state_dict()
            names = {n for n, _ in pl_module.named_parameters()}
            changed = {n for n in names if not torch.equal(before[n], after[n])}
            self.changes.append({n.split(".")[0] for n in changed})
            self.leftovers += [n for n, p in pl_module.named_parameters() if p.grad is not None]

        pl_module._update = update


def test_each_update_changes_its_own_group_and_leaves_no_gradient(digits):
    watch = Watch()
    searched(digits(), callbacks=[watch], twin_steps=2)
    assert watch.changes == [{"arch"}, {"net"}, {"twin"}, {"twin"}] * 2
    assert watch.leftovers == []


@pytest.mark.parametrize(
    "settings",
    [{}, {"noise_weight": 0.0}, {"twin_steps": 3}, {"warmup_epochs": 1, "hypergradient": "exact"}],
)
def test_max_steps_counts_the_steps_of_the_search(settings, digits):
    module = dn.SearchModule(**{**PLAIN, "noise_samples": 32, **settings})
    run = trainer(9, batches=2, max_steps=5)
    run.fit(module, datamodule=digits())
    assert (module.search_step, run.global_step) == (5, 5)


def test_max_steps_within_the_warm_up_is_refused(digits):
    """α would not have moved, so the cell would say nothing."""
    module = dn.SearchModule(**PLAIN, noise_samples=32, warmup_epochs=2)
    with pytest.raises(dn.SettingError) as refused:
        trainer(9, batches=2, max_steps=4).fit(module, datamodule=digits())
    assert refused.value.key == "trainer.max_steps"
    trainer(9, batches=2, max_steps=5).fit(module, datamodule=digits())
    assert module.search_step == 5


def test_no_optimiser_shares_a_parameter_and_alpha_has_its_own(digits):
    module, run = searched(digits(), batches=1)
    groups = [{id(p) for g in o.param_groups for p in g["params"]} for o in run.optimizers]
    assert groups[0] == {id(p) for p in module.arch.parameters()}
    assert sum(map(len, groups)) == len(set.union(*groups)) == len(list(module.parameters()))


def test_without_penalty_there_is_no_twin_and_noise_changes_nothing(digits):
    module, run = searched(digits(), noise_weight=0.0, **PLAIN)
    assert module.twin is None
    assert module.noise_set is None
    assert len(run.optimizers) == 2
    assert not any("noise" in name for name in run.callback_metrics)
    changes = {"noise_family": "gaussian", "noise_samples": 7}
    other, _ = searched(digits(), noise_weight=0.0, **changes, **PLAIN)
    assert torch.equal(module.arch.normal, other.arch.normal)


def test_alpha_stands_still_while_warming_up(digits):
    torch.manual_seed(0)
    start = dn.Architecture("small").normal
    still, _ = searched(digits(), epochs=2, batches=1, warmup_epochs=2)
    moved, _ = searched(digits(), epochs=2, batches=1, warmup_epochs=1)
    assert torch.equal(still.arch.normal, start)
    assert not torch.equal(moved.arch.normal, start)


def test_alpha_gradient_is_validation_plus_weighted_penalty(digits):
    """The step's gradient against the design's formula, written out by hand, in float64."""
    module, _ = searched(digits(), noise_weight=0.7)
    module.double()
    caught = []
    module._update = lambda optimiser, parameters, values, clip=0.0: caught.extend(values)
    validation, noise = module.validation_stream.batch(9), module.noise_stream.batch(9)
    module.search_step = module.twin_step = 9
    module.validation_stream.batch = lambda k: (validation[0].double(), validation[1])
    module.noise_stream.batch = lambda k: (noise[0].double(), noise[1])
    module.train()
    # A twin that has learnt the batch, so that the penalty is not flat.
    with torch.no_grad():
        module.twin.classifier.bias.copy_(3.0 * F.one_hot(noise[1], 10).double().mean(0))

    def objective():
        relaxed = {
            k.removeprefix("macro."): a.softmax(-1) for k, a in module.arch.named_parameters()
        }
        clean = F.cross_entropy(module.net(validation[0].double(), relaxed), validation[1])
        fit = F.cross_entropy(module.twin(noise[0].double(), relaxed), noise[1])
        assert fit < torch.log(torch.tensor(10.0))
        return clean + 0.7 * (1 - fit / torch.log(torch.tensor(10.0, dtype=torch.float64)))

    module._step_alpha(module._optimisers()[0], module.validation_stream.batch(0))
    for parameter, gradient in zip(module.arch.parameters(), caught, strict=True):
        for index in ((0, 1), (-1, -1)):
            with torch.no_grad():
                values = []
                for sign in (1, -1):
                    parameter[index] += sign * 1e-6
                    values.append(objective())
                    parameter[index] -= sign * 1e-6
            numeric = (values[0] - values[1]) / 2e-6
            torch.testing.assert_close(gradient[index], numeric, rtol=1e-4, atol=1e-8)


def test_one_pass_over_noise_serves_alpha_and_the_twin(digits):
    """To first order; its gradient of v is that of a pass of its own at the same α."""
    module, _ = searched(digits(), batches=1)
    expected = copy.deepcopy(module.twin).train()
    calls, values = [], []
    module.twin.register_forward_hook(lambda *_: calls.append(1))
    module._update = lambda optimiser, parameters, found, clip=0.0: values.append(found)
    module.log = lambda *args, **kwargs: None
    module.train()
    images, labels = module.noise_stream.batch(module.twin_step)
    module.training_step(module.validation_stream.batch(0), 0)
    assert len(calls) == 1
    assert len(values) == 3  # α, w, v
    loss = F.cross_entropy(expected(images, module.arch()), labels)
    theirs = torch.autograd.grad(loss, list(expected.parameters()))
    for own, other in zip(values[2], theirs, strict=True):
        torch.testing.assert_close(own, other)
    for name, buffer in module.twin.named_buffers():
        assert torch.equal(buffer, dict(expected.named_buffers())[name]), name


@pytest.mark.parametrize(
    "space",
    [
        "robust_darts_s1",
        *(pytest.param(f"robust_darts_s{n}", marks=pytest.mark.slow) for n in (2, 3)),
        "robust_darts_s4",
    ],
)
def test_a_search_with_candidates_of_edges_is_the_textbooks(space, digits, monkeypatch):
    """α, w and v after two steps. The implementations draw ``noise`` in another order of edges."""
    monkeypatch.setattr(
        Noise, "forward", lambda noise, x: x.detach().cos()[:, :, :: noise.stride, :: noise.stride]
    )
    found = []
    for supernet in ("textbook", "shared"):
        settings = {"space": space, "nodes": 4, "supernet": supernet}
        module, _ = searched(digits(), batches=2, **settings)
        assert module.search_step == 2
        nets = [n if supernet == "textbook" else n.to_textbook() for n in (module.net, module.twin)]
        found.append([p for part in (module.arch, *nets) for p in part.parameters()])
    for own, theirs in zip(*reversed(found), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-5)


def updates_of_a_step(data, accelerator, settings):
    """What α, w and v are updated with in the first step, and their values after it."""
    found = []

    class Watch(pl.Callback):
        def on_fit_start(self, trainer, pl_module):
            original = pl_module._update

            def update(optimiser, parameters, values, clip=0.0):
                found.append(torch.cat([v.detach().flatten() for v in values]).cpu())
                original(optimiser, parameters, values, clip)

            pl_module._update = update

    torch.manual_seed(0)
    module = dn.SearchModule(**{**TINY, "noise_samples": 32, **settings})
    trainer(1, 1, accelerator=accelerator, devices=1, callbacks=[Watch()]).fit(
        module, datamodule=data
    )
    return found, [torch.cat([p.flatten() for p in group]) for group in module.trained().values()]


@pytest.mark.parametrize(
    "settings",
    [
        {"space": "darts"},
        *(
            pytest.param(settings, marks=pytest.mark.slow)
            for settings in (
                {"space": "noise"},
                {"space": "darts", "hypergradient": "exact"},
                {"space": "darts", "penalty": "lookahead"},
                {"space": "darts", "penalty": {"gram": {"samples": 3}}},
                {"space": "darts", "variants": "pc_darts", "noise_weight": 0.0},
            )
        ),
    ],
    ids=str,
)
def test_a_step_on_a_gpu_is_that_on_a_cpu(settings, digits, device, monkeypatch):
    """Of images in colour, whose first convolution's gradient lies otherwise in memory. On a CPU:
    the way that a GPU goes."""
    data = digits(grey=False, crop_padding=1)
    expected, after = updates_of_a_step(data, "cpu", settings)
    if device.type == "cpu":
        monkeypatch.setattr("darts_noise.nets.mixed.stacked.CACHE", 2**60)
        monkeypatch.setattr("darts_noise.finite.reads_at_once", lambda device: False)
    found, after_found = updates_of_a_step(data, device.type, settings)
    for one, other in zip(found, expected, strict=True):
        largest = other.abs().max().item()
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3 * largest)
    for one, other in zip(after_found[1:], after[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


@pytest.mark.parametrize("space", ["darts", pytest.param("noise", marks=pytest.mark.slow)])
def test_every_hypergradient_searches_through_w_and_v(digits, space):
    first, *others = (
        searched(digits(), batches=1, space=space, hypergradient=method)[0].arch.normal
        for method in ("first_order", "finite_difference", "exact", "neumann")
    )
    for alpha in others:
        assert torch.isfinite(alpha).all()
        assert not torch.equal(alpha, first)


@pytest.mark.parametrize("method", ["first_order", "finite_difference"])
def test_probing_passes_leave_the_running_statistics_alone(digits, method):
    """To first order the twin's pass is no probing: v learns from it."""
    module, _ = searched(digits(), batches=1, hypergradient=method)
    module.train()
    probed = ("net.", "twin.") if method != "first_order" else ("net.",)
    before = {
        n: b.clone()
        for n, b in module.named_buffers()
        if n.startswith(probed) and ("running" in n or "tracked" in n)
    }
    module._update = lambda *args, **kwargs: None
    module._step_alpha(module._optimisers()[0], module.validation_stream.batch(0))
    after = dict(module.named_buffers())
    assert before
    assert all(torch.equal(b, after[n]) for n, b in before.items())


def test_still_statistics_normalise_by_the_batch_and_are_undone_after_an_error():
    norm = torch.nn.BatchNorm2d(3)
    x = 5 + torch.randn(8, 3, 4, 4)
    with suppress(ZeroDivisionError), still_statistics(norm):
        assert norm(x).mean().abs() < 1e-5
        raise ZeroDivisionError
    assert norm.track_running_stats
    assert torch.equal(norm.running_mean, torch.zeros(3))


def test_gradients_are_those_of_the_named_parameters_only():
    a, b, unused = (torch.tensor(v, requires_grad=True) for v in (2.0, 3.0, 1.0))
    found = gradients(a * a * b, [a, unused])
    assert [g.item() for g in found] == [12.0, 0.0]
    assert a.grad is b.grad is None
    assign([a], [torch.tensor(12.0)], clip=5.0)
    assert a.grad.item() == pytest.approx(5.0, rel=1e-4)


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (4, 1, 3, 3)])
def test_a_fused_optimiser_takes_gradients_that_lie_otherwise_in_memory(shape, device):
    """A convolution in channels_last gives its weights' gradient in channels_last."""
    weight = torch.zeros(shape, device=device, requires_grad=True)
    gradient = torch.randn(shape, device=device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD([weight], 1.0, momentum=0.9, fused=True)
    assign([weight], [gradient])
    optimiser.step()
    assert torch.equal(weight, -gradient)


@pytest.fixture(scope="module")
def alpha_without_penalty(small_space):
    """By the steps of an epoch."""
    data = dn.ImageDataModule("digits", train_samples=120, batch_size=16)
    return {
        steps: searched(data, 2, steps, noise_weight=0.0, learning_rate=0.3)[0].arch.state_dict()
        for steps in (1, 4)
    }


@pytest.mark.parametrize(
    ("penalty", "steps"),
    # As many steps that a twin is below the loss of a guess, above which the penalty is flat.
    [("twin", 4), ("lookahead", 4), ({"gram": {"samples": 3}}, 1), ("shared", 1)],
    ids=str,
)
def test_every_penalty_moves_every_row_of_alpha(penalty, steps, digits, alpha_without_penalty):
    module, run = searched(digits(), 2, steps, penalty=penalty, learning_rate=0.3)
    for name, alpha in module.arch.named_parameters():
        assert torch.isfinite(alpha).all()
        assert not torch.equal(alpha, alpha_without_penalty[steps][name]), name
    assert set(module.genotype().macro) == {"normalisation", "input_filter", "pooling", "width"}
    assert module.genotype().meta["penalty"] == penalty
    has_twin = penalty in ("twin", "lookahead")
    assert (module.twin is not None) == has_twin == ("noise/lag" in run.callback_metrics)
    assert len(run.optimizers) == 2 + has_twin
    assert ("noise/loss" in run.callback_metrics) == (has_twin or penalty == "shared")


def test_the_shared_weights_descend_their_loss_and_the_weighted_penalty(digits):
    """w's gradient against the formula, on one mixed batch, with the noise that is next."""
    module, _ = searched(digits(), batches=4, penalty="shared", noise_weight=0.7, learning_rate=0.1)
    found = []
    module._update = lambda optimiser, parameters, values, clip=0.0: found.extend(values)
    module.log = lambda *args, **kwargs: None
    module.train()
    assert module.search_step == 3
    images, labels = module.validation_stream.batch(0)
    noise = module.noise_stream.batch(3)
    # Weights that have learnt the batch, so that the penalty is not flat.
    with torch.no_grad():
        module.net.classifier.bias.copy_(3.0 * F.one_hot(noise[1], 10).float().mean(0))
    before = copy.deepcopy(module.net)
    module._step_weights(module._optimisers()[1], (images, labels))
    logits = before(torch.cat([images, noise[0]]), module.arch())
    losses = [
        F.cross_entropy(logits[:16], labels),
        F.cross_entropy(logits[16:], noise[1]),
    ]
    assert losses[1] < math.log(10)
    total = losses[0] + 0.7 * (1 - losses[1] / math.log(10))
    for one, other in zip(
        found, torch.autograd.grad(total, list(before.parameters())), strict=True
    ):
        torch.testing.assert_close(one, other)
    logged = module.metrics.collect("train", "noise")["noise/loss"]
    torch.testing.assert_close(logged, losses[1].detach())


@pytest.mark.parametrize(
    ("own", "rate", "of_w"),
    [
        ({"twin_optimiser": "adam"}, 0.01, torch.optim.SGD),
        ({"twin_optimiser": "adam", "twin_learning_rate": 0.003}, 0.003, torch.optim.SGD),
        ({"optimiser": "adam"}, 0.01, torch.optim.Adam),
    ],
)
def test_v_may_have_adam_and_a_rate_of_its_own(digits, own, rate, of_w):
    """One step against torch's Adam; w keeps its optimiser."""
    torch.manual_seed(0)
    settings = {**TINY, "noise_samples": 32, "gradient_clip": 0.0, "learning_rate": 0.01}
    module = dn.SearchModule(**settings, **own)
    data = digits()
    data.setup()
    module.build(data)
    before = copy.deepcopy(module.twin)
    trainer(limit_train_batches=1).fit(module, datamodule=data)
    images, labels = module.noise_stream.batch(0)
    weights = list(before.parameters())
    optimiser = torch.optim.Adam(weights, rate)
    F.cross_entropy(before(images, dn.Architecture(module.space)()), labels).backward(
        inputs=weights
    )
    optimiser.step()
    for found, expected in zip(module.twin.parameters(), weights, strict=True):
        clear = expected.grad.abs() > 1e-4  # Adam's first step is the sign, of rounding errors too
        torch.testing.assert_close(found[clear], expected[clear], rtol=1e-4, atol=1e-5)
    assert type(module._optimisers()[1].optimizer) is of_w


def test_a_checkpoint_holds_alpha_and_the_positions(digits, tmp_path):
    module, run = searched(digits(), batches=3, twin_steps=2)
    run.save_checkpoint(tmp_path / "x.ckpt")
    held = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert torch.equal(held["state_dict"]["arch.normal"], module.arch.normal)
    assert held["positions"] == {"search": 3, "twin": 6, "alpha": 3}


def test_figures_of_an_epoch_carry_their_names(digits):
    _, run = searched(digits(), epochs=2, twin_steps=1)
    names = set(run.callback_metrics)
    assert {
        "train/loss",
        "train/accuracy",
        "val/loss",
        "val/accuracy",
        "noise/loss",
        "noise/accuracy",
        "noise/penalty",
        "noise/lag",
        "alpha/entropy_normal",
        "share/reduce/max_pool_3x3",
        "lr/alpha",
        "lr/weights",
        "lr/twin",
    } <= names
    shares = [float(v) for n, v in run.callback_metrics.items() if n.startswith("share/normal/")]
    assert sum(shares) == pytest.approx(1.0, abs=1e-5)


def test_bf16_mixed_runs(digits):
    torch.manual_seed(0)
    module = dn.SearchModule(**TINY, noise_samples=32)
    trainer(precision="bf16-mixed").fit(module, datamodule=digits())
    assert module.arch.normal.dtype == torch.float32
    assert torch.isfinite(module.arch.normal).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise_weight": -1.0}, "model.noise_weight: expected 0 or more, got -1.0"),
        ({"noise_weight": float("nan")}, "model.noise_weight"),
        ({"noise_samples": 0}, "model.noise_samples: expected 1 or more, got 0"),
        ({"num_cells": 2}, "model.num_cells: expected 3 or more, got 2"),
        ({"space": "drats"}, "did you mean 'darts'"),
        ({"nodes": 0}, "nodes: expected 1"),
        ({"noise_family": "unifrm"}, "did you mean 'uniform'"),
        (
            {"noise_family": {"uniform": -1.0}},
            "noise_family: expected a finite weight of 0 or more",
        ),
        ({"alpha_betas": (0.5, 1.0)}, "model.alpha_betas"),
        (
            {"twin_optimiser": "adma"},
            "model.twin_optimiser: unknown optimiser 'adma': did you mean",
        ),
        (
            {"optimiser": "lion"},
            "model.optimiser: unknown optimiser 'lion': valid: adam, muon, sgd",
        ),
        ({"twin_learning_rate": math.inf}, "model.twin_learning_rate: expected 0 or more, or null"),
        ({"twin_learning_rate": -1.0}, "model.twin_learning_rate: expected 0 or more, or null"),
        (
            {"twin_optimiser": "adam", "hypergradient": "exact"},
            "model.twin_optimiser: expected 'sgd' with hypergradient 'exact'",
        ),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        dn.SearchModule(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hypergradient": "exact"}, "model.hypergradient: expected first_order with penalty 'gra"),
        ({"twin_steps": 2}, "model.twin_steps: expected 1 with penalty 'gram', which has no twin"),
        ({"twin_restart": 5}, "model.twin_restart: expected 0 with penalty 'gram'"),
        ({"twin_optimiser": "adam"}, "model.twin_optimiser: expected None with penalty"),
        ({"twin_learning_rate": 0.1}, "model.twin_learning_rate: expected None with penalty"),
    ],
)
def test_what_only_a_twin_could_follow_is_refused_without_one(settings, message):
    with pytest.raises(ValueError, match=message):
        dn.SearchModule(penalty="gram", **settings)
    dn.SearchModule(penalty="gram", noise_weight=0.0, **settings)  # there is no penalty at all
    dn.SearchModule(penalty="lookahead", **settings)


def test_without_an_image_data_module_it_says_what_it_needs():
    module = dn.SearchModule(**TINY)
    with pytest.raises(ValueError, match="datamodule=ImageDataModule"):
        trainer().fit(module, [0])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"noise_weight": 0.0, "space": "darts"},
        {"variants": "gdas", "space": "darts", "stem": "cifar"},
        {"variants": "pc_darts", "space": "darts"},
        {"variants": {"p_darts": {"rate": 0.2}}, "space": "darts"},
        {"penalty": "shared", "supernet": "textbook"},
    ],
)
def test_a_checkpoint_is_a_module_again(digits, tmp_path, settings):
    """And the search continues with the data."""
    module, run = searched(digits(), batches=1, **settings)
    path = tmp_path / "a.ckpt"
    run.save_checkpoint(path)
    images = torch.rand(2, 1, 8, 8)
    again = dn.SearchModule.load_from_checkpoint(path)
    assert again.config == module.config
    assert again.genotype().normal == module.genotype().normal
    assert (again.search_step, again.twin_step) == (module.search_step, module.twin_step)
    state = again.state_dict()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)
    with torch.no_grad():
        logits = [net.eval().net(images, net.arch.eval()()) for net in (module, again)]
    torch.testing.assert_close(*logits, rtol=0, atol=0)
    trainer(batches=1).fit(again.train(), datamodule=digits())
    assert again.noise_fingerprint == module.noise_fingerprint


def test_a_loaded_module_refuses_other_noise(digits, tmp_path):
    _, run = searched(digits(), batches=1, **PLAIN)
    run.save_checkpoint(tmp_path / "a.ckpt")
    again = dn.SearchModule.load_from_checkpoint(tmp_path / "a.ckpt", noise_samples=31)
    with pytest.raises(dn.SettingError, match="expected the noise set of the checkpoint") as no:
        trainer().fit(again, datamodule=digits())
    assert no.value.key == "model.noise_family"
