"""Each variant has the property that its paper claims, and finds a valid genotype."""

import math
from collections import Counter

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.utils import parametrize

import darts_noise as dn
from darts_noise.nets.macro_layers import MixedNorm
from darts_noise.nets.mixed.textbook import MixedOperation
from darts_noise.search.curvature import dominant_eigenvalue
from darts_noise.search.gradients import probing_loss
from darts_noise.search.variants import list_variants, make_variants, register_variant
from darts_noise.search.variants.darts_pt import DartsPt
from darts_noise.search.variants.oles import operations
from darts_noise.search.variants.pc_darts import PartialMixedOperation, PcDarts
from darts_noise.search.variants.reinmax import reinmax
from darts_noise.search.variants.variant import Variant
from darts_noise.space.spaces import get_space


def one(name, **settings):
    return make_variants({name: settings})[name]


TINY = {"nodes": 1, "channels": 4, "num_cells": 3, "stem": "small", "noise_samples": 32}


def fit(module, data, *callbacks):
    pl.Trainer(
        max_epochs=2,
        limit_train_batches=2,
        limit_val_batches=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
    ).fit(module, datamodule=data)


@pytest.mark.parametrize("name", list_variants())
@pytest.mark.parametrize("space", ["darts", pytest.param("noise", marks=pytest.mark.slow)])
def test_it_searches_to_a_valid_genotype(space, name, digits):
    settings = {"batches": 1} if name == "darts_pt" else {}
    module = dn.SearchModule(space=space, **TINY, variants={name: settings})
    fit(module, digits())
    genotype = module.genotype()
    assert dn.Genotype.from_dict(genotype.to_dict()) == genotype
    assert all(len(node) == 2 for node in (*genotype.normal, *genotype.reduce))


@pytest.mark.parametrize("name", ["gdas", "reinmax"])
def test_a_sample_is_one_operation_per_edge_as_often_as_the_softmax_says(name):
    arch = dn.Architecture("darts", nodes=1)
    one(name).change_architecture(arch)
    with torch.no_grad():
        arch.normal.copy_(torch.linspace(-1, 1, 16).view(2, 8))
    torch.manual_seed(0)
    samples = arch.relaxation(arch.normal.detach().repeat(6000, 1)).view(6000, 2, 8)
    assert torch.equal(samples.sum(-1), torch.ones(6000, 2))
    assert set(samples.flatten().round(decimals=5).tolist()) == {0.0, 1.0}
    torch.testing.assert_close(samples.mean(0), arch.normal.softmax(-1), atol=0.02, rtol=0)


@pytest.mark.parametrize("name", ["gdas", "snas"])
def test_gumbel_samples_pass_the_gradient_of_the_tempered_softmax(name):
    """Backward as if the weights were softmax((α + g) / τ), which those of SNAS are."""
    arch = dn.Architecture("darts", nodes=1)
    one(name, temperature=3.0).change_architecture(arch)
    cost = torch.randn(2, 8)
    torch.manual_seed(7)
    weights = arch()["normal"]
    (weights * cost).sum().backward()
    torch.manual_seed(7)
    alpha = arch.normal.detach().clone().requires_grad_()
    gumbel = -torch.empty_like(alpha).exponential_().log()
    soft = ((alpha + gumbel) / 3.0).softmax(-1)
    (soft * cost).sum().backward()
    torch.testing.assert_close(arch.normal.grad, alpha.grad)
    assert torch.allclose(weights, soft) == (name == "snas")


def test_snas_becomes_a_sample_from_the_softmax_as_its_temperature_falls():
    arch = dn.Architecture("darts", nodes=1)
    variant = one("snas", final_temperature=1e-3)
    variant.change_architecture(arch)
    with torch.no_grad():
        arch.normal.copy_(torch.linspace(-1, 1, 16).view(2, 8))
    torch.manual_seed(0)
    largest = []
    for epoch in range(3):
        variant.start_epoch(epoch, 3)
        samples = arch.relaxation(arch.normal.detach().repeat(6000, 1)).view(6000, 2, 8)
        largest.append(samples.amax(-1).mean().item())
    assert largest[0] < largest[1] < largest[2] == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(samples.mean(0), arch.normal.softmax(-1), atol=0.02, rtol=0)


def test_reinmax_has_the_exact_gradient_of_a_quadratic_function():
    """E[f] = Σ_k p_k f(e_k), and the estimator averaged over all samples e_k (theorem 3.2)."""
    generator = torch.Generator().manual_seed(0)

    def double(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    curve, slope, alpha = double(5, 5), double(5), double(5).requires_grad_()

    def f(weights):
        return weights @ curve @ weights + slope @ weights

    samples, p = torch.eye(5, dtype=torch.float64), alpha.softmax(0)
    exact = torch.autograd.grad(sum(p[k] * f(samples[k]) for k in range(5)), alpha)[0]

    def mean_gradient(weights_of):
        found = [torch.autograd.grad(f(weights_of(sample)), alpha)[0] for sample in samples]
        return (alpha.softmax(0)[:, None] * torch.stack(found)).sum(0)

    torch.testing.assert_close(mean_gradient(lambda e: reinmax(alpha, e)), exact)

    def straight_through(sample):
        soft = alpha.softmax(0)
        return sample + soft - soft.detach()

    assert (mean_gradient(straight_through) - exact).norm() > 0.1 * exact.norm()


def test_drnas_has_the_gradient_of_the_expected_value():
    """E[w] and E[wwᵀ] of a Dirichlet distribution are known, so E[f] of a quadratic f is too."""
    arch = dn.Architecture("darts", nodes=1).double()
    one("drnas").change_architecture(arch)
    generator = torch.Generator().manual_seed(0)
    curve = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    alpha = torch.tensor([-1.0, 0.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    drawn = arch.relaxation(alpha.expand(100_000, 4))
    sampled = torch.autograd.grad((drawn @ curve * drawn).sum(-1).mean(), alpha)[0]
    beta = torch.nn.functional.elu(alpha) + 1
    total, mean = beta.sum(), beta / beta.sum()
    second = (torch.diag(mean) + total * torch.outer(mean, mean)) / (total + 1)
    exact = torch.autograd.grad((second * curve).sum(), alpha)[0]
    torch.testing.assert_close(sampled, exact, atol=0.005, rtol=0)
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.005, rtol=0)


def test_drnas_reads_the_genotype_from_the_mean_of_the_distribution():
    arch = dn.Architecture("darts", nodes=1)
    with torch.no_grad():  # the softmax prefers edge 0, and the mean edge 1
        arch.normal.copy_(torch.tensor([[0.0, 6.0] + 6 * [0.0], [-3.0, 1.0] + 6 * [-3.0]]))
    assert [predecessor for _, predecessor in arch.genotype().normal[0]] == [0, 1]
    one("drnas").change_architecture(arch)
    assert [predecessor for _, predecessor in arch.genotype().normal[0]] == [1, 0]
    beta = torch.nn.functional.elu(arch.normal) + 1
    torch.testing.assert_close(arch.expected()["normal"], beta / beta.sum(-1, keepdim=True))


@pytest.mark.parametrize("name", ["drnas", "gdas", "reinmax", "snas"])
def test_an_operation_that_the_space_does_not_allow_is_never_sampled(name):
    arch = dn.Architecture("robust_darts_s1", nodes=4)
    one(name).change_architecture(arch)
    weights, absent = arch()["normal"], arch.normal_absent
    assert absent.any()
    assert not weights[absent].any()
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights)))
    (weights * torch.randn_like(weights)).sum().backward()
    assert arch.normal.grad.isfinite().all()
    assert not arch.normal.grad[absent].any()


@pytest.mark.parametrize("name", ["gdas", "snas"])
def test_the_temperature_falls_linearly_and_nothing_is_sampled_in_eval_mode(name):
    arch = dn.Architecture("darts", nodes=1)
    variant = one(name, temperature=10.0, final_temperature=1.0)
    variant.change_architecture(arch)
    seen = []
    for epoch in range(4):
        variant.start_epoch(epoch, 4)
        seen.append(variant.temperature)
    assert seen == pytest.approx([10, 7, 4, 1])
    assert torch.equal(arch.eval()()["normal"], arch.normal.softmax(-1))


def test_pc_darts_touches_its_share_of_the_channels_and_keeps_the_rest():
    torch.manual_seed(0)
    partial = PartialMixedOperation(MixedOperation(get_space("darts"), 16, 1), 4)
    x = torch.randn(2, 16, 8, 8)
    out = partial(x, torch.full((8,), 1 / 8))
    unshuffled = out.view(2, 4, 4, 8, 8).transpose(1, 2).reshape(2, 16, 8, 8)
    kept = [c for c in range(16) if any(torch.equal(out[:, c], x[:, k]) for k in range(16))]
    assert len(kept) == 12
    assert unshuffled.shape == x.shape
    widths = {m.in_channels for m in partial.modules() if isinstance(m, torch.nn.Conv2d)}
    assert widths == {4}


def test_pc_darts_searches_the_normalisation_of_its_operations():
    net = dn.SuperNet(
        "noise",
        nodes=1,
        channels=8,
        num_cells=3,
        stem="small",
        num_classes=10,
        implementation="textbook",
    )
    PcDarts(4).change_supernet(net)
    norms = [m for m in net.cells[0].mixed.modules() if isinstance(m, nn.BatchNorm2d | MixedNorm)]
    assert {type(norm) for norm in norms} == {MixedNorm}


def lipschitz(net, weights):
    """The largest ‖f(x) − f(y)‖ / ‖x − y‖ over pairs of images that are nearly alike."""
    torch.manual_seed(0)
    images = torch.randn(16, 1, 8, 8)
    near = images + 1e-2 * torch.randn_like(images)
    with torch.no_grad():
        change = net(images, weights) - net(near, weights)
    return (change.norm(dim=1) / (images - near).flatten(1).norm(dim=1)).max()


@pytest.mark.parametrize("name", list_variants())
def test_in_a_space_of_bounded_gain_every_layer_stays_bounded(name, digits):
    config = dn.SearchConfig("bounded", variants=name, macro={"logit_scale": 1}, **TINY)
    module = dn.SearchModule(config)
    module.build(digits())
    kinds = Counter(type(layer) for layer in module.net.modules())
    assert kinds[nn.BatchNorm2d] == kinds[nn.ReLU] == 0
    layers = [m for m in module.net.modules() if isinstance(m, nn.Conv2d)]
    assert all(parametrize.is_parametrized(layer, "weight") for layer in layers)
    assert lipschitz(module.net.eval(), module.arch()) <= 1


def test_pc_darts_with_edge_weights_takes_no_second_mean():
    """Of equal predecessors a node is their mean, as without edge weights."""
    torch.manual_seed(0)
    net = dn.SuperNet("bounded", 10, 1, 4, 3, "small", nodes=1, implementation="textbook")
    PcDarts(4).change_supernet(net)
    cell = net.cells[0]
    state = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(cell._state([state / 2, state / 2]), state)


@pytest.mark.parametrize("names", [("p_darts", "pc_darts"), ("pc_darts", "p_darts")])
def test_the_order_of_the_variants_does_not_matter(names, digits):
    module = dn.SearchModule("darts", variants={name: {} for name in names}, **TINY)
    module.build(digits())
    dropouts = {m for m in module.net.modules() if isinstance(m, nn.Dropout)}
    assert len(dropouts) == 3 * 2  # a skip connection on each edge
    assert dropouts <= set(module.variants["p_darts"].dropouts)


def test_pc_darts_weighs_the_bypass_of_an_edge_with_the_edge():
    torch.manual_seed(0)
    partial = PartialMixedOperation(MixedOperation(get_space("darts"), 16, 2), 4)
    x, weights = torch.randn(2, 16, 8, 8), torch.rand(8).softmax(-1)
    torch.testing.assert_close(partial(x, 0.25 * weights), 0.25 * partial(x, weights))


def test_pc_darts_learns_a_distribution_over_the_edges_of_each_node():
    arch = dn.Architecture("darts", nodes=3)
    one("pc_darts").change_architecture(arch)
    with torch.no_grad():
        arch.normal_edges.normal_()
    share = arch()["normal"].sum(-1)
    assert [part.sum().item() for part in share.split([2, 3, 4])] == pytest.approx([1, 1, 1])
    (arch()["normal"] * torch.randn(9, 8)).sum().backward()
    assert arch.normal_edges.grad.abs().min() > 0
    with torch.no_grad():  # a strong edge is kept although its operations are undecided
        arch.normal.zero_()
        arch.normal_edges.copy_(torch.tensor([0, 0, 0, 0, 9.0, 0, 9.0, 0, 0]))
    kept = [[p for _, p in node] for node in arch.genotype().normal]
    assert kept[1][0] == 2
    assert kept[2][0] == 1


def test_p_darts_drops_skips_only_and_less_as_time_goes_by():
    variant = one("p_darts", rate=0.5, decay=1.0)
    form = {"channels": 4, "num_cells": 3, "nodes": 1}
    net = dn.SuperNet("darts", **form, implementation=variant.implementation)
    variant.change_supernet(net)
    mixed = net.cells[0].mixed[0]
    dropped = [i for i, c in enumerate(mixed.candidates) if "Dropout" in repr(c)]
    assert [net.space.operations[i] for i in dropped] == ["skip_connect"]
    assert len(variant.dropouts) == 3 * 2
    variant.start_epoch(2, 10)
    assert variant.dropouts[0].p == pytest.approx(0.5 * 2.718281828**-2)
    skip = mixed.candidates[dropped[0]].train()
    share = (skip(torch.ones(100, 4, 8, 8)) == 0).float().mean().item()
    assert share == pytest.approx(variant.dropouts[0].p, abs=0.01)


@pytest.mark.parametrize("name", ["smooth_darts_random", "smooth_darts_adversarial"])
def test_smooth_darts_stays_within_its_radius(name):
    variant = one(name, radius=0.2)
    variant.start_epoch(9, 10)
    weights = {"normal": torch.rand(5, 8).softmax(-1)}
    found = variant.perturb(weights, lambda w: w["normal"].square().sum())["normal"]
    assert (found - weights["normal"]).abs().max() <= variant.radius + 1e-6
    assert found.min() >= 0
    assert not torch.equal(found, weights["normal"])
    assert variant.radius == pytest.approx(0.02 + 0.18 * 0.9)


def test_the_adversary_raises_the_loss_above_what_chance_does():
    torch.manual_seed(0)
    weights = {"normal": torch.rand(5, 8).softmax(-1)}
    cost = torch.randn(5, 8)

    def loss(w):
        return (w["normal"] * cost).sum()

    variants = {n: one(f"smooth_darts_{n}") for n in ("random", "adversarial")}
    raised = {n: loss(v.perturb(weights, loss)).item() for n, v in variants.items()}
    best = weights["normal"] + variants["random"].radius * cost.sign()
    assert raised["adversarial"] > raised["random"]
    assert raised["adversarial"] == pytest.approx(loss({"normal": best.clamp(min=0)}).item())


def test_darts_plus_stops_at_the_second_skip():
    arch, variant = dn.Architecture("darts", nodes=2), one("darts_plus")
    with torch.no_grad():
        arch.normal.zero_()
        arch.normal[:, 4] = 1
        arch.normal[0, 3] = 5
    assert variant.stop(arch, lambda: 0.0) is None
    with torch.no_grad():
        arch.normal[2, 3] = 5
    assert "2 skip connections" in variant.stop(arch, lambda: 0.0)


def test_robust_darts_stops_when_the_curvature_rises_and_goes_back():
    arch, variant = dn.Architecture("darts", nodes=1), one("robust_darts", window=2)
    steps = []
    for epoch, eigenvalue in enumerate([1.0, 1.0, 1.0, 1.0, 1.2, 2.0]):
        with torch.no_grad():
            arch.normal.fill_(float(epoch))
        reason = variant.stop(arch, lambda value=eigenvalue: value)
        steps.append(reason is not None)
    assert steps == [False] * 5 + [True]
    assert torch.equal(arch.normal, torch.full_like(arch.normal, 3.0))
    again = one("robust_darts", window=2)
    again.load(variant.state())
    assert again.eigenvalues == variant.eigenvalues


def test_darts_pt_keeps_what_hurts_most_when_it_is_removed():
    arch, variant = dn.Architecture("darts", nodes=2), one("darts_pt", share=0.5)
    variant.change_architecture(arch)
    torch.manual_seed(0)
    with torch.no_grad():
        arch.normal[:, 3] = 1.0
    worth = {kind: torch.rand(5, 8) for kind in ("normal", "reduce")}
    hurt = {kind: worth[kind] * weights for kind, weights in arch.expected().items()}
    undecided, batches = [], set()

    def objective(weights, count):
        batches.add(count)
        return -sum((weights[kind] * worth[kind]).sum().item() for kind in worth)

    for step in range(20):
        with torch.random.fork_rng():
            variant.decide(arch, step, 20, objective)
        undecided.append((arch.normal_decided < 0).any(-1).sum().item())
    assert undecided[:10] == [5] * 10
    assert undecided[10:] == sorted(undecided[10:], reverse=True)
    assert {5, 4, 3, 2, 1, 0} == set(undecided)
    assert batches == {4}
    genotype = arch.genotype()
    for kind, cell in (("normal", genotype.normal), ("reduce", genotype.reduce)):
        none = arch.space.operations.index("none")
        best = hurt[kind].index_fill(1, torch.tensor([none]), -1.0).argmax(-1)
        value = worth[kind].gather(1, best[:, None])[:, 0]
        for node, edges in enumerate(([0, 1], [2, 3, 4])):
            kept = sorted(edges, key=lambda edge: -value[edge])[:2]
            assert set(cell[node]) == {
                (arch.space.operations[best[edge]], arch.space.edges[edge][0]) for edge in kept
            }


def test_darts_pt_decides_edges_in_random_order():
    orders = set()
    for seed in range(6):
        arch, variant = dn.Architecture("darts", nodes=2), one("darts_pt", share=1.0)
        variant.change_architecture(arch)
        torch.manual_seed(seed)
        variant.decide(arch, 0, 6, lambda weights, count: 0.0)
        orders.add(tuple((arch.normal_decided >= 0).all(-1).tolist()))
    assert len(orders) > 2


def test_what_darts_pt_measures_is_the_objective_of_the_search(digits, monkeypatch):
    module = dn.SearchModule(**TINY, noise_weight=3.0, variants="darts_pt")
    seen = []

    def compare(variant, arch, step, steps, objective):
        labels = module.noise_set.labels
        with torch.no_grad():  # a twin that knows how often there is each class
            module.twin.classifier.weight.zero_()
            module.twin.classifier.bias.copy_(labels.bincount(minlength=10).clamp(min=1e-6).log())
        before = {k: v.clone() for k, v in module.state_dict().items()}
        relaxed = arch.expected()
        found = objective(relaxed, 2)
        assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())

        def loss(net, batch):
            return probing_loss(net, batch)(relaxed).item()

        real = [loss(module.net, module.validation_stream.batch(step + k)) for k in range(2)]
        noise = [loss(module.twin, module.noise_stream.batch(step + k)) for k in range(2)]
        penalty = max(0, 1 - sum(noise) / 2 / math.log(10))
        seen.append((step, steps, penalty > 0))
        assert found == pytest.approx(sum(real) / 2 + 3 * penalty, rel=1e-5)

    monkeypatch.setattr(DartsPt, "decide", compare)
    fit(module, digits())
    assert [(step, steps) for step, steps, _ in seen] == [(step, 4) for step in range(4)]
    assert any(positive for _, _, positive in seen)


def test_oles_freezes_an_operation_at_the_first_check_under_the_threshold():
    net = dn.SuperNet("darts", nodes=1, channels=2, num_cells=3, implementation="textbook")
    first, second, third = operations(net)[:3]
    variant, restored = (one("oles", threshold=0.4, window=2) for _ in range(2))

    def of_cosine(cosines):
        """Two gradients; each tensor of an operation has the cosine that is given for it."""
        pairs = []
        for place, parameter in enumerate(net.parameters()):
            a, b = torch.zeros_like(parameter), torch.zeros_like(parameter)
            cosine = next((c for places, c in cosines if place in places), 1.0)
            a.view(-1)[0] = float(cosine is not None)
            b.view(-1)[:2] = torch.tensor([cosine or 0.0, (1 - (cosine or 0.0) ** 2) ** 0.5])
            pairs.append((a, b))
        return map(list, zip(*pairs, strict=True))

    frozen = []
    for step, cosine in enumerate([0.2, 0.7, 0.5, 0.2, 0.9, 0.9]):
        # The second operation agrees always, and the third has no gradient.
        on_training, on_validation = of_cosine([(first, cosine), (second, 0.5), (third, None)])
        if step == 3:  # a resumed run, in the middle of a window
            restored.load(variant.state())
            variant = restored
        frozen.append(variant.freeze(net, on_training, lambda found=on_validation: found))
    assert frozen == [[], [], [], first, first, first]


def test_oles_leaves_frozen_weights_of_w_as_they_are_and_trains_the_rest(digits):
    kept = []

    class Keep(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            nets = [pl_module.net, pl_module.twin]
            kept.append([[p.detach().clone() for p in net.parameters()] for net in nets])

    module = dn.SearchModule(**TINY, variants={"oles": {"threshold": 1.0, "window": 2}})
    fit(module, digits(), Keep())
    inside = {place for places in operations(module.net) for place in places}
    (w_before, v_before), (w, v) = kept[0], kept[-1]
    for place, (old, new) in enumerate(zip(w_before, w, strict=True)):
        assert torch.equal(old, new) == (place in inside)
    assert not any(torch.equal(old, new) for old, new in zip(v_before, v, strict=True))


def test_dominant_eigenvalue_of_a_known_matrix():
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    matrix = root + root.T
    a = torch.randn(2, 2, generator=generator, dtype=torch.float64).requires_grad_()
    b = torch.randn(2, generator=generator, dtype=torch.float64).requires_grad_()
    x = torch.cat([a.flatten(), b])
    expected = torch.linalg.eigvalsh(matrix)
    largest = expected[expected.abs().argmax()].item()
    found = dominant_eigenvalue(0.5 * x @ matrix @ x, [a, b], iterations=500)
    assert found == pytest.approx(largest, rel=1e-2)


def test_names_and_settings_are_checked():
    with pytest.raises(ValueError, match="unknown search variant 'gdsa': did you mean 'gdas'"):
        make_variants({"gdsa": {}})
    with pytest.raises(ValueError, match="did you mean 'temperature'"):
        make_variants({"gdas": {"temprature": 1.0}})
    with pytest.raises(ValueError, match=r"variants.pc_darts.parts: expected 2 or more"):
        make_variants({"pc_darts": {"parts": 1}})
    with pytest.raises(ValueError, match=r"variants.reinmax.temperature: expected 1 or more"):
        make_variants({"reinmax": {"temperature": 0.5}})
    with pytest.raises(ValueError, match=r"model.hypergradient: expected first_order .* oles"):
        dn.SearchModule(variants="oles", hypergradient="exact")
    with pytest.raises(ValueError, match=r"model.variants: expected darts_pt without darts_plus"):
        dn.SearchModule(variants={"darts_plus": {}, "darts_pt": {}})
    with pytest.raises(ValueError, match=r"model.penalty: .* darts_pt, got 'gram'"):
        dn.SearchModule(variants="darts_pt", penalty="gram")
    with pytest.raises(ValueError, match=r"variants: expected one variant .* got gdas and drnas"):
        make_variants({"gdas": {}, "pc_darts": {}, "drnas": {}})
    with pytest.raises(ValueError, match="registered already"):
        register_variant("gdas")


def test_a_plain_variant_changes_nothing(digits):
    weights = {"normal": torch.rand(2, 2)}
    variant = Variant()
    assert variant.perturb(weights, lambda w: torch.zeros(())) is weights
    assert variant.stop(dn.Architecture("darts"), lambda: 0.0) is None
    assert variant.state() == {}


@pytest.mark.parametrize(
    ("name", "setting", "expected"),
    [
        ("gdas", {"temperature": float("inf")}, "temperature: expected a finite number, got inf"),
        ("gdas", {"temperature": "hot"}, "temperature: expected a finite number, got 'hot'"),
        ("darts_plus", {"skips": 2.5}, "skips: expected a whole number, got 2.5"),
        ("darts_plus", {"skips": True}, "skips: expected a whole number, got True"),
        ("pc_darts", {"edge_normalisation": 3}, "edge_normalisation: expected true or false"),
        ("pc_darts", {"parts": "4"}, "parts: expected a whole number, got '4'"),
    ],
)
def test_a_setting_of_another_type_is_refused(name, setting, expected):
    with pytest.raises(ValueError, match=rf"model\.variants\.{name}\.{expected}"):
        dn.SearchModule(variants={name: setting})


def test_a_whole_number_will_do_for_a_float():
    dn.SearchModule(variants={"gdas": {"temperature": 3}})
