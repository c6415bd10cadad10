"""torch.hub finds networks in a clone, in a process that knows nothing of the package."""

import subprocess
import sys

import torch
from conftest import ROOT

import darts_noise as dn


def test_torch_hub_loads_from_a_clone(tmp_path):
    net = dn.create_model("darts_v2", channels=4, num_cells=3, stem="small").eval()
    x = torch.randn(2, 3, 8, 8)
    dn.save_pretrained(net, tmp_path / "b")
    torch.save((x, net(x)), tmp_path / "xy.pt")
    code = (
        "import torch, sys\n"
        "x, y = torch.load('xy.pt', weights_only=True)\n"
        f"net = torch.hub.load({str(ROOT)!r}, 'load_pretrained', 'b', source='local')\n"
        "torch.testing.assert_close(net(x), y)\n"
        f"fresh = torch.hub.load({str(ROOT)!r}, 'create_model', 'darts_v2', source='local',\n"
        "                       channels=4, num_cells=3, num_classes=5)\n"
        "assert fresh(torch.randn(2, 3, 16, 16)).shape == (2, 5)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
