"""Bundles through the Hugging Face Hub's mixin, which reads folders as it reads repositories."""

import pytest
import torch

import darts_noise as dn
from darts_noise.pretrained.bundle import CARD, CONFIG, GENOTYPE, WEIGHTS

hub_mixin = pytest.importorskip("huggingface_hub.hub_mixin")
hub = pytest.importorskip("darts_noise.pretrained.hub")
HubNetwork = hub.HubNetwork

IMAGES = dn.BundleImages("shapes", (8, 8), (0.5,), (0.25,), ("a", "b"))
CELL = dn.load_genotype("darts_v2")
FORM = {"num_classes": 2, "in_channels": 1, "channels": 4, "num_cells": 3, "stem": "small"}


@pytest.fixture
def bundle(tmp_path):
    net = dn.create_model(CELL, **FORM)
    return dn.save_pretrained(net, tmp_path / "b", images=IMAGES, card={"test_accuracy": 0.5})


def test_what_it_saves_is_a_bundle(bundle, tmp_path):
    net = HubNetwork.from_pretrained(bundle)
    net.save_pretrained(tmp_path / "again")
    for name in (CONFIG, GENOTYPE, WEIGHTS, CARD):
        assert (tmp_path / "again" / name).read_bytes() == (bundle / name).read_bytes(), name


def test_figures_stay_with_the_weights_that_they_are_of(bundle, tmp_path):
    net = HubNetwork.from_pretrained(bundle)
    torch.nn.init.ones_(net.classifier.bias)
    net.save_pretrained(tmp_path / "again")
    text = (tmp_path / "again" / CARD).read_text()
    assert "Test accuracy" in (bundle / CARD).read_text()
    assert "Test accuracy" not in text
    assert dn.pretrained_config(tmp_path / "again").images == IMAGES


def test_the_number_of_classes_can_change_and_other_keywords_are_refused(bundle):
    assert HubNetwork.from_pretrained(bundle, num_classes=5).num_classes == 5
    with pytest.raises(TypeError, match="nonsense"):
        HubNetwork.from_pretrained(bundle, nonsense=1)


def test_a_new_network_is_saved_as_well(tmp_path):
    net = HubNetwork(CELL, **FORM).eval()
    net.save_pretrained(tmp_path)
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(dn.load_pretrained(tmp_path)(x), net(x))


def test_of_a_repository_only_the_files_of_a_bundle_are_fetched(bundle, monkeypatch):
    asked = {}

    def download(repository, **settings):
        asked.update(settings, repository=repository)
        return str(bundle)

    monkeypatch.setattr(hub, "snapshot_download", download)
    monkeypatch.setattr(hub_mixin, "hf_hub_download", lambda **_: str(bundle / CONFIG))
    net = HubNetwork.from_pretrained("me/shapes", revision="v1")
    assert net.num_classes == 2
    assert asked["repository"] == "me/shapes"
    assert asked["revision"] == "v1"
    assert sorted(asked["allow_patterns"]) == sorted([CONFIG, GENOTYPE, WEIGHTS, CARD])


def test_a_damaged_file_is_refused(bundle):
    (bundle / WEIGHTS).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"model.safetensors: damaged"):
        HubNetwork.from_pretrained(bundle)
