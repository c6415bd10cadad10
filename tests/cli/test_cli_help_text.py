"""The stored ``--help``: the same as the live one, without torch, and only with its versions."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

from darts_noise.cli import help_text, start

HEAVY = ("torch", "torchvision", "torchmetrics", "pytorch_lightning", "jsonargparse", "numpy")

# Runs a script and says on standard error which of the packages it has imported.
IMPORTED = f"""
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("script", help_text.SCRIPTS)
def test_it_is_what_the_parser_prints(script):
    stored = (help_text.FOLDER / f"{script}.txt").read_text("utf-8")
    again = "the options have changed: run `python -m darts_noise.cli.help_text`"
    assert stored == help_text.live_help(script), again


@pytest.mark.parametrize("script", help_text.SCRIPTS)
def test_no_line_is_wider_than_the_parser_promises(script, monkeypatch):
    from darts_noise.cli.parser import WIDTH

    monkeypatch.setenv("COLUMNS", "40")
    live = help_text.live_help(script)
    assert max(map(len, live.splitlines())) <= WIDTH
    monkeypatch.setenv("COLUMNS", "200")
    assert help_text.live_help(script) == live


@pytest.mark.parametrize("script", help_text.SCRIPTS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_it_is_printed_before_anything_heavy_is_imported(script, option):
    folder = help_text.FOLDER
    if json.loads((folder / "versions.json").read_text()) != help_text.installed():
        pytest.skip("made with other versions: run `python -m darts_noise.cli.help_text`")
    command = [sys.executable, "-c", IMPORTED, f"{script}.py", option]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert done.stdout == (folder / f"{script}.txt").read_text("utf-8")


def test_it_gives_way_to_other_versions_and_to_missing_files(monkeypatch, tmp_path):
    monkeypatch.setattr(help_text, "FOLDER", tmp_path)
    assert help_text.stored_help("search", "search.py") is None
    (tmp_path / "search.txt").write_text("text")
    assert help_text.stored_help("search", "search.py") is None
    versions = tmp_path / "versions.json"
    versions.write_text(json.dumps(help_text.installed()))
    assert help_text.stored_help("search", "search.py") == "text"
    versions.write_text(json.dumps({**help_text.installed(), "jsonargparse": "4.0"}))
    assert help_text.stored_help("search", "search.py") is None
    versions.write_text("{")
    assert help_text.stored_help("search", "search.py") is None


def test_its_usage_line_names_the_program_that_was_called(monkeypatch, capsys):
    if help_text.stored_help("search", "search.py") is None:
        pytest.skip("made with other versions: run `python -m darts_noise.cli.help_text`")
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/darts-noise", "search", "--help"])
    start.start("search", ["--help"])
    live = help_text.live_help("search")
    assert live.startswith("usage: search.py [")
    assert capsys.readouterr().out == live.replace("search.py [", "darts-noise search [", 1)


@pytest.mark.parametrize(
    ("argv", "stored"),
    [
        (["train.py", "--help"], None),  # of other versions
        (["train.py", "--seed", "1", "--help"], "stored"),
    ],
)
def test_otherwise_the_parser_answers(argv, stored, monkeypatch, capsys):
    monkeypatch.setattr(start, "stored_help", lambda *_: stored)
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as stop:
        start.start("train")
    assert not stop.value.code
    assert capsys.readouterr().out == help_text.live_help("train")
