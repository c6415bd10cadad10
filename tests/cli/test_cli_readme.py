"""The programs accept every command in README and docs, and all links have a target."""

import importlib.util
import os
import re
import runpy
import shlex
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from darts_noise.cli.program import main

README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted({*DOCS.rglob("*.md")} - {*DOCS.glob("results/*/table.md")})]


def blocks(page, language):
    found = re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    return [text.replace("\\\n", "") for text in found]


SCRIPT = re.compile(
    r"(?:(?:python|torchrun(?: --\w+ \S+)+) +(?=\w+\.py)|darts-noise (?=search|train|study))"
    r"(\w+.*)"
)
COMMANDS = sorted(
    {command for page in PAGES for text in blocks(page, "bash") for command in SCRIPT.findall(text)}
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_accepted(command, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    script, *arguments = shlex.split(command)
    if {"--plugins", "--resume", "--model.init"} & {*arguments}:
        pytest.skip("needs a file or a run of the user's")
    main([script.removesuffix(".py"), *arguments, "--print_config"])
    assert capsys.readouterr().out.count(": ") > 30


MODULES = sorted(
    {name for page in PAGES for name in re.findall(r"python -m ([\w.]+)", page.read_text("utf-8"))}
)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_is_run_is_there(name):
    assert importlib.util.find_spec(name) is not None


def test_the_first_commands_are_the_two_that_do_all_the_set_up():
    bash = [text.strip() for text in blocks(README, "bash")]
    assert bash[0] == "pip install -e . && python search.py"
    assert "pip install -e '.[dev]' && pytest -n auto" in bash


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_files_it_names_are_there(page):
    text = page.read_text("utf-8")
    for path in re.findall(r"configs/[\w/]+\.yaml", text):
        assert (ROOT / path).is_file(), path
    for path in re.findall(r"(?:tests|darts_noise)/[\w/]+(?:\.py)?", text):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text):
        assert (page.parent / link).exists(), link


def run_alone(folder, *snippets):
    """In a process, so that what they register is in no other test's way."""
    (folder / "snippet.py").write_text("\n".join(snippets), "utf-8")
    done = subprocess.run(
        [sys.executable, "snippet.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_snippets_of_the_readme_run(tmp_path):
    """They register nothing, so they run in this process."""
    (tmp_path / "snippet.py").write_text("\n".join(blocks(README, "python")), "utf-8")
    found = runpy.run_path(tmp_path / "snippet.py")
    assert found["block"](torch.rand(2, 64, 9, 12)).shape == (2, 64, 9, 12)
    assert found["trained"](torch.rand(1, 1, 8, 8)).shape == (1, 10)
    assert found["net"](torch.rand(1, 3, 32, 32)).shape == (1, 10)


ELSEWHERE = {"not_learnt", "other_models"}
"""Pages whose snippets need data, below, or are looked at in tests/examples."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES[1:] if blocks(page, "python") and page.stem not in ELSEWHERE],
    ids=lambda page: page.stem,
)
def test_the_snippets_of_a_page_run(page, tmp_path):
    """Those that need no earlier run; with one epoch for many."""
    whole = [text for text in blocks(page, "python") if "runs/" not in text]
    assert whole
    run_alone(tmp_path, *(re.sub(r"max_epochs=\d+", "max_epochs=1", text) for text in whole))


def made_data(folder, images):
    """MNIST's four files and an image folder of CIFAR-10's form, of random pixels."""
    random = np.random.default_rng(0)
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for half, name in [("train", "train"), ("test", "t10k")]:
        pixels, labels = random.integers(0, 256, (images, 28, 28)), np.arange(images) % 10
        for kind, values in [("images-idx3", pixels), ("labels-idx1", labels)]:
            head = struct.pack(f">2H{values.ndim}I", 0, 0x0800 + values.ndim, *values.shape)
            (raw / f"{name}-{kind}-ubyte").write_bytes(head + values.astype("u1").tobytes())
        for number, label in enumerate(labels):
            file = folder / "cifar10" / half / f"class{label}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (32, 32, 3), "u1")).save(file)


@pytest.mark.slow
def test_the_snippet_of_what_must_not_be_learnt_runs(tmp_path):
    made_data(tmp_path / "data", 640)
    [snippet] = blocks(ROOT / "docs" / "not_learnt.md", "python")
    shorter = {"train_samples=4000": "train_samples=640", "noise_samples=900": "noise_samples=96"}
    shorter |= {"max_epochs=8": "max_epochs=1", "recipe=recipe)": "recipe=recipe, epochs=1)"}
    for long, short in shorter.items():
        assert snippet.count(long) == 1
        snippet = snippet.replace(long, short)
    run_alone(tmp_path, snippet)
