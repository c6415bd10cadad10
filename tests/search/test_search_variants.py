"""Each variant has the property that its paper claims, and finds a valid genotype."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

import darts_noise as dn
from darts_noise.nets.macro_layers import MixedNorm
from darts_noise.nets.mixed.textbook import MixedOperation
from darts_noise.search.curvature import dominant_eigenvalue
from darts_noise.search.variants import list_variants, make_variants, register_variant
from darts_noise.search.variants.pc_darts import PartialMixedOperation, PcDarts
from darts_noise.search.variants.variant import Variant
from darts_noise.space.spaces import get_space


def one(name, **settings):
    return make_variants({name: settings})[name]


@pytest.mark.parametrize("name", list_variants())
@pytest.mark.parametrize("space", ["darts", pytest.param("noise", marks=pytest.mark.slow)])
def test_it_searches_to_a_valid_genotype(space, name, digits):
    module = dn.SearchModule(
        space=space,
        nodes=2,
        channels=4,
        num_cells=3,
        stem="small",
        noise_samples=32,
        variants={name: {}},
    )
    pl.Trainer(
        max_epochs=2,
        limit_train_batches=1,
        limit_val_batches=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    ).fit(module, datamodule=digits())
    genotype = module.genotype()
    assert dn.Genotype.from_dict(genotype.to_dict()) == genotype
    assert all(len(node) == 2 for node in (*genotype.normal, *genotype.reduce))


def test_gdas_samples_one_operation_per_edge_as_often_as_its_softmax_says():
    arch = dn.Architecture("darts", nodes=1)
    variant = one("gdas", temperature=2.0)
    variant.change_architecture(arch)
    with torch.no_grad():
        arch.normal.copy_(torch.linspace(-1, 1, 16).view(2, 8))
    torch.manual_seed(0)
    samples = torch.stack([arch()["normal"].detach() for _ in range(6000)])
    assert torch.equal(samples.sum(-1), torch.ones(6000, 2))
    assert set(samples.flatten().round(decimals=5).tolist()) == {0.0, 1.0}
    torch.testing.assert_close(samples.mean(0), arch.normal.softmax(-1), atol=0.02, rtol=0)


def test_gdas_passes_the_gradient_of_the_tempered_softmax():
    """Straight-through: backward as if the weights were softmax((α + g) / τ)."""
    arch = dn.Architecture("darts", nodes=1)
    one("gdas", temperature=3.0).change_architecture(arch)
    cost = torch.randn(2, 8)
    torch.manual_seed(7)
    (arch()["normal"] * cost).sum().backward()
    torch.manual_seed(7)
    alpha = arch.normal.detach().clone().requires_grad_()
    gumbel = -torch.empty_like(alpha).exponential_().log()
    (((alpha + gumbel) / 3.0).softmax(-1) * cost).sum().backward()
    torch.testing.assert_close(arch.normal.grad, alpha.grad)


def test_gdas_temperature_falls_linearly_and_nothing_is_sampled_in_eval_mode():
    arch = dn.Architecture("darts", nodes=1)
    variant = one("gdas", temperature=10.0, final_temperature=1.0)
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
    with pytest.raises(ValueError, match=r"variants.pc_darts.parts: expected at least 2"):
        make_variants({"pc_darts": {"parts": 1}})
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
