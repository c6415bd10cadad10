"""Shipped configs are found by name, from any folder, and never in place of a user's file."""

from pathlib import Path

import pytest
import yaml
from conftest import ROOT, search, train
from darts_noise.cli.shipped_configs import CONFIGS, list_configs, shipped_config

KINDS = ("search", "train", "study", "variants", "penalties")


def test_they_are_the_files_of_the_checkout():
    assert CONFIGS.resolve() == ROOT / "configs"


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_found_by_its_name(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = list_configs(kind)
    assert names
    for name in names:
        found = shipped_config(name, kind)
        assert yaml.safe_load(Path(found).read_text("utf-8"))
        assert found == shipped_config(found, kind)


def test_a_file_of_the_user_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    assert shipped_config("mnist", "search") == str(CONFIGS / "search" / "mnist.yaml")
    (tmp_path / "digits").write_text("seed: 1\n")
    assert shipped_config("digits", "search") == "digits"


@pytest.mark.parametrize("named", ["mine.yaml", "a/b/c", "../search/mnist", "seed: 1", "{}"])
def test_a_path_or_a_text_is_left_to_the_parser(named):
    assert shipped_config(named, "search") == named


@pytest.mark.parametrize("named", ["mnst", "variants/no", "imagenet"])
def test_another_name_is_refused_with_those_there_are(named):
    with pytest.raises(ValueError, match=r"one of cifar10, digits, mnist, .*penalties/gram"):
        shipped_config(named, "search")


@pytest.mark.parametrize(
    ("main", "argv"),
    [
        (search.main, ["--config", "mnist", "--config=variants/gdas"]),
        (search.main, ["-c", "search/mnist", "--config", "variants/gdas"]),
        (train.main, ["--config=mnist"]),
    ],
)
def test_the_command_line_takes_names(main, argv, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main([*argv, "--print_config"])
    assert stop.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["data"]["name"] == "mnist"
    assert list(config["model"].get("variants") or {}) == ["gdas"] * (main is search.main)
