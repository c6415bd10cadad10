"""The networks that come with the package are as good as their cards say, and small."""

import json

import pytest

import darts_noise as dn
from darts_noise.space.published import BUNDLES


def test_all_of_them_are_small():
    size = sum(file.stat().st_size for file in BUNDLES.rglob("*") if file.is_file())
    assert size < 5 << 20


@pytest.mark.parametrize("name", dn.list_pretrained())
def test_a_shipped_network_is_complete(name):
    net, config = dn.load_pretrained(name), dn.pretrained_config(name)
    assert config.images is not None
    assert net.num_classes == len(config.images.classes)
    assert "model-index:" in (BUNDLES / name / "README.md").read_text("utf-8")
    assert json.loads((BUNDLES / name / "config.json").read_text("utf-8"))


def test_the_digits_network_has_the_accuracy_of_its_card():
    images, test = dn.pretrained_config("digits").images, dn.load_dataset("digits").test
    found = dn.load_pretrained("digits")(images.normalisation(test.images)).argmax(1)
    accuracy = (found == test.labels).double().mean().item()
    card = (BUNDLES / "digits" / "README.md").read_text("utf-8")
    assert f"| Test accuracy | {100 * accuracy:.2f}% |" in card
