"""Both scripts in two processes: two torchruns as on two machines, and Lightning's own launcher."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT

import darts_noise as dn

pytestmark = pytest.mark.slow
SMALL = [
    "--data.train_samples=160",
    "--data.batch_size=20",
    "--trainer.accelerator=cpu",
    "--trainer.strategy=ddp",
    "--model.channels=4",
    "--model.num_cells=3",
    "--model.race=0",
    "--wandb=off",
]
LAUNCHER_VARIABLES = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")


def started(*command: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k not in LAUNCHER_VARIABLES}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], status: int = 0) -> str:
    out, errors = process.communicate(timeout=500)
    assert process.returncode == status, out + errors
    return out


def only_run(folder: Path) -> Path:
    [run] = [path for path in folder.iterdir() if path.name != "latest"]
    return run


def test_two_torchruns_make_one_run_that_goes_on(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "search.py",
        *SMALL,
        "--model.nodes=1",
        "--model.warmup_epochs=0",
        f"--runs={tmp_path}",
        "--trainer.max_epochs=2",
        "--trainer.sync_batchnorm=true",
        "--trainer.devices=1",
        "--trainer.num_nodes=2",
    ]
    machines = [
        started(
            *("-m", "torch.distributed.run", "--nnodes=2", f"--node_rank={rank}"),
            *("--nproc_per_node=1", "--master_addr=127.0.0.1", f"--master_port={port}"),
            *options,
        )
        for rank in (0, 1)
    ]
    first, second = (ended(machine) for machine in machines)
    run = only_run(tmp_path / "search")
    assert f"search: {run}" in first
    assert second == ""
    assert json.loads((run / "card.json").read_text())["epochs"] == 2
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["num_nodes"] == 2
    assert len((run / "metrics.csv").read_text().splitlines()) == 3
    assert dn.load_genotype(run).meta["epoch"] == 2
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(checkpoint["run_state"]["processes"]) == 2


def test_a_training_that_one_process_is_asked_to_stop_goes_on(tmp_path: Path) -> None:
    options = [*SMALL, "--model.genotype=darts_v2", f"--runs={tmp_path}", "--noise_epochs=1"]
    stopped = started("train.py", *options, "--trainer.devices=2", "--trainer.max_epochs=300")
    while not list(tmp_path.glob("train/*/metrics.csv")):
        assert stopped.poll() is None, stopped.communicate()
        time.sleep(0.1)
    stopped.send_signal(signal.SIGTERM)
    assert "interrupted; the results so far are in" in ended(stopped, 143)
    run = only_run(tmp_path / "train")
    epoch = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"]["max_epochs"] = epoch + 2
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    out = ended(started("train.py", "--resume", str(run)))
    assert only_run(tmp_path / "train") == run
    assert out.count("card: ") == 1
    assert json.loads((run / "card.json").read_text())["noise_accuracy"] >= 0


def test_a_setting_that_does_not_suit_the_processes_is_one_line(tmp_path: Path) -> None:
    process = started(
        "search.py", *SMALL[1:], "--data.batch_size=21", f"--runs={tmp_path}", "--trainer.devices=2"
    )
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 2
    assert errors.splitlines()[-1] == (
        "search.py: error: data.batch_size: expected a positive multiple of the 2 processes, got 21"
    )
    assert not list(tmp_path.iterdir())
