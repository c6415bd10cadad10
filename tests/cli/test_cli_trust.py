"""No file runs code: a class that a file names is not imported unless its package is trusted."""

import sys
from pathlib import Path

import pytest
import yaml
from conftest import SMALL_SEARCH, SMALL_TRAIN, refused, search, train

from darts_noise.cli.program import main
from darts_noise.errors import SettingError
from darts_noise.runs.settings import TrainerConfig
from darts_noise.runs.trainer import make_trainer

POPEN = "lightning_fabric.strategies.launchers.subprocess_script.subprocess.Popen"
"""A name below a package of Lightning, and not of Lightning."""
EVIL = {"class_path": "theirs.Evil"}
OF_THE_TRAINER = [
    {"callbacks": [EVIL]},
    {"callbacks": EVIL},
    {"callbacks": "theirs.Evil"},
    {"callbacks": ["theirs.Evil"]},
    {"callbacks": "{class_path: theirs.Evil}"},
    {"callbacks": ["{class_path: theirs.Evil}"]},
    {"callbacks": '"{class_path: theirs.Evil}"'},
    {"logger": {"class_path": "theirs.deeper.Evil", "init_args": {"a": 1}}},
    {"logger": [{"class_path": "CSVLogger", "init_args": {"save_dir": ".", "name": EVIL}}]},
    {"plugins": ["theirs.Evil"], "strategy": "ddp"},
    {"profiler": "theirs.Evil"},
    {"profiler": "{class_path: theirs.Evil}"},
    {"accelerator": EVIL},
    {"strategy": EVIL},
    {"strategy": {"class_path": "DDPStrategy", "init_args": {"ddp_comm_state": EVIL}}},
    {"callbacks": [{"class_path": "LambdaCallback", "init_args": {"on_fit_start": "theirs.evil"}}]},
    {"callbacks": [{"class_path": "LambdaCallback", "init_args": "{on_fit_start: theirs.evil}"}]},
    {"devices": EVIL},
    {"max_time": EVIL},
    {"precision": EVIL},
    {"default_root_dir": EVIL},
    {"callbacks+": ["theirs.Evil"]},
]
ELSEWHERE = [
    {"trainer.callbacks": ["theirs.Evil"]},
    {"model": {"noise_family": EVIL}},
    {"model": {"noise_family": {"uniform": EVIL}}},
    {"model": {"penalty": {"twin": EVIL}}},
    {"model": {"variants": {"gdas": EVIL}}},
    {"data": {"root": EVIL}},
    {"data": EVIL},
    EVIL,
]


@pytest.fixture(autouse=True)
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that ends the program when it is imported."""
    (tmp_path / "theirs.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def written(folder: Path, content: object, name: str = "c.yaml") -> Path:
    (folder / name).write_text(yaml.safe_dump(content))
    return folder / name


@pytest.mark.parametrize(
    "content", [*({"trainer": t} for t in OF_THE_TRAINER), *ELSEWHERE], ids=str
)
def test_what_a_config_names_is_refused_and_not_imported(content, tmp_path, capsys):
    runs = tmp_path / "runs"
    config = written(tmp_path, content)
    few = [option for option in SMALL_SEARCH if not option.startswith("--trainer.")]
    refused(search, [f"--config={config}", *few, f"--runs={runs}"], capsys)
    assert "theirs" not in sys.modules
    assert not runs.exists()


@pytest.mark.parametrize(
    "given",
    [
        ["--config", "{config}"],
        ["--config={config}"],
        ["-c", "{config}"],
        ["-c{config}"],
        ["-c={config}"],
        ["--config=mnist", "-c{config}"],
        ["--config={config}", "--config={plain}"],
        ["--trainer", "{trainer}"],
        ["--trainer={trainer}"],
        ["--trainer.callbacks", "{callbacks}"],
        ["--trainer.callbacks={callbacks}"],
        ["--trainer.callbacks=[{callbacks}]"],
        ["--trainer.callbacks+={callbacks}"],
        ["--model", "{config}"],
        ["--trainer.logger={callback}"],
        ["--trainer.strategy", "{callback}"],
        ["--trainer.profiler", "{callback}"],
        ["--trainer.plugins=[{callback}]"],
    ],
    ids=" ".join,
)
def test_whatever_form_of_option_names_the_file(given, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {
        "config": {"trainer": {"callbacks": [EVIL]}},
        "trainer": {"callbacks": [EVIL]},
        "callbacks": [EVIL],
        "callback": EVIL,
        "plain": {"data": {"name": "digits"}},
    }
    named = {name: written(tmp_path, content, f"{name}.yaml") for name, content in files.items()}
    argv = [text.format(**named) for text in given]
    runs = f"--runs={tmp_path / 'runs'}"
    refused(search, [*argv, *SMALL_SEARCH, runs], capsys)
    refused(train, [*argv, *SMALL_TRAIN, "--model.genotype=darts_v1", runs], capsys)
    assert "theirs" not in sys.modules
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("place", ["search", "train"])
def test_a_study_names_none_either(place, tmp_path, capsys):
    content = {place: {"config": "digits", "trainer": {"callbacks": [EVIL]}}, "seeds": 1}
    argv = ["study", str(written(tmp_path, content)), f"--runs={tmp_path / 'runs'}"]
    error = refused(lambda _: main(argv), [], capsys)
    assert "trainer" in error
    assert "theirs" not in sys.modules


def test_a_run_that_goes_on_trusts_no_more_than_a_new_one(tmp_path, capsys):
    run = tmp_path / "search" / "a"
    (run / "checkpoints").mkdir(parents=True)
    written(run, {"trainer": {"callbacks": [EVIL]}}, "config.yaml")
    assert "--trust theirs" in refused(search, ["--resume", f"--runs={tmp_path}"], capsys)
    assert "theirs" not in sys.modules


def test_the_message_names_the_key_and_says_how_to_allow_it(tmp_path, capsys):
    config = written(tmp_path, {"trainer": {"callbacks": [EVIL]}})
    error = refused(search, [f"--config={config}", *SMALL_SEARCH, f"--runs={tmp_path}"], capsys)
    assert "trainer.callbacks: " in error
    assert "'theirs.Evil'" in error
    assert "--trust theirs" in error


def test_an_option_beside_the_trainers_trusts_nobody(tmp_path, capsys):
    config = written(tmp_path, {"trainer": {"callbacks": [EVIL]}})
    named = ["--wandb_project=theirs.a", "--name=theirs.a", f"--config={config}", *SMALL_SEARCH]
    assert "--trust theirs" in refused(search, [*named, f"--runs={tmp_path / 'runs'}"], capsys)


@pytest.mark.parametrize(
    "given",
    [
        ["--config={config}", "--trust", "mine,theirs"],
        ["--trust=theirs", "-c{config}"],
        ["--trainer.callbacks=[theirs.Evil]"],
        ["--trainer.callbacks={{class_path: theirs.Evil}}"],
    ],
    ids=" ".join,
)
def test_the_user_may_trust_a_package(given, tmp_path):
    config = written(tmp_path, {"trainer": {"callbacks": [EVIL]}})
    argv = [text.format(config=config) for text in given]
    with pytest.raises(SystemExit, match="imported"):
        search([*argv, *SMALL_SEARCH, f"--runs={tmp_path / 'runs'}"])


@pytest.mark.parametrize("trusted", [[], ["theirs"]])
@pytest.mark.parametrize(
    "stated",
    [
        {"callbacks": [{"class_path": POPEN, "init_args": {"args": "true"}}]},
        {"callbacks": [{"class_path": "LambdaCallback", "init_args": {"on_fit_start": POPEN}}]},
        {
            "strategy": {
                "class_path": "pytorch_lightning.strategies.DDPStrategy",
                "init_args": {"ddp_comm_state": {"class_path": "Timer"}},
            }
        },
        {"callbacks": [{"class_path": "builtins.exec"}]},
    ],
    ids=str,
)
def test_what_counts_is_where_a_class_is_defined_and_not_how_it_is_reached(stated, trusted):
    [key] = stated
    with pytest.raises(SettingError) as refusal:
        make_trainer(TrainerConfig(accelerator="cpu", **stated), trusted)
    assert refusal.value.key == f"trainer.{key}"


def test_lightnings_classes_and_plain_words_need_no_trust(tmp_path, capsys, no_drawings):
    """And they are in the run's own config, with which it goes on."""
    stop = {"monitor": "val/accuracy", "patience": 9}
    stated = {
        "callbacks": [
            {"class_path": "pytorch_lightning.callbacks.EarlyStopping", "init_args": stop},
            {"class_path": "Timer", "init_args": {"duration": "00:01:00:05"}},
        ],
        "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": str(tmp_path / "my.logs")}},
        "max_epochs": 1,
    }
    config = written(tmp_path, {"trainer": stated})
    own = ["--trainer.max_epochs=1", "--wandb=off", "--name=a", f"--runs={tmp_path}"]
    search([f"--config={config}", *SMALL_SEARCH, *own])
    assert list((tmp_path / "my.logs").rglob("metrics.csv"))
    run = tmp_path / "search" / "a"
    trainer = yaml.safe_load((run / "config.yaml").read_text())["trainer"]
    assert {key: trainer[key] for key in stated} == stated
