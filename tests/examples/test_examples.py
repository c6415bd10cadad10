"""The examples with a published cell and with one that has macro choices, as a user calls them."""

import importlib.util

import pytest
import torch
import torch.nn.functional as F

import darts_noise as dn
from examples import bf16, detection, export, feature_extraction, lightning_project, segmentation

MACRO = {
    "none": {"normalisation": "none", "pooling": "average_2", "width": 0.5},
    "layer": {"normalisation": "layer", "pooling": "average_4"},
}
BLURRED = [[("blur_pool_3x3", 0), ("skip_connect", 1)], [("dil_conv_3x3", 2), ("none", 0)]]


@pytest.fixture(params=["darts_v2", "none", "layer"])
def genotype(request, tmp_path):
    """The name of a published cell, or the file of a cell with macro choices."""
    if request.param not in MACRO:
        return request.param
    cell = dn.Genotype(BLURRED, (2, 3), BLURRED, (2, 3), macro=MACRO[request.param])
    path = tmp_path / "cell.json"
    cell.to_json(path)
    return str(path)


def test_a_detector_trains(genotype):
    losses = detection.main(genotype)
    assert len(losses) == 4
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_the_detectors_losses_reach_the_stem():
    model = detection.detector("darts_v2", num_classes=2, side=64, channels=4, num_cells=3)
    target = {"boxes": torch.tensor([[4.0, 4.0, 40.0, 36.0]]), "labels": torch.tensor([1])}
    losses = model([torch.rand(3, 64, 64)], [target])
    sum(losses.values()).backward()
    body = model.backbone.body
    for name, parameter in body.named_parameters():
        assert parameter.grad is not None, name
    assert all(p.grad.abs().sum() > 0 for p in body.stem.parameters())


def test_segmentation_learns(genotype):
    losses = segmentation.main(genotype)
    assert losses[-1] < 0.7 * losses[0]


def test_a_lightning_project_learns(genotype):
    assert lightning_project.main(genotype) < 0.4


def test_extracted_maps_are_those_of_the_network(genotype):
    torch.manual_seed(0)
    maps = feature_extraction.main(genotype)
    torch.manual_seed(0)
    net = dn.create_model(genotype, channels=8, num_cells=5, stem="small").eval()
    last = net.forward_features(torch.rand(1, 3, 32, 32))
    *_, smallest, logits = maps.values()
    torch.testing.assert_close(smallest, last)
    torch.testing.assert_close(logits, net.forward_head(last))
    assert [m.shape[1] for m in list(maps.values())[:-1]] == net.feature_info.channels()


@pytest.mark.parametrize("name", dn.list_pretrained())
def test_maps_of_a_shipped_network_can_be_extracted(name):
    """They have a bounded gain, and see only smooth images."""
    net = dn.load_pretrained(name).eval()
    coarse = torch.rand(2, dn.pretrained_config(name).model["in_channels"], 2, 2)
    images = F.interpolate(coarse, 16, mode="bilinear")
    assert net.input_filter(images).abs().amax((1, 2, 3)).min() > 0
    seen = []
    net.cells[1].register_forward_hook(lambda module, inputs, out: seen.append(out))
    expected = net(images)
    assert not torch.equal(expected[0], expected[1])
    extractor = feature_extraction.create_feature_extractor(net, ["cells.1", "classifier"])
    for found, wanted in zip(extractor(images).values(), (seen[0], expected), strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_network_with_a_head_and_drop_path_can_be_traced():
    """In train mode as well, which is where both are."""
    net = dn.create_model("darts_v2", channels=4, num_cells=3, auxiliary=True, drop_path=0.1)
    nodes = [feature.module for feature in net.feature_info]
    extractor = feature_extraction.create_feature_extractor(net, nodes)
    assert len(extractor.train()(torch.rand(2, 3, 32, 32))) == 3


def test_an_exported_network_takes_any_batch(genotype):
    net = dn.create_model(genotype, channels=4, num_cells=3, stem="small", in_channels=1).eval()
    program = export.exported(net, torch.rand(1, 12, 9)).module()
    for count in (1, 2, 7):
        x = torch.randn(count, 1, 12, 9)
        torch.testing.assert_close(program(x), net(x))


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs the extra onnx")
@pytest.mark.slow
def test_onnx_runtime_gives_the_same_logits(genotype):
    assert export.main(genotype) < 1e-4


def test_bf16_is_near_float32(genotype):
    assert all(difference < 0.02 for difference in bf16.main(genotype))
