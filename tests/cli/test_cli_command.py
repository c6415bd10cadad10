"""``darts-noise``: each command is the function that the scripts and modules call, and is quick."""

import subprocess
import sys

import pytest
from conftest import ROOT

from darts_noise.cli import command


@pytest.fixture
def called(monkeypatch):
    """What `command.main` hands on for these arguments: a module or a script, and its arguments."""
    met = []
    monkeypatch.setattr(command, "start", lambda *given: met.append(given))
    monkeypatch.setattr(command, "run", lambda *given: met.append(given))

    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["darts-noise", *argv])
        command.main()
        return met.pop()

    return call


def test_a_command_gets_the_arguments_behind_it(called):
    assert called("search", "--seed", "1") == ("search", ["--seed", "1"])
    assert called("train") == ("train", [])
    assert called("study", "digits") == ("darts_noise.study.command", ["digits"])
    assert called("report", "a", "b") == ("darts_noise.report.__main__", ["a", "b"])
    assert called("bundle", "a", "b") == ("darts_noise.pretrained.__main__", ["a", "b"])


@pytest.mark.parametrize("argv", [["serach"], [], ["--seed", "1"]])
def test_any_other_is_one_line_that_names_those_there_are(argv, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["darts-noise", *argv])
    with pytest.raises(SystemExit) as stop:
        command.main()
    error = capsys.readouterr().err
    assert (stop.value.code, error.count("\n")) == (2, 1)
    assert "search, train, study, report, bundle" in error
    assert ("did you mean 'search'?" in error) == (argv == ["serach"])


def test_its_help_names_every_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["darts-noise", "--help"])
    command.main()
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines() if line.startswith("  ")] == [
        *command.COMMANDS
    ]


@pytest.mark.parametrize("argv", [["--help"], ["search", "--help"], ["train", "--help"]])
def test_help_does_not_wait_for_torch(argv):
    code = (
        "import runpy, sys; sys.argv[0] = 'darts-noise'\n"
        "runpy.run_module('darts_noise', run_name='__main__')\n"
        "assert 'torch' not in sys.modules and 'yaml' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"usage: darts-noise")


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_explains_itself_by_its_own_name(name):
    """In a process, so that the module of each is found and its ``main`` takes the arguments."""
    done = subprocess.run(
        [sys.executable, "-m", "darts_noise", name, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: darts-noise {name} [")


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_refuses_in_one_line(name):
    done = subprocess.run(
        [sys.executable, "-m", "darts_noise", name, "--no_such_option", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"darts-noise {name}: error: ")
