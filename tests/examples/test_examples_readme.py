"""The examples in the docs about cells in other models run unchanged."""

import importlib
import re
import runpy

import pytest
from conftest import ROOT

SECTION = (ROOT / "docs" / "other_models.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
MODULES = re.findall(r"`python -m (examples\.\w+)`", SECTION)


def run(snippet, folder):
    (folder / "snippet.py").write_text(snippet, "utf-8")
    return runpy.run_path(str(folder / "snippet.py"))


def test_features_and_blocks_have_the_shapes_that_are_stated(tmp_path):
    names = run(SNIPPETS[0], tmp_path)
    torch = names["torch"]
    net, block, x = names["net"], names["block"], torch.rand(2, 64, 9, 12)
    assert names["last"].shape == (2, net.num_features, 10, 14)
    assert net(torch.rand(2, 3, 8, 8)).shape == (2, 5)
    assert names["shapes"] == ([m.shape[1] for m in names["body"](torch.rand(1, 3, 8, 8))], [1, 4])
    assert block(x).shape == x.shape
    assert names["halved"](x).shape == (2, 64, 5, 6)


def test_the_shipped_network_is_loaded_and_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run(SNIPPETS[1], tmp_path)
    assert names["accuracy"] > 0.97
    assert (tmp_path / "mine" / "README.md").is_file()


def test_every_snippet_and_example_is_looked_at():
    assert len(SNIPPETS) == 2
    files = {f"examples.{path.stem}" for path in (ROOT / "examples").glob("*.py")}
    assert set(MODULES) == files


@pytest.mark.parametrize("name", MODULES)
def test_an_example_says_how_it_is_called(name):
    module = importlib.import_module(name)
    assert f"``python -m {name}``" in module.__doc__.replace("\n", " ")
