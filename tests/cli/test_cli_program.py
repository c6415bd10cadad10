"""``darts-noise``, ``search.py`` and ``train.py``: their commands, names, messages and Ctrl-C."""

import os
import signal
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT, refused

from darts_noise.cli import commands
from darts_noise.cli.program import COMMANDS, called, main

HEAVY = ("torch", "torchvision", "torchmetrics", "pytorch_lightning", "numpy", "optuna", "wandb")

# Runs the program, and says on standard error which heavy packages it has imported.
IMPORTED = f"""
import sys
from contextlib import suppress
from darts_noise.cli.program import main
sys.argv[0] = "darts-noise"
try:
    main()
finally:
    print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""


def alone(*argv: str, code: str = IMPORTED, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        # A shell that runs the tests in the background has its children ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_a_command_gets_the_arguments_behind_it(monkeypatch):
    met = []
    for name in COMMANDS:
        command = lambda argv, name=name: met.append((name, argv))  # noqa: E731
        monkeypatch.setitem(commands.COMMANDS, name, command)
    for name in COMMANDS:
        main([name, "--seed", "1"])
    assert met == [(name, ["--seed", "1"]) for name in COMMANDS]
    monkeypatch.setattr(sys, "argv", ["darts-noise", "train", "a"])
    main()
    assert met[-1] == ("train", ["a"])


@pytest.mark.parametrize("argv", [["serach"], [], ["--seed", "1"]])
def test_any_other_is_one_line_that_names_those_there_are(argv, capsys):
    error = refused(main, argv, capsys)
    assert ", ".join(COMMANDS) in error
    assert ("'search'?" in error) == (argv == ["serach"])


def test_its_help_names_every_command_and_its_version_is_that_of_the_project(capsys):
    main(["--help"])
    printed = capsys.readouterr().out
    named = [line.split()[0] for line in printed.splitlines() if line.startswith("  ")]
    assert named == list(COMMANDS) == list(commands.COMMANDS)
    for argv in (["--version"], ["search", "--version"]):
        main(argv)
        assert f'version = "{capsys.readouterr().out.split()[1]}"' in (
            ROOT / "pyproject.toml"
        ).read_text("utf-8")


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["--help"], 0),
        (["search", "--help"], 0),
        (["train", "--config", "mnist", "-h"], 0),
        (["search", "--config", "mnist", "--print_config"], 0),
        (["report", "--help"], 0),
        (["bundle", "--help"], 0),
        (["serach"], 2),
        (["search", "--model.chanels=3"], 2),
        (["search", "--model.learning_rate=-1"], 2),
        (["train", "--noise_protocol=convergd"], 2),
        (["report", "--no_such_option"], 2),
    ],
)
def test_help_and_a_typo_do_not_wait_for_torch(argv, status):
    done = alone(*argv)
    *said, imported = done.stderr.splitlines()
    assert (done.returncode, imported) == (status, "[]"), done.stderr
    assert len(said) == (status == 2)
    if "-h" in argv or "--help" in argv:
        command = [name for name in argv if name in COMMANDS]
        assert done.stdout.startswith(" ".join(["usage: darts-noise", *command]))


VALUES = [
    "search --model.space=drats",
    "search --model.variants={gdsa: null}",
    "search --trainer.accumulate_grad_batches=2",
    "search --data.name=image_folder --data.root=nowhere",
    "search --data.root=photos",
    "search --trainer.accelerator=gpus",
    "train --model.genotype=dats_v2",
    "train --model.genotype=darts_v1/genotype.json",
    "train --model.init=nowhere",
    "train --model.genotype=darts_v1 --trainer.precision=b16",
    "train --model.genotype=darts_v1 --trainer.gradient_clip_algorithm=nrom",
    "train --model.genotype=darts_v1 --noise_family=unifrm",
    "report nowhere",
    "bundle nowhere x",
    "predict nowhere x.png",
    "predict digits nowhere.png",
    "study digits --search.model.space=drats",
    "study digits --noise_family=unifrom",
    "study digits --unseen_families=[blur,unifrom]",
    "attack nowhere",
    "certify nowhere",
    "ensemble trian",
    "ensemble train --members=1 --model.genotype=darts_v1",
    "ensemble evaluate digits nowhere",
    "ensemble evaluate digits mnist",
    "ensemble evaluate digits",
    "search --trainer.devices=tow",
    "search --trainer.logger=foo.Bar",
    "train --model.genotype=darts_v1 --trainer.strategy=dpp",
    "certify digits --samples=0",
    "search --model.nodes=0",
    "examine digits --only=capcity",
    "examine digits --set=capcity.most=3",
]
NESTED = [
    ["search", "--strategy={random: {rungs: 0}}"],
    ["search", "--model.penalty={gram: {samples: 2.5}}"],
    ["search", "--model.variants={gdas: {temperatur: 1}}"],
    ["search", "--model.objectives={adversarial: {eps: 8}}"],
    ["search", "--model.noise_family={uniform: -1}"],
    ["train", "--model.genotype=darts_v1", "--noisy_labels={small_loss: {forget_rate: 1}}"],
    ["train", "--model.genotype=darts_v1", "--noise_family={uniform: -1}"],
    ["study", "digits", "--unseen_families=[{uniform: -1}]"],
    ["study", "digits", "--search.model.penalty={gram: {samples: 2.5}}"],
    ["study", "digits", "--train.model.noisy_labels={small_loss: {forget_rate: 1}}"],
    ["examine", "digits", "--set=capacity.samplez=3"],
    ["examine", "digits", "--set=capacity.share=3"],
]
"""Settings that classes check, which need torch: one second instead of four."""


@pytest.mark.parametrize(
    "line",
    [
        "attack nowhere --output=taken/x.json",
        "certify nowhere --output=taken/x.json",
        "ensemble evaluate nowhere --output=taken/x",
        "ensemble evaluate nowhere nowhere --output=taken",
        "report nowhere --output=taken",
        "report nowhere --output=taken/x.html",
        "bundle nowhere taken",
        "bundle nowhere train/taken",  # a folder with a file
        "train --model.genotype=nowhere --name=taken --runs=.",
    ],
)
def test_a_wrong_target_is_told_before_anything_is_read(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("mine")
    Path("train/taken").mkdir(parents=True)
    Path("train/taken/config.json").write_text("mine")
    message = refused(main, line.split(), capsys)
    assert "taken" in message
    assert "nowhere" not in message
    assert Path("taken").read_text() == Path("train/taken/config.json").read_text() == "mine"


def test_a_bad_value_does_not_wait_for_torch(tmp_path):
    plugin = tmp_path / "own.py"
    plugin.write_text("import darts_noise as dn\ndn.register_space('own', ['conv_3x3'], 1)\n")
    own = f"search --plugins={plugin} --model.space=own --trainer.accumulate_grad_batches=2"
    done = refused_alone([line.split() for line in [*VALUES, own]], HEAVY)
    assert "accumulate_grad_batches" in done.stderr.splitlines()[-1]  # the space is known


def test_a_bad_value_of_a_nested_setting_does_not_wait_for_torchvision_and_lightning():
    refused_alone(NESTED, ("torchvision", "torchmetrics", "pytorch_lightning", "scipy"))


def refused_alone(commands, heavy):
    """Run commands that are refused in one process, as each would import the parser anew."""
    code = f"""
import sys
from contextlib import suppress
from darts_noise.cli.program import main
for command in {commands}:
    with suppress(SystemExit):
        main(command)
    print([name for name in {heavy} if name in sys.modules])
"""
    done = alone(code=code)
    assert done.stdout.splitlines() == ["[]"] * len(commands), done.stderr
    assert done.stderr.count(": error: ") == done.stderr.count("\n") == len(commands)
    return done


@pytest.mark.parametrize("name", ["report", "bundle", "study"])
def test_each_of_the_other_commands_explains_itself_and_refuses_in_one_line(
    name, capsys, monkeypatch
):
    monkeypatch.setattr(sys, "argv", ["darts-noise", name])
    with suppress(SystemExit):  # argparse ends the program itself
        main([name, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: darts-noise {name} ")
    error = refused(main, [name, "--no_such_option", "1"], capsys)
    assert error.startswith(f"darts-noise {name}: error: ")


@pytest.mark.parametrize(
    ("argv", "name", "train"),
    [
        (["search.py", "--seed", "1"], "search.py", "python train.py"),
        (["/a/search.py"], "search.py", "python train.py"),
        (["/bin/darts-noise", "search", "--seed"], "darts-noise search", "darts-noise train"),
        (["C:/darts-noise.exe", "search"], "darts-noise search", "darts-noise train"),
        (["/lib/darts_noise/__main__.py", "search"], "darts-noise search", "darts-noise train"),
        ([""], "darts_noise", "python train.py"),
    ],
)
def test_messages_name_the_program_as_it_was_called(argv, name, train, monkeypatch):
    monkeypatch.setattr(sys, "argv", argv)
    assert called() == name
    assert called("train") == train


# Stands in for torch: the Ctrl-C comes during its import, which reports it as a failure of its own.
INTERRUPTED = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    raise ImportError("torch is broken")
"""


@pytest.mark.parametrize("script", ["search.py", "train.py"])
def test_ctrl_c_during_the_imports_ends_quietly(script, tmp_path):
    (tmp_path / "torch.py").write_text(INTERRUPTED)
    code = (
        f"import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path({script!r}, {{}}, '__main__')"
    )
    argv = [script, "--model.genotype=darts_v1"] if script == "train.py" else [script]
    done = alone(*argv, code=code, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.default_int_handler])
def test_a_command_gets_the_handler_that_it_was_started_with(handler, monkeypatch):
    met = []

    def command(argv):
        from darts_noise.cli.program import ready

        ready()
        met.append(signal.getsignal(signal.SIGINT))
        raise KeyboardInterrupt  # before there is a run

    monkeypatch.setitem(commands.COMMANDS, "search", command)
    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(SystemExit) as stop:
            main(["search"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert met == [handler]
    assert stop.value.code == 130
    assert stop.value.__suppress_context__


def test_a_warning_is_one_line(monkeypatch):
    def command(argv):
        from darts_noise.cli.program import ready

        ready()

    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setitem(commands.COMMANDS, "search", command)
    main(["search"])
    shown = warnings.formatwarning(UserWarning("one\nand two"), UserWarning, "file.py", 3)
    assert shown == "warning: one and two\n"
