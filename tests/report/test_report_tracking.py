"""Tracking: its mode, the files of an offline run, and that W&B never stops a run."""

import json
import os
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from conftest import inspected_summary

from darts_noise.report import tracking
from darts_noise.report.tracking import (
    MODES,
    finish,
    log_artifact,
    log_images,
    log_summary,
    log_tables,
    require_mode,
    resolve_mode,
    set_axis,
    start_tracking,
    use_artifact,
)
from darts_noise.wandb_key import has_key

ROOT = Path(__file__).parents[2]
KEY = "0" * 40


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment in which W&B finds neither a key nor settings."""
    for name in [n for n in os.environ if n.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return monkeypatch


def give_key(monkeypatch: pytest.MonkeyPatch, place: str, folder: Path) -> None:
    if place == "environment":
        monkeypatch.setenv("WANDB_API_KEY", KEY)
    if place == "token":
        monkeypatch.setenv("WANDB_IDENTITY_TOKEN_FILE", str(folder / "token"))
    if place.startswith("netrc"):
        host = {"netrc": "api.wandb.ai", "netrc of another host": "example.org"}.get(place)
        host = host or "api.wandb.ai"
        key = '""' if place == "netrc with an empty key" else KEY
        text = "machine" if place == "netrc broken" else f"machine {host} login user password {key}"
        file = folder / ("elsewhere" if place == "netrc elsewhere" else "home/.netrc")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text + "\n")
        file.chmod(0o600)
        if place == "netrc elsewhere":
            monkeypatch.setenv("NETRC", str(file))


KEYS = {
    "none": False,
    "environment": True,
    "token": True,
    "netrc": True,
    "netrc elsewhere": True,
    "netrc of another host": False,
    "netrc with an empty key": False,
    "netrc broken": False,
}


@pytest.mark.parametrize(("place", "found"), KEYS.items())
def test_key_is_found_where_wandb_looks(
    clean: pytest.MonkeyPatch, tmp_path: Path, place: str, found: bool
) -> None:
    give_key(clean, place, tmp_path)
    assert has_key() is found


def test_key_is_that_of_the_server_in_use(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    give_key(clean, "netrc of another host", tmp_path)
    clean.setenv("WANDB_BASE_URL", "https://example.org/wandb")
    assert has_key()
    give_key(clean, "netrc", tmp_path)
    assert not has_key()


def test_key_is_that_of_the_server_that_a_login_has_written_down(
    clean: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    give_key(clean, "netrc of another host", tmp_path)
    file = tmp_path / "home" / ".config" / "wandb" / "settings"
    file.parent.mkdir(parents=True)
    for text, found in (
        ("[default]\nbase_url = https://example.org\n", True),
        ("[default]\nentity = me\n", False),
        ("no settings", False),
    ):
        file.write_text(text)
        assert has_key() is found
    clean.setenv("WANDB_CONFIG_DIR", str(tmp_path / "elsewhere"))
    file.parent.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "settings").write_text("[default]\nbase_url = https://example.org\n")
    assert has_key()


# WANDB_MODE → what "auto" becomes without a key, and with one.
AUTO = {
    None: ("offline", "online"),
    "": ("offline", "online"),
    "online": ("offline", "online"),
    "run": ("offline", "online"),
    "shared": ("offline", "online"),
    "offline": ("offline", "offline"),
    "dryrun": ("offline", "offline"),
    "OFFLINE": ("offline", "offline"),
    "disabled": ("off", "off"),
    "off": ("off", "off"),
    "no such mode": ("offline", "online"),
}
ASKED = {"online": ("offline", "online"), "offline": ("offline",) * 2, "off": ("off",) * 2}


@pytest.mark.parametrize("environment", AUTO, ids=str)
@pytest.mark.parametrize("place", ["none", "environment", "netrc"])
@pytest.mark.parametrize("flag", MODES)
def test_mode(
    clean: pytest.MonkeyPatch, tmp_path: Path, flag: str, environment: str | None, place: str
) -> None:
    if environment is not None:
        clean.setenv("WANDB_MODE", environment)
    give_key(clean, place, tmp_path)
    wanted = AUTO[environment] if flag == "auto" else ASKED[flag]
    mode, why = resolve_mode(flag)
    assert mode == wanted[KEYS[place]]
    assert mode in why
    assert "\n" not in why
    if flag == "online" and mode == "offline":
        assert "no API key" in why


@pytest.mark.parametrize("mode", ["onlin", "disabled", "", "Online"])
def test_mode_that_is_none_lists_the_valid_ones(tmp_path: Path, mode: str) -> None:
    for check in (
        lambda: require_mode(mode),
        lambda: resolve_mode(mode),
        lambda: start_tracking(tmp_path, kind="search", mode=mode, project="p", config={}),
    ):
        with pytest.raises(ValueError, match=r"wandb.*valid: auto, off, offline, online"):
            check()
    for valid in MODES:
        require_mode(valid)


class FakeInit:
    """Stands for ``wandb.init``; raises in the modes named, and keeps what it was asked."""

    def __init__(self, error: Exception, *failing: str) -> None:
        self.error, self.failing = error, failing
        self.asked: list[dict[str, Any]] = []

    def __call__(self, **settings: Any) -> SimpleNamespace:
        self.asked.append(settings)
        if settings["mode"] in self.failing:
            raise self.error
        return SimpleNamespace(
            name="fake",
            id=settings["id"] or f"id{len(self.asked)}",
            define_metric=lambda *_, **__: None,
        )


ERRORS = [
    wandb.errors.CommError("server\n is   away " + "x" * 300),
    wandb.errors.UsageError("api_key not configured"),
    OSError("disc full"),
    ValueError(""),
    RuntimeError("service is gone"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_failure_falls_back_to_offline_and_then_to_nothing(
    clean: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    clean.setenv("WANDB_API_KEY", KEY)
    clean.setattr(wandb, "setup", lambda settings: None)
    before = dict(os.environ)
    for failing, told in ((("online",), "tracked offline"), (("online", "offline"), "not tracked")):
        init = FakeInit(error, *failing)
        clean.setattr(wandb, "init", init)
        logger, message = start_tracking(
            tmp_path / "r", kind="search", mode="online", project="p", config={"seed": 1}
        )
        assert (logger is None) == (told == "not tracked")
        assert [settings["mode"] for settings in init.asked] == ["online", "offline"]
        assert message.endswith(f"; {told}")
        assert "W&B: online failed (" in message
        assert (" ".join(str(error).split())[:60] or type(error).__name__) in message
        assert "\n" not in message
        assert len(message) < 400
    assert dict(os.environ) == before
    assert init.asked[0]["config"] == {"seed": 1}
    assert init.asked[0]["dir"] == str(tmp_path / "r")


def test_a_run_that_goes_on_continues_its_tracked_run(
    clean: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clean.setenv("WANDB_API_KEY", KEY)
    clean.setattr(wandb, "setup", lambda settings: None)
    init = FakeInit(ValueError())
    clean.setattr(wandb, "init", init)
    for run in ("a", "b", "a"):
        start_tracking(tmp_path / run, kind="search", mode="online", project="p", config={})
    assert [settings["id"] for settings in init.asked] == [None, None, "id1"]
    assert init.asked[2]["resume"] == "allow"


def test_a_run_that_the_caller_has_begun_is_left_alone(
    clean: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in a notebook, or in a function that a sweep calls."""
    clean.setenv("WANDB_SILENT", "true")
    with wandb.init(mode="offline", dir=str(tmp_path), project="theirs") as theirs:
        logger, _ = start_tracking(
            tmp_path / "r", kind="search", mode="offline", project="ours", config={"seed": 1}
        )
        assert logger is not None
        own: Any = logger.experiment
        assert (own.project, own.config["seed"]) == ("ours", 1)
        assert own.id != theirs.id
        finish(logger)
        assert wandb.run is theirs
        theirs.log({"still": 1})
        assert theirs.config.as_dict() == {}


def test_a_run_that_failed_is_failed_in_wandb_too() -> None:
    ended = []
    logger: Any = SimpleNamespace(experiment=SimpleNamespace(finish=ended.append))
    finish(logger)
    finish(logger, status=143)
    assert ended == [0, 143]


def test_failure_before_the_run_is_no_crash_either(
    clean: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(settings: Any) -> None:
        raise ValueError("WANDB_MODE: Input should be 'online' ...")

    clean.setattr(wandb, "setup", fail)
    logger, message = start_tracking(tmp_path, kind="train", mode="auto", project="p", config={})
    assert logger is None
    assert message.startswith("W&B: offline failed (WANDB_MODE")
    assert message.endswith("; not tracked")


def send_everything(logger: Any) -> None:
    set_axis(logger, "search/step", ["train/loss"])
    log_images(logger, {"cells": Path(__file__)})
    log_tables(logger, {"alpha": (["edge"], [["0→1"]])})
    log_summary(logger, {"x": 1})
    log_artifact(logger, "a", "cell", [Path(__file__)])
    use_artifact(logger, "a", "cell", [Path(__file__)])
    finish(logger)


def test_off_touches_nothing(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("setup", "init"):
        clean.setattr(wandb, name, lambda *_, **__: pytest.fail("W&B was called"))
    answer = start_tracking(tmp_path, kind="search", mode="off", project="p", config={})
    assert answer == (None, "W&B: off")
    send_everything(None)
    assert list(tmp_path.iterdir()) == []


def test_what_wandb_does_not_take_is_a_warning() -> None:
    class Broken:
        offline = False

        def __getattr__(self, name: str) -> Any:
            raise ConnectionResetError("the service is gone")

    logger: Any = SimpleNamespace(experiment=Broken())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        send_everything(logger)
    assert len(told) == 7
    assert all(str(w.message).startswith("W&B did not take ") for w in told)
    assert str(told[-1].message).endswith(": the service is gone")


def test_other_ranks_send_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        @property
        def experiment(self) -> Any:
            pytest.fail("a rank other than 0 reached W&B")

    logger: Any = Silent()
    monkeypatch.setattr(tracking.rank_zero_only, "rank", 1)
    send_everything(logger)


SCRIPT = """
import json, logging, os, sys
from pathlib import Path
import pytorch_lightning as pl, torch
from matplotlib.figure import Figure
from torch.utils.data import DataLoader
from darts_noise.report.tracking import (
    finish, log_artifact, log_images, log_summary, log_tables, set_axis, start_tracking,
    use_artifact,
)

class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
    def training_step(self, batch, batch_idx):
        return self.weight
    def on_train_epoch_end(self):
        e = self.current_epoch
        self.log_dict({"train/loss": 2.0 - e, "share/normal/sep_conv_3x3": 0.25 + e})
        self.log("test/loss", 1.0)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
run = Path(sys.argv[1])
before = dict(os.environ)
logger, message = start_tracking(
    run, kind="search", mode="auto", project="p", config={"data": {"name": "digits"}, "seed": 7}
)
set_axis(logger, "search/step", ["train/loss"])
trainer = pl.Trainer(accelerator="cpu", max_epochs=2, logger=logger, enable_progress_bar=False,
                     enable_checkpointing=False, enable_model_summary=False, log_every_n_steps=1)
trainer.fit(Module(), DataLoader([torch.zeros(1)] * 3))
Figure().savefig(run / "cells.png")
(run / "genotype.json").write_text("{}")
log_images(logger, {"cells": run / "cells.png", "absent": run / "absent.png"})
log_tables(logger, {"alpha": (("edge", "none"), [("0→1", 0.25)])})
log_summary(logger, {"test": 0.5, "test_loss": 1.0})
log_artifact(logger, "search-a", "cell", [run / "genotype.json", run / "absent.md"])
use_artifact(logger, "search-a", "cell", [run / "genotype.json"])  # nothing to an offline run
finish(logger)
changed = {k: v for k, v in os.environ.items() if before.get(k) != v}
changed |= {k: None for k in before if k not in os.environ}
(run / "report.json").write_text(json.dumps({"message": message, "changed": changed}))
"""


def records(file: Path) -> Iterator[Any]:
    """The records of a ``.wandb`` file: protocol buffers in LevelDB's log format."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        rest = 32_768 - at % 32_768
        if rest < 7:
            at += rest
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


def history(file: Path) -> list[dict[str, Any]]:
    return [
        {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
        for record in records(file)
        if record.WhichOneof("record_type") == "history"
    ]


def test_offline_run_is_silent_and_whole(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(run)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
    report = json.loads((run / "report.json").read_text())
    assert report["message"].startswith("W&B: no API key, so the run is tracked offline")
    assert set(report["changed"]) <= {"WANDB_SERVICE"}  # W&B's own address for child processes

    [file] = (run / "wandb").glob("offline-run-*/run-*.wandb")
    rows = [row for row in history(file) if "epoch" in row]
    assert [row["epoch"] for row in rows] == [0, 1]
    assert [row["train/loss"] for row in rows] == [2.0, 1.0]
    assert [row["share/normal/sep_conv_3x3"] for row in rows] == [0.25, 1.25]
    assert [row["trainer/global_step"] for row in rows] == [2, 5]
    images = [row for row in history(file) if "drawings/cells/path" in row]
    assert len(images) == 1
    picture = file.parent / "files" / images[0]["drawings/cells/path"]
    assert picture.read_bytes() == (run / "cells.png").read_bytes()
    assert not any("absent" in name for row in history(file) for name in row)

    [shown] = [row for row in history(file) if "tables/alpha/path" in row]
    held = json.loads((file.parent / "files" / shown["tables/alpha/path"]).read_text())
    assert (held["columns"], held["data"]) == (["edge", "none"], [["0→1", 0.25]])
    axes = {r.metric.name: r.metric.step_metric for r in records(file) if r.HasField("metric")}
    assert axes["train/loss"] == "search/step"

    found = {r.WhichOneof("record_type"): r for r in records(file)}
    assert found["artifact"].artifact.name == "search-a"
    assert found["artifact"].artifact.type == "cell"
    assert [e.path for e in found["artifact"].artifact.manifest.contents] == ["genotype.json"]
    begun = next(r.run for r in records(file) if r.WhichOneof("record_type") == "run")
    assert (begun.project, begun.job_type, begun.display_name) == ("p", "search", "run")
    config = {i.key: json.loads(i.value_json) for i in begun.config.update}
    assert config["seed"] == 7
    assert config["data.name"] == "digits"  # as a sweep names it
    summary = {
        i.key: json.loads(i.value_json)
        for r in records(file)
        if r.WhichOneof("record_type") == "summary"
        for i in r.summary.update
    }
    assert summary["test"] == 0.5
    shown = inspected_summary(file)["summary"]
    assert {"test", "test_loss", "train/loss"} <= shown.keys()
    assert "test/loss" not in shown  # a second name of what the card says


@pytest.mark.parametrize("project", [None, "stated"])
@pytest.mark.parametrize("environment", [None, "named"])
def test_the_environment_names_the_project_if_the_user_does_not(
    clean: pytest.MonkeyPatch, tmp_path: Path, project: str | None, environment: str | None
) -> None:
    if environment is not None:
        clean.setenv("WANDB_PROJECT", environment)
    clean.setattr(wandb, "setup", lambda settings: None)
    init = FakeInit(ValueError())
    clean.setattr(wandb, "init", init)
    start_tracking(tmp_path, kind="search", mode="offline", project=project, config={})
    assert init.asked[0]["project"] == (project or environment or "darts_noise")
    assert "entity" not in init.asked[0]  # W&B reads WANDB_ENTITY itself
