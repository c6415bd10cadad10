"""Both scripts, stopped and resumed, equal an unbroken run, bit for bit."""

import errno
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import refused, search, train

import darts_noise as dn
from darts_noise.checkpoints.checkpoint_io import SealedCheckpointIO, resumable
from darts_noise.report.metrics_table import MetricsTable
from darts_noise.runs import train as train_runs
from darts_noise.runs.folder import has_ended
from darts_noise.runs.run import Run
from darts_noise.search.module import SearchModule
from darts_noise.train.module import TrainModule
from darts_noise.train.run_file import RunFile

FEW = [
    "--data.train_samples=48",
    "--data.batch_size=8",
    "--data.crop_padding=1",
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=2",
    "--wandb=off",
    "--model.channels=2",
]
SEARCH = [
    *FEW,
    "--model.space=nas_bench_201",
    "--model.nodes=1",
    "--model.num_cells=3",
    "--model.noise_samples=24",
    "--model.warmup_epochs=0",
    # A temperature that moves with the epoch, and random numbers in every step and in validation.
    "--model.variants={gdas: {}}",
    "--model.twin_restart=1",
]
TRAIN = [
    *FEW,
    "--model.genotype=darts_v1",
    "--model.num_cells=3",
    "--model.drop_path=0.3",
    "--model.ema_decay=0.5",
    "--model.mixup=0.2",
    "--trainer.accumulate_grad_batches=2",
    "--noise_check=false",
]
MAIN = {"search": (search, SEARCH), "train": (train, TRAIN)}


def run(kind: str, root: Path, *more: str) -> Path:
    main, settings = MAIN[kind]
    main([*settings, f"--runs={root}", "--name=r", *more])
    return root / kind / "r"


pytestmark = pytest.mark.usefixtures("no_drawings")


@pytest.fixture
def unbroken(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.getbasetemp() / "unbroken"
    folder = root / kind / "r"
    return folder if folder.exists() else run(kind, root)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def parts(run: Path) -> dict[str, Any]:
    """All that a checkpoint holds but the times and the names of folders."""
    held = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    del held["run_state"]["seconds"], held["callbacks"]
    held["hyper_parameters"].pop("genotype", None)
    return held


def assert_same(resumed: Path, unbroken: Path) -> None:
    assert (resumed / "metrics.csv").read_text() == (unbroken / "metrics.csv").read_text()
    a, b = parts(resumed), parts(unbroken)
    different = [key for key in a if not same(a[key], b.get(key))]
    assert (a.keys() == b.keys(), different) == (True, [])
    cards = [json.loads((folder / "card.json").read_text()) for folder in (resumed, unbroken)]
    for card in cards:
        card.pop("wall_time_s")
        card.pop("genotype")
    assert cards[0] == cards[1]
    best = [
        torch.load(r / "checkpoints" / "best.ckpt", weights_only=True) for r in (resumed, unbroken)
    ]
    assert same(best[0]["state_dict"], best[1]["state_dict"])


def at_call(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, number: int, act: Callable[[], Any]
) -> None:
    """Makes a method act as well, before its call of this number."""
    method, calls = getattr(owner, name), iter(range(10**6))

    def acting(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            act()
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, acting)


STOPS = [
    ("search", SearchModule, "_step_alpha", 1),
    ("search", SearchModule, "_step_weights", 3),
    ("search", SearchModule, "_step_twin", 4),
    ("search", SearchModule, "_step_weights", 2),  # the last batch of an epoch
    ("search", SearchModule, "validation_step", 0),
    ("search", MetricsTable, "log_metrics", 0),
    ("train", TrainModule, "training_step", 0),  # with gradients that wait for the next batch
    ("train", TrainModule, "training_step", 4),
    ("train", TrainModule, "validation_step", 0),
]


@pytest.mark.parametrize(("kind", "owner", "name", "number"), STOPS)
@pytest.mark.parametrize(
    ("sent", "status"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
    ids=["SIGTERM", "SIGINT"],
)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    kind: str,
    owner: type,
    name: str,
    number: int,
    sent: signal.Signals,
    status: int,
    unbroken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        at_call(patch, owner, name, number, lambda: signal.raise_signal(sent))
        with pytest.raises(SystemExit) as ended:
            run(kind, tmp_path)
    assert ended.value.code == status
    stopped = tmp_path / kind / "r"
    assert not (stopped / "card.json").exists()
    MAIN[kind][0](["--resume", f"--runs={tmp_path}"])
    assert_same(stopped, unbroken)


def test_a_learning_rate_that_changes_at_each_step_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With operations that draw random numbers in each step."""
    node = [[["random_dil_conv_3x3", 0], ["selu_conv_3x3", 1]]]
    dn.Genotype(node, [2], node, [2]).to_json(tmp_path / "drawing.json")
    own = ("--model.optimiser=adam", f"--model.genotype={tmp_path / 'drawing.json'}")
    unbroken = run("train", tmp_path / "unbroken", *own)
    with monkeypatch.context() as patch:
        at_call(patch, TrainModule, "training_step", 4, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(SystemExit):
            run("train", tmp_path, *own)
    train(["--resume", f"--runs={tmp_path}"])
    assert_same(tmp_path / "train" / "r", unbroken)


def test_an_adversarial_training_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("--adversarial.eps=0.1", "--adversarial.steps=2", "--model.mixup=0")
    short = partial(train_runs.AttackConfig, steps=2, starts=1, samples=20)
    monkeypatch.setattr(train_runs, "AttackConfig", short)
    unbroken = run("train", tmp_path / "unbroken", *own)
    card = json.loads((unbroken / "card.json").read_text())
    attacked = dn.attack(unbroken, attacks=("pgd",), eps=(0.1,), steps=2, starts=1, samples=20)
    assert card["robust_accuracy"] == attacked.accuracy()[-1]
    shown = f"Test accuracy under attack {100 * card['robust_accuracy']:.2f}%"
    assert shown in capsys.readouterr().out
    assert card["adversarial"] == "linf, eps 0.1 with pixels from 0 to 1, 2 steps"
    with monkeypatch.context() as patch:
        at_call(patch, TrainModule, "training_step", 4, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(SystemExit):
            run("train", tmp_path, *own)
    train(["--resume", f"--runs={tmp_path}"])
    assert_same(tmp_path / "train" / "r", unbroken)


def test_two_networks_that_teach_each_other_go_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With drop path in both, and the card of a training with wrong labels."""
    own = ("--data.wrong_labels=0.4", "--noisy_labels=co_teaching", "--model.mixup=0")
    unbroken = run("train", tmp_path / "unbroken", *own)
    with monkeypatch.context() as patch:
        at_call(patch, TrainModule, "training_step", 4, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(SystemExit):
            run("train", tmp_path, *own)
    train(["--resume", f"--runs={tmp_path}"])
    resumed = tmp_path / "train" / "r"
    assert_same(resumed, unbroken)
    card = json.loads((resumed / "card.json").read_text())
    assert card["wrong_labels"] == "40% of the training labels, symmetric"
    assert card["noisy_labels"] == "co_teaching"
    assert 0 < card["label_precision"] < 1
    best = TrainModule.load_from_checkpoint(resumed / "checkpoints" / "best.ckpt")
    figures = {"last": card["test_accuracy"], "best": card["best_test_accuracy"]}
    last = TrainModule.load_from_checkpoint(resumed / "checkpoints" / "last.ckpt")
    data = dn.ImageDataModule("digits", train_samples=48, seed=0)
    data.setup()
    for name, module in {"last": last, "best": best}.items():
        logits = module.eval()(data.normalisation(data.test.images))
        accuracy = (logits.argmax(1) == data.test.labels).float().mean().item()
        assert accuracy == pytest.approx(figures[name]), name
    bundle = dn.load_pretrained(resumed).state_dict()
    assert all(torch.equal(value, bundle[key]) for key, value in last.net.state_dict().items())
    assert "| That epoch |" in (resumed / "card.md").read_text()


@pytest.fixture
def any_algorithm_again() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.cuda
@pytest.mark.usefixtures("any_algorithm_again")
@pytest.mark.parametrize(
    ("kind", "owner", "name", "number"),
    [("search", SearchModule, "_step_weights", 3), ("train", TrainModule, "training_step", 4)],
)
def test_on_a_gpu_it_goes_on_to_the_same_bits_with_deterministic_algorithms(
    kind: str,
    owner: type,
    name: str,
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_a_gpu = ["--trainer.accelerator=gpu", "--trainer.devices=1", "--trainer.deterministic=true"]
    if kind == "search":  # of images in colour, with a filter whose border is mirrored
        on_a_gpu += ["--model.space=low_pass", "--data.grey=false"]
    unbroken = run(kind, tmp_path / "unbroken", *on_a_gpu)
    with monkeypatch.context() as patch:
        at_call(patch, owner, name, number, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(SystemExit):
            run(kind, tmp_path, *on_a_gpu)
    MAIN[kind][0](["--resume", f"--runs={tmp_path}"])
    assert_same(tmp_path / kind / "r", unbroken)


class KilledError(BaseException):
    """Stands for SIGKILL: nothing in the program answers it."""


def killed() -> None:
    raise KilledError


def killed_before_its_card(
    monkeypatch: pytest.MonkeyPatch, kind: str, root: Path, *more: str
) -> None:
    with monkeypatch.context() as patch:
        at_call(patch, Run, "close", 0, killed)
        with pytest.raises(KilledError):
            run(kind, root, *more)


@pytest.mark.parametrize(
    ("kind", "owner", "name", "number"),
    [
        ("search", SearchModule, "_step_weights", 1),  # before there is a checkpoint
        ("search", SearchModule, "_step_twin", 4),
        ("search", MetricsTable, "log_metrics", 0),  # the epoch is saved and not yet logged
        ("search", MetricsTable, "log_metrics", 1),
        ("search", Run, "close", 0),  # all is done but the card
        ("train", TrainModule, "training_step", 4),
        ("train", TrainModule, "test_step", 0),
        ("train", Run, "close", 0),
    ],
)
def test_a_run_that_was_killed_goes_on_to_the_same_bits(
    kind: str,
    owner: type,
    name: str,
    number: int,
    unbroken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        at_call(patch, owner, name, number, killed)
        with pytest.raises(KilledError):
            run(kind, tmp_path)
    MAIN[kind][0](["--resume", "r", f"--runs={tmp_path}"])
    assert_same(tmp_path / kind / "r", unbroken)


GRID = ["--noise_epochs=2", "--noise_grid.sgd_rates=[0.1, 0.01]"]
GRID += [
    "--noise_grid.adam_rates=[]",
    "--noise_grid.muon_rates=[]",
    "--noise_grid.seeds=1",
    "--noise_grid.scales=[1]",
]
NOISE = {
    "quick": ((TrainModule, "training_step", 7), []),  # 6 are of the training before it
    "converged": ((RunFile, "add", 1), [*GRID, "--noise_controls=[darts_v2]"]),
    "selectivity": ((RunFile, "add", 1), GRID),
}
"""Where each measurement is stopped, and its settings."""


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        timed = ("seconds", "wall_time_s", "genotype", "cell")
        return {k: without_seconds(v) for k, v in value.items() if k not in timed}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


@pytest.mark.slow
@pytest.mark.parametrize("protocol", NOISE)
@pytest.mark.parametrize("sent", [signal.SIGTERM, None], ids=["SIGTERM", "killed"])
def test_a_noise_measurement_that_was_stopped_goes_on_to_the_same_card(
    protocol: str, sent: signal.Signals | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, own = NOISE[protocol]
    settings = ["--noise_check=true", f"--noise_protocol={protocol}", "--noise_samples=16", *own]

    def act() -> None:
        if sent is None:
            raise KilledError
        signal.raise_signal(sent)

    unbroken = run("train", tmp_path / "unbroken", *settings)
    with monkeypatch.context() as patch:
        at_call(patch, *call, act)
        with pytest.raises(KilledError if sent is None else SystemExit):
            run("train", tmp_path, *settings)
    stopped = tmp_path / "train" / "r"
    assert not has_ended(stopped)
    train(["--resume", f"--runs={tmp_path}"])
    cards = [json.loads((r / "card.json").read_text()) for r in (stopped, unbroken)]
    assert without_seconds(cards[0]) == without_seconds(cards[1])
    assert cards[0]["noise"]["samples"] == 16


@pytest.mark.parametrize("kind", MAIN)
def test_a_run_that_was_moved_goes_on_to_the_same_bits(
    kind: str, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_call(patch, MetricsTable, "log_metrics", 1, killed)
        with pytest.raises(KilledError):
            run(kind, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    MAIN[kind][0](["--resume", f"--runs={tmp_path / 'there'}"])
    assert_same(tmp_path / "there" / kind / "r", unbroken)
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("kind", ["search"])
def test_a_damaged_checkpoint_costs_an_epoch_and_no_bit(
    kind: str,
    unbroken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    killed_before_its_card(monkeypatch, kind, tmp_path)
    last = tmp_path / kind / "r" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    search(["--resume", f"--runs={tmp_path}"])
    assert f"{last} is damaged" in capsys.readouterr().out
    assert_same(tmp_path / kind / "r", unbroken)


@pytest.mark.parametrize("kind", ["search"])
def test_a_damaged_history_costs_nothing(
    kind: str, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_call(patch, MetricsTable, "log_metrics", 1, killed)
        with pytest.raises(KilledError):
            run(kind, tmp_path)
    resumed = tmp_path / kind / "r"
    (resumed / "history.json").write_bytes(b"\xff")
    search(["--resume", f"--runs={tmp_path}"])
    assert_same(resumed, unbroken)
    for name in ("history.json", "alpha.json"):
        assert (resumed / name).read_text() == (unbroken / name).read_text(), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "settings",
            "config.yaml: expected the settings of .*last.ckpt; size",
        ),
        ("checkpoint", "error: the checkpoint is not of a search"),
    ],
)
def test_a_checkpoint_of_another_run_is_told_in_one_line(
    change: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    killed_before_its_card(monkeypatch, "search", tmp_path, "--trainer.max_epochs=1")
    folder = tmp_path / "search" / "r"
    config = folder / "config.yaml"
    if change == "settings":
        settings = config.read_text()
        assert "  channels: 2\n" in settings
        config.write_text(settings.replace("  channels: 2\n", "  channels: 4\n"))
    else:
        last = folder / "checkpoints" / "last.ckpt"
        content = torch.load(last, weights_only=True)
        del content["positions"]
        SealedCheckpointIO(last.parent).save_checkpoint(content, last)
    assert re.search(said, refused(search, ["--resume", f"--runs={tmp_path}"], capsys))


def test_without_its_folder_of_checkpoints_a_run_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_before_its_card(monkeypatch, "search", tmp_path, "--trainer.max_epochs=1")
    folder = tmp_path / "search" / "r"
    shutil.rmtree(folder / "checkpoints")
    search(["--resume", f"--runs={tmp_path}"])
    assert (folder / "card.json").is_file()
    assert (folder / "checkpoints" / "last.ckpt").is_file()


def test_without_a_whole_checkpoint_the_run_is_refused_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        at_call(patch, SearchModule, "_step_twin", 4, killed)
        with pytest.raises(KilledError):
            run("search", tmp_path)
    folder = tmp_path / "search" / "r"
    last = folder / "checkpoints" / "last.ckpt"
    for checkpoint in last.parent.iterdir():
        checkpoint.write_bytes(b"")
    before = sorted(path.name for path in folder.iterdir())
    error = refused(search, ["--resume", f"--runs={tmp_path}"], capsys)
    assert f"resume: {last} is damaged" in error
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_full_disk_ends_the_run_in_one_line_and_the_run_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        at_call(patch, SearchModule, "_step_twin", 4, lambda: patch.setattr(os, "fsync", full))
        error = refused(lambda _: run("search", tmp_path), [], capsys)
    folder = tmp_path / "search" / "r"
    assert str(folder) in error.partition(";")[0]
    assert "No space left on device" in error
    path, said = resumable(folder / "checkpoints")
    assert (path, said) == (folder / "checkpoints" / "last.ckpt", None)
    search(["--resume", f"--runs={tmp_path}"])
    assert (folder / "card.json").exists()


def test_a_training_killed_before_its_first_step_starts_when_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder has a config, which names the run's own copy of the cell."""

    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    cell = tmp_path / "cell.json"
    dn.load_genotype("darts_v1").to_json(cell)
    with monkeypatch.context() as patched:
        patched.setattr(train_runs, "_run", killed)
        with pytest.raises(Killed):
            run("train", tmp_path, f"--model.genotype={cell}")
    cell.unlink()
    train([f"--runs={tmp_path}", "--resume=r"])
    assert has_ended(tmp_path / "train" / "r")
