"""A genotype from a W&B artifact: its only file, checked like any other."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb

import darts_noise as dn
from darts_noise.space import wandb_artifact

NAME = "me/darts_noise/search-digits:v3"
CELL = dn.load_genotype("darts_v2")


@pytest.fixture
def served(monkeypatch):
    """Puts a text in the place of the artifact's genotype; returns what was asked for."""
    asked = []

    def serve(text, size=None):
        def download(root):
            path = Path(root) / "genotype.json"
            path.write_text(text)
            return str(path)

        entry = SimpleNamespace(size=len(text) if size is None else size, download=download)
        artifact = SimpleNamespace(get_entry=lambda name: asked.append(name) or entry)
        api = SimpleNamespace(artifact=lambda name: asked.append(name) or artifact)
        monkeypatch.setattr(wandb, "Api", lambda: api)
        return asked

    monkeypatch.setattr(wandb_artifact, "has_key", lambda: True)
    return serve


def test_the_genotype_is_that_of_the_artifact(served, tmp_path):
    CELL.to_json(tmp_path / "g.json")
    asked = served((tmp_path / "g.json").read_text())
    assert dn.load_genotype(NAME) == CELL
    assert asked == [NAME, "genotype.json"]


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("[]", None, "genotype.json: expected an object, got []"),
        ("{", None, "genotype.json: not JSON (line 1"),
        ("{}", 1 << 30, "expected a genotype.json of at most 1048576 bytes, got 1073741824"),
    ],
)
def test_what_is_no_genotype_is_refused(served, text, size, expected):
    served(text, size)
    with pytest.raises(ValueError, match="W&B artifact") as error:
        dn.load_genotype(NAME)
    assert f"W&B artifact {NAME}: {expected}" in str(error.value)


def test_what_wandb_raises_is_one_line(served, monkeypatch):
    def refuse():
        raise RuntimeError("no\nnetwork")

    served("")
    monkeypatch.setattr(wandb, "Api", refuse)
    with pytest.raises(ValueError, match=f"W&B artifact {NAME}: 'no network'"):
        dn.load_genotype(NAME)


def test_without_a_key_nobody_is_asked_for_one(monkeypatch):
    monkeypatch.setattr(wandb_artifact, "has_key", lambda: False)
    with pytest.raises(ValueError, match="no API key"):
        dn.load_genotype(NAME)


def test_a_file_of_that_form_is_read_as_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    CELL.to_json("cell:v1")
    assert dn.load_genotype("cell:v1") == CELL
