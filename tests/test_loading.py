"""A checkpoint from somebody else is read as data: code in it is refused in one line."""

import os
import sys

import pytest
import torch

import darts_noise as dn
from darts_noise.finite import FiniteCheck

FORM = {"channels": 4, "num_cells": 3, "stem": "small", "auxiliary_weight": 0.0}


class RunsACommand:
    """What a malicious pickle holds."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def saved(path, **changes):
    """A checkpoint like those of a training, with some entries changed."""
    module = dn.TrainModule(**FORM).build(dn.load_genotype("darts_v1"), 10, 1)
    checkpoint = {
        "pytorch-lightning_version": "2.6.6",
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        **changes,
    }
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return module


def refused(path, words, cls=dn.TrainModule, **settings):
    with pytest.raises(ValueError, match=words) as error:
        cls.load_from_checkpoint(path, **settings)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("saved_on", ["cpu", "gpu"])
def test_our_own_are_loaded(tmp_path, saved_on, request):
    if saved_on == "gpu":
        request.getfixturevalue("as_of_a_gpu")
    module = saved(tmp_path / "a.ckpt")
    again = dn.TrainModule.load_from_checkpoint(tmp_path / "a.ckpt")
    images = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(again.eval()(images), module.eval()(images))
    assert isinstance(again.finite, FiniteCheck)


@pytest.mark.parametrize("settings", [{}, {"weights_only": False}])
def test_a_pickle_runs_nothing(tmp_path, settings):
    trace = tmp_path / "trace"
    saved(tmp_path / "a.ckpt", epoch=RunsACommand(f"touch {trace}"))
    refused(tmp_path / "a.ckpt", "tensors and plain values", **settings)
    assert not trace.exists()


@pytest.mark.parametrize("cls", [dn.TrainModule, dn.SearchModule])
@pytest.mark.parametrize(
    "hyperparameters",
    [
        {"_instantiator": "os.system"},
        {"_instantiator": "pytorch_lightning.cli.instantiate_module"},
        {"_class_path": "antigravity.Module"},
        {"_class_path": "darts_noise.train.module.TrainModule"},
        {"chanels": 4},
    ],
)
def test_hyperparameters_name_no_code(tmp_path, hyperparameters, cls):
    saved(tmp_path / "a.ckpt", hyper_parameters=hyperparameters)
    refused(tmp_path / "a.ckpt", f"settings of {cls.__name__}", cls)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_checkpoint(tmp_path, content):
    (tmp_path / "a.ckpt").write_bytes(content)
    refused(tmp_path / "a.ckpt", "expected a checkpoint")
    torch.save([1], tmp_path / "list.ckpt")
    refused(tmp_path / "list.ckpt", "expected a checkpoint")
    refused(tmp_path / "gone.ckpt", "No such file")


@pytest.mark.parametrize("cls", [dn.TrainModule, dn.SearchModule])
def test_weights_without_lightnings_keys(tmp_path, cls):
    module = saved(tmp_path / "a.ckpt")
    torch.save(module.state_dict(), tmp_path / "weights.ckpt")
    refused(tmp_path / "weights.ckpt", "without 'state_dict'; .*load_state_dict", cls)
    torch.save({"state_dict": module.state_dict()}, tmp_path / "half.ckpt")
    refused(tmp_path / "half.ckpt", "without 'pytorch-lightning_version'", cls)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_weights_of_a_wrapped_network(tmp_path, prefix):
    """Of a network alone, and in a checkpoint of a module whose network was compiled."""
    module = saved(tmp_path / "a.ckpt").eval()
    images = torch.rand(2, 1, 8, 8)
    weights = {f"{prefix}{name}": w for name, w in module.net.state_dict().items()}
    net = dn.create_model(module.net.genotype, num_classes=10, **module.net.arguments)
    net.load_state_dict(weights)
    assert all(name.startswith(prefix) for name in weights)  # the caller's own stay
    torch.testing.assert_close(net.eval()(images), module(images))
    wrapped = {
        name.replace("net.", f"net.{prefix}", 1): w for name, w in module.state_dict().items()
    }
    saved(tmp_path / "b.ckpt", state_dict=wrapped)
    again = dn.TrainModule.load_from_checkpoint(tmp_path / "b.ckpt")
    torch.testing.assert_close(again.eval()(images), module(images))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        net.load_state_dict({**net.state_dict(), "module.other": torch.zeros(1)})


def test_a_cell_with_code_in_a_name(tmp_path):
    cell = dn.load_genotype("darts_v1").to_dict()
    cell["normal"][0][0][0] = "__import__('os').system('true')"
    module = saved(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    checkpoint["network"]["genotype"] = cell
    torch.save(checkpoint, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"normal\[0\]\[0\]: unknown operation"):
        type(module).load_from_checkpoint(tmp_path / "a.ckpt")
