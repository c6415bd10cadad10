"""torch.hub finds networks in a clone, in a process that knows nothing of the package."""

import sys
from pathlib import Path

import torch
from conftest import ROOT, in_a_fork

import darts_noise as dn


def through_hub(folder):
    """The logits of the network in a bundle, and the shape of those of a new network."""
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != ROOT]
    net = torch.hub.load(str(ROOT), "load_pretrained", folder / "b", source="local")
    more = {"channels": 4, "num_cells": 3, "num_classes": 5}
    fresh = torch.hub.load(str(ROOT), "create_model", "darts_v2", source="local", **more)
    with torch.no_grad():
        torch.save(net(torch.load(folder / "x.pt", weights_only=True)), folder / "y.pt")
        return tuple(fresh(torch.randn(2, 3, 16, 16)).shape)


def test_torch_hub_loads_from_a_clone(tmp_path):
    net = dn.create_model("darts_v2", channels=4, num_cells=3, stem="small").eval()
    x = torch.randn(2, 3, 8, 8)
    dn.save_pretrained(net, tmp_path / "b")
    torch.save(x, tmp_path / "x.pt")
    assert in_a_fork(through_hub, tmp_path) == (2, 5)
    torch.testing.assert_close(net(x), torch.load(tmp_path / "y.pt", weights_only=True))
