"""The card of a bundle, read by the library of the model hubs."""

import runpy

import pytest
import torch

import darts_noise as dn
from darts_noise.pretrained.config import BundleConfig, network_arguments
from darts_noise.pretrained.model_card import model_card

IMAGES = dn.BundleImages("shapes: a", (8, 8), (0.5,), (0.25,), ("a", "b"))
FIGURES = {"kind": "train", "test_accuracy": 0.9, "noise_accuracy": 0.25, "parameters": 12}


def written(card, images=IMAGES):
    net = dn.create_model(
        "darts_v2", num_classes=2, in_channels=1, channels=4, num_cells=3, stem="small"
    )
    return model_card(BundleConfig(network_arguments(net), images, {}), net.genotype, card)


def test_the_hub_reads_its_metadata():
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(written(FIGURES)).data
    assert data.library_name == "darts_noise"
    assert data.pipeline_tag == "image-classification"
    assert data.datasets == ["shapes: a"]
    found = {result.metric_name: result.metric_value for result in data.eval_results}
    assert found == {"Test accuracy": 0.9, "Training-noise accuracy": 0.25}


def test_what_was_not_measured_is_not_claimed():
    hub = pytest.importorskip("huggingface_hub")
    assert hub.ModelCard(written({})).data.eval_results is None
    assert hub.ModelCard(written({"test_accuracy": None})).data.eval_results is None
    without = hub.ModelCard(written({}, images=None)).data
    assert without.datasets is None


def test_the_figures_are_those_of_the_result_card():
    text = written(FIGURES)
    assert "| Test accuracy | 90.00% |" in text
    assert "| Parameters | 12 |" in text


def test_the_authors_folders_stay_with_the_author():
    text = written({**FIGURES, "cell": "/home/me/runs/search/blurred"})
    assert "| Cell | blurred |" in text
    assert "/home" not in text


def test_its_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = dn.create_model("darts_v2", channels=4, num_cells=3, stem="small")
    folder = dn.save_pretrained(net, tmp_path / "path/to/this/folder")
    (tmp_path / "use.py").write_text((folder / "README.md").read_text().split("```")[1][6:])
    names = runpy.run_path(str(tmp_path / "use.py"))
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(names["net"](x), net.eval()(x))
