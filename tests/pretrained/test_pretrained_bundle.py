"""Bundles: a saved bundle loads unchanged, and every file is checked before use."""

import copy
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from safetensors.torch import load_file, save_file

import darts_noise as dn
from darts_noise.data.file_images import FileImages
from darts_noise.pretrained.bundle import CARD, CONFIG, GENOTYPE, WEIGHTS, start_from
from darts_noise.runs.train import trained_images

IMAGES = dn.BundleImages("shapes", (9, 12), (0.5,), (0.25,), ("square", "circle", "triangle"))
MACRO = {"normalisation": "layer", "pooling": "average_2", "width": 0.5}
CELL = replace(dn.load_genotype("darts_v1"), macro=MACRO)
FORM = {"num_classes": 3, "in_channels": 1, "channels": 8, "num_cells": 4, "stem": "small"}


def trained(genotype=CELL, **settings):
    """A network whose every weight and statistic differs from a new one's."""
    net = dn.create_model(genotype, **{**FORM, **settings}).train()
    with torch.no_grad():
        net(torch.randn(4, net.arguments["in_channels"], 40, 40))
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net.eval()


@pytest.fixture
def bundle(tmp_path):
    return dn.save_pretrained(trained(), tmp_path / "b", images=IMAGES)


@pytest.mark.parametrize(
    ("genotype", "settings"),
    [
        (CELL, {}),
        (dn.load_genotype("darts_v2"), {"stem": "imagenet", "in_channels": 3}),
        (replace(CELL, macro={"normalisation": "none"}), {"stem_stride": 2, "num_classes": 0}),
        (dn.load_genotype("nasnet"), {"auxiliary": True}),
    ],
    ids=["layer", "imagenet", "none", "auxiliary"],
)
def test_a_loaded_network_is_the_saved_one(genotype, settings, tmp_path):
    net = trained(genotype, **settings).to(memory_format=torch.channels_last)
    state = torch.random.get_rng_state()
    again = dn.load_pretrained(dn.save_pretrained(net, tmp_path))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert again.genotype == genotype
    assert not again.training
    saved = net.state_dict()
    for key, value in again.state_dict().items():
        assert torch.equal(value, saved[key]), key
    x = torch.randn(2, net.arguments["in_channels"], 32, 32)
    torch.testing.assert_close(again(x), net(x))


def test_its_maps_are_those_of_the_whole(bundle):
    net, body = dn.load_pretrained(bundle), dn.load_pretrained(bundle, features_only=True)
    x = torch.randn(2, 1, 21, 30)
    torch.testing.assert_close(body(x)[-1], net.forward_features(x))
    top = dn.load_pretrained(bundle, features_only=True, out_indices=(-1,))
    assert top.feature_info == body.feature_info[-1:]


def test_the_config_says_what_the_images_were(bundle):
    assert dn.pretrained_config(bundle).images == IMAGES
    x = torch.randint(256, (2, 1, 9, 12), dtype=torch.uint8)
    torch.testing.assert_close(IMAGES.normalisation(x), (x / 255 - 0.5) / 0.25)


@pytest.mark.parametrize("crop_pct", [1.0, 0.6])
def test_images_are_prepared_as_in_the_test_of_the_run(crop_pct, digits, tmp_path):
    data = digits(crop_pct=crop_pct)
    net = trained(num_classes=10)
    images = trained_images(data)
    folder = dn.save_pretrained(net, tmp_path, images=images, card={})
    assert ("crop_pct" in (folder / CONFIG).read_text()) == (crop_pct < 1)
    assert ("tested on the central 0.6" in (folder / CARD).read_text()) == (crop_pct < 1)
    read = dn.pretrained_config(folder).images
    assert read == images
    batch, _ = data.test_dataloader().stream.batch(0)
    torch.testing.assert_close(read.inputs(data.test.images[: len(batch)]), batch, rtol=0, atol=0)
    assert read.inputs(torch.zeros(2, 1, 30, 20)).shape == (2, 1, 8, 8)


def test_a_bundle_within_a_run_is_found(tmp_path):
    dn.save_pretrained(trained(), tmp_path / "bundle")
    assert dn.load_pretrained(tmp_path).num_classes == 3


def test_a_second_network_takes_the_place_of_the_first(bundle):
    net = trained(num_classes=5)
    dn.save_pretrained(net, bundle)
    assert dn.load_pretrained(bundle).num_classes == 5
    assert sorted(p.name for p in bundle.iterdir()) == sorted([CARD, CONFIG, GENOTYPE, WEIGHTS])


def test_what_a_crash_has_left_of_one_is_replaced(bundle):
    for name in (CONFIG, CARD):
        (bundle / name).unlink()
    dn.save_pretrained(trained(), bundle)
    assert dn.load_pretrained(bundle).num_classes == 3


@pytest.mark.parametrize("name", [CARD, CONFIG])
def test_files_that_are_no_bundles_are_not_replaced(name, tmp_path):
    (tmp_path / name).write_text("my own")
    (tmp_path / GENOTYPE).write_text("{}")
    with pytest.raises(ValueError, match="expected a new folder or a bundle, got a folder with"):
        dn.save_pretrained(trained(), tmp_path)
    assert (tmp_path / name).read_text() == "my own"
    assert (tmp_path / GENOTYPE).read_text() == "{}"
    with pytest.raises(ValueError, match=f"{name}: expected a folder, got a file"):
        dn.save_pretrained(trained(), tmp_path / name)


def test_images_that_do_not_suit_the_network_are_refused(tmp_path):
    with pytest.raises(ValueError, match="images: expected 1 channels and 4 classes"):
        dn.save_pretrained(trained(num_classes=4), tmp_path, images=IMAGES)
    with pytest.raises(ValueError, match="net: expected a Network"):
        dn.save_pretrained(torch.nn.Linear(2, 2), tmp_path)


def rewrite(bundle, change):
    """Changes the config as its author might, with the checksums put right."""
    config = json.loads((bundle / CONFIG).read_text())
    change(config)
    for name in config.get("sha256", {}) if isinstance(config, dict) else ():
        if (bundle / name).is_file():
            config["sha256"][name] = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    (bundle / CONFIG).write_text(json.dumps(config))


def message(bundle):
    with pytest.raises(ValueError, match=r"expected|damaged|No such|not a") as error:
        dn.load_pretrained(bundle)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


@pytest.mark.parametrize("name", [WEIGHTS, GENOTYPE])
def test_a_changed_file_is_told_by_its_checksum(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[-3] ^= 1
    (bundle / name).write_bytes(content)
    assert message(bundle) == f"{bundle / name}: damaged, its checksum differs from config.json"
    (bundle / name).unlink()
    assert message(bundle) == f"{bundle / name}: No such file or directory"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c.update(format="other"), "format: expected 'darts_noise.bundle/1'"),
        (lambda c: c.update(more=1), "config: expected an object of format, model"),
        (lambda c: c.pop("model"), "config: expected an object of format, model"),
        (lambda c: c["model"].update(channels=10**9), "model['channels']: expected 1 to 16384"),
        (lambda c: c["model"].update(num_cells=True), "model['num_cells']: expected 1 to 256"),
        (lambda c: c["model"].update(stem=["small"]), "model['stem']: expected one of cifar"),
        (lambda c: c["model"].update(stem="imagenet", stem_stride=2), "stem_stride: the imagenet"),
        (lambda c: c["images"].update(std=[0.0]), "std: expected finite positive values"),
        (lambda c: c["images"].update(crop_pct="a"), "images['crop_pct']: expected finite"),
        (lambda c: c["images"].update(crop_pct=1.5), "crop_pct: expected more than 0"),
        (lambda c: c["images"].update(mean=["a"]), "images['mean']: expected finite numbers"),
        (lambda c: c["images"].update(mean=[float("nan")]), "images['mean']: expected finite"),
        (lambda c: c["images"].update(mean=[10**400]), "images['mean']: expected finite"),
        (lambda c: c["images"].update(classes="abc"), "images['classes']: expected a list"),
        (lambda c: c["images"].update(classes=["a", 2, "c"]), "images: expected names"),
        (lambda c: c["images"].update(image_size=[0, 3]), "images['image_size']: expected 1 to"),
        (
            lambda c: c["sha256"].update({WEIGHTS: "../"}),
            "sha256['model.safetensors']: expected 64",
        ),
    ],
)
def test_a_config_of_another_form_is_refused(bundle, change, expected):
    config = json.loads((bundle / CONFIG).read_text())
    change(config)
    (bundle / CONFIG).write_text(json.dumps(config))
    assert expected in message(bundle)
    assert str(bundle) in message(bundle)


def test_weights_of_another_form_are_refused_before_memory_is_taken(bundle):
    rewrite(bundle, lambda c: c["model"].update(channels=16384, num_cells=5))
    path = bundle / WEIGHTS
    assert message(bundle).startswith(f"{path}: 'cells.0.")
    rewrite(bundle, lambda c: c["model"].update(channels=8, num_cells=4))
    assert dn.load_pretrained(bundle)
    weights = load_file(path)
    save_file({**weights, "more": torch.ones(2)}, path)
    rewrite(bundle, lambda c: None)
    assert message(bundle) == (
        f"{path}: 'more': expected no tensor by config.json, got floats (2,)"
    )
    weights["classifier.bias"] = torch.ones(3, dtype=torch.int64)
    save_file(weights, path)
    rewrite(bundle, lambda c: None)
    assert message(bundle).endswith("expected floats (3,) by config.json, got integers (3,)")


def test_a_pickle_in_the_place_of_the_weights_is_refused(bundle):
    torch.save(trained().state_dict(), bundle / WEIGHTS)
    rewrite(bundle, lambda c: None)
    assert message(bundle).startswith(f"{bundle / WEIGHTS}: not a safetensors file")


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="unknown trained network 'digist'"):
        dn.load_pretrained("digist")
    with pytest.raises(ValueError, match=r"folder of a bundle or of a training run.*config\.json"):
        dn.load_pretrained(tmp_path)


def test_other_classes_get_a_new_last_layer_and_the_same_maps(bundle):
    net, other = dn.load_pretrained(bundle), dn.load_pretrained(bundle, num_classes=7)
    x = torch.randn(2, 1, 21, 30)
    torch.testing.assert_close(other.forward_features(x), net.forward_features(x))
    assert other(x).shape == (2, 7)
    assert dn.load_pretrained(bundle, num_classes=0)(x).shape == (2, net.num_features)
    same = dn.load_pretrained(bundle, num_classes=3)
    assert torch.equal(same.classifier.weight, net.classifier.weight)
    with pytest.raises(dn.SettingError, match="num_classes: expected none with features_only"):
        dn.load_pretrained(bundle, num_classes=7, features_only=True)


@pytest.mark.parametrize("turned", [False, True])
def test_an_image_is_prepared_as_the_training_prepared_its_files(tmp_path, turned):
    """Also one in colour, of other proportions, and turned by its camera."""
    pixels = np.random.default_rng(0).integers(256, size=(40, 70, 3), dtype=np.uint8)
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6 if turned else 1
    image.save(tmp_path / "a.png", exif=exif)
    read = FileImages([tmp_path / "a.png"], (1, 9, 12))[torch.tensor([0])]
    with Image.open(tmp_path / "a.png") as opened:
        prepared = IMAGES.transform(opened)
    torch.testing.assert_close(prepared, IMAGES.normalisation(read)[0])
    with pytest.raises(ValueError, match=r"expected a PIL image, got Tensor; .* normalisation"):
        IMAGES.transform(torch.zeros(1, 9, 12))


def test_images_on_the_wrong_scale_are_noticed(bundle, recwarn):
    images = torch.rand(2, 1, 9, 12)
    with pytest.warns(UserWarning, match="expected values from 0 to 255, got at most"):
        IMAGES.normalisation(images)
    with pytest.warns(UserWarning, match="expected normalised images, got values above"):
        dn.load_pretrained(bundle)(255 * images)
    recwarn.clear()
    net = dn.load_pretrained(bundle)
    net(IMAGES.normalisation(255 * images))
    assert not net._forward_pre_hooks
    net(255 * images)  # only the first images are looked at
    for copied in (copy.deepcopy(dn.load_pretrained(bundle)), dn.load_pretrained(bundle)):
        copied(IMAGES.normalisation(255 * images))
        assert not copied._forward_pre_hooks
    IMAGES.normalisation((255 * images).byte())
    IMAGES.normalisation(torch.zeros(1, 1, 9, 12))
    assert not recwarn.list


def test_a_network_starts_from_the_weights_of_a_bundle(bundle):
    """All but the head of other classes and the auxiliary head, which is not in the bundle."""
    net = dn.create_model(CELL, **{**FORM, "num_classes": 5}, auxiliary=True)
    own = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    start_from(net, bundle)
    saved = load_file(bundle / WEIGHTS)
    for name, tensor in net.state_dict().items():
        is_new = name.startswith(("classifier.", "auxiliary."))
        assert torch.equal(tensor, (own if is_new else saved)[name]), name
