"""Both scripts on a few digits, as a user calls them: what they leave and how they end."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from conftest import ROOT, search, train
from torchvision.io import write_png

import darts_noise as dn
from darts_noise.report.alpha_history import read_history

FEW = [
    "--data.train_samples=160",
    "--data.batch_size=20",
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=2",
]
SMALL_SEARCH = [*FEW, "--model.channels=4", "--model.nodes=1", "--model.warmup_epochs=0"]
SMALL_TRAIN = [*FEW, "--model.channels=4", "--model.num_cells=3"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A search and a training from it, tracked offline."""
    root = tmp_path_factory.mktemp("runs")
    search([*SMALL_SEARCH, f"--runs={root}", "--name=s"])
    train([*SMALL_TRAIN, f"--runs={root}", "--name=t"])
    return root


@pytest.mark.parametrize(
    ("kind", "name", "files"),
    [
        ("search", "s", ["alpha.json", "alpha.png", "alpha.svg", "film.png", "history.json"]),
        ("train", "t", ["bundle/README.md"]),
    ],
)
def test_what_a_run_leaves(runs, kind, name, files):
    run = runs / kind / name
    for file in [
        "config.yaml",
        "metrics.csv",
        "genotype.json",
        "cells.png",
        "cells.svg",
        "curves.png",
        "card.json",
        "card.md",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        *files,
    ]:
        assert (run / file).stat().st_size > 0, file
    assert list((run / "wandb").glob("offline-run-*/*.wandb"))
    assert (runs / kind / "latest").resolve() == run.resolve()


def test_metrics_have_one_row_per_epoch(runs):
    for run in ("search/s", "train/t"):
        rows = list(csv.DictReader((runs / run / "metrics.csv").open()))
        epochs = [row["epoch"] for row in rows if row.get("train/loss")]
        assert epochs == ["0", "1"]
        assert all(row["val/accuracy"] for row in rows if row.get("train/loss"))


def test_a_training_has_a_curve_of_the_noise(runs):
    card = json.loads((runs / "train" / "t" / "card.json").read_text())
    rows = list(csv.DictReader((runs / "train" / "t" / "metrics.csv").open()))
    curve = [(row["epoch"], float(row["noise/accuracy"])) for row in rows if row["noise/accuracy"]]
    assert curve == [("0", card["noise"]["curve"][0]), ("1", card["noise_accuracy"])]


def test_the_history_ends_with_the_cell_that_was_found(runs):
    run = runs / "search" / "s"
    history = read_history(run / "history.json")
    assert [moment.epoch for moment in history.moments] == [1, 2]
    assert history.moments[-1].genotype == dn.load_genotype(run)


def test_the_cell_is_that_of_the_final_alpha(runs):
    """genotype.json, alpha.json and the last checkpoint tell of the same α."""
    run = runs / "search" / "s"
    alpha = json.loads((run / "alpha.json").read_text())
    held = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for kind in ("normal", "reduce"):
        assert torch.equal(torch.tensor(alpha["alpha"][kind]), held[f"arch.{kind}"])
    arch = dn.Architecture("low_pass", 1)
    arch.load_state_dict({k: torch.tensor(v) for k, v in alpha["alpha"].items()})
    assert arch.genotype() == dn.load_genotype(run)


def test_the_training_takes_the_newest_search(runs):
    assert dn.load_genotype(runs / "train" / "t") == dn.load_genotype(runs / "search" / "s")


def test_without_a_config_the_training_is_on_the_searchs_data(tmp_path):
    """Also where no training config is shipped for them, as for a folder of images."""
    folder = tmp_path / "shapes"
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 12), ("test", 3)):
        for label in ("dark", "light"):
            (folder / part / label).mkdir(parents=True)
            for i in range(count):
                image = torch.randint(128, (3, 9, 9), generator=generator, dtype=torch.uint8)
                image += 100 if label == "light" else 0
                write_png(image, str(folder / part / label / f"{i}.png"))
    more = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--wandb=off", "--name=a"]
    more += [f"--runs={tmp_path}", "--data.batch_size=6"]
    data = ["--data.name=image_folder", f"--data.root={folder}", "--data.image_size=8"]
    small = ["--model.nodes=1", "--model.noise_samples=12", "--model.warmup_epochs=0"]
    search([*more, *data, *small])
    train([*more, "--model.num_cells=3", "--noise_check=false"])
    config = yaml.safe_load((tmp_path / "train" / "a" / "config.yaml").read_text())
    assert config["data"]["name"] == "image_folder"
    assert config["data"]["image_size"] == 8
    assert json.loads((tmp_path / "train" / "a" / "card.json").read_text())["train_samples"] == 22


def test_the_card_agrees_with_the_network_it_describes(runs):
    run = runs / "train" / "t"
    card = json.loads((run / "card.json").read_text())
    net = dn.create_model(run, channels=4, num_cells=3, stem="small", in_channels=1)
    assert card["parameters"] == sum(p.numel() for p in net.parameters())
    assert card["train_samples"] == 144
    assert card["noise"]["samples"] == 144
    assert card["noise"]["epochs"] == card["epochs"] == 2
    assert 0 <= card["noise_accuracy"] <= 1
    assert f"{100 * card['test_accuracy']:.2f} %" in (run / "card.md").read_text()


def test_the_bundle_holds_the_network_that_was_tested(runs):
    """Its accuracy on the test images, which its config says how to prepare, is the card's."""
    run = runs / "train" / "t"
    net, images = dn.load_pretrained(run), dn.pretrained_config(run).images
    test = dn.load_dataset("digits").test
    found = net(images.normalisation(test.images)).argmax(1) == test.labels
    card = json.loads((run / "card.json").read_text())
    assert found.double().mean().item() == pytest.approx(card["test_accuracy"], abs=1e-6)


def test_a_config_from_a_run_gives_the_same_run(runs, tmp_path):
    """config.yaml is complete: given back, it finds the same cell and the same figures."""
    config = yaml.safe_load((runs / "search" / "s" / "config.yaml").read_text())
    assert config["data"]["train_samples"] == 160
    config.update(runs=str(tmp_path), name="again", wandb="off")
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config))
    search(["--config", str(path)])
    again = tmp_path / "search" / "again"
    first = runs / "search" / "s"
    for file in ("metrics.csv", "alpha.json", "genotype.json"):
        assert (again / file).read_text() == (first / file).read_text()
    assert not (again / "wandb").exists()


def test_a_config_from_a_training_trains_the_same_cell(runs, tmp_path):
    """Whatever has been searched since, and wherever the run's folder has moved."""
    root = tmp_path / "runs"
    shutil.copytree(runs / "search" / "s", root / "search" / "s")
    more = [*SMALL_TRAIN, "--wandb=off", "--noise_check=false", "--trainer.max_epochs=1"]
    train([*more, f"--runs={root}", "--name=t"])
    config = root / "train" / "t" / "config.yaml"
    cell = dn.load_genotype(runs / "search" / "s")
    stated = yaml.safe_load(config.read_text())["model"]["genotype"]
    assert stated == str(root / "train" / "t" / "genotype.json")
    assert cell != dn.load_genotype("darts_v1")
    dn.load_genotype("darts_v1").to_json(root / "search" / "s" / "genotype.json")
    train(["--config", str(config), "--name=again"])
    assert dn.load_genotype(root / "train" / "again") == cell
    metrics = [(root / "train" / name / "metrics.csv").read_text() for name in ("t", "again")]
    assert metrics[0] == metrics[1]
    moved = tmp_path / "moved"
    root.rename(moved)
    train(
        ["--config", str(moved / "train" / "t" / "config.yaml"), f"--runs={moved}", "--name=third"]
    )
    assert dn.load_genotype(moved / "train" / "third") == cell


def test_a_published_name_stays_in_the_config(tmp_path):
    more = ["--noise_check=false", "--wandb=off", "--name=t", f"--runs={tmp_path}"]
    train([*SMALL_TRAIN, *more, "--model.genotype=darts_v1", "--trainer.limit_test_batches=0"])
    run = tmp_path / "train" / "t"
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["genotype"] == "darts_v1"
    card = json.loads((run / "card.json").read_text())
    assert (card["cell"], card["channels"], card["num_cells"]) == ("darts_v1", 4, 3)
    assert card["test_accuracy"] is None  # no batch of test images was asked for
    assert "| Test accuracy | not measured |" in (run / "card.md").read_text()


def test_a_training_that_diverges_ends_in_one_line(tmp_path, capsys):
    more = ["--wandb=off", "--name=t", f"--runs={tmp_path}", "--model.genotype=darts_v1"]
    wild = ["--model.learning_rate=1e30", "--trainer.gradient_clip_val=0"]
    with pytest.raises(SystemExit) as stop:
        train([*SMALL_TRAIN, *more, *wild])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert "is not finite at step 2 (epoch 1), learning rate 1e+30; try a smaller" in error
    assert not (tmp_path / "train" / "t" / "card.json").exists()


def test_the_cards_name_the_cell_and_the_search(runs):
    search_card, train_card = (
        json.loads((runs / run / "card.json").read_text()) for run in ("search/s", "train/t")
    )
    assert train_card["cell"] == str(runs / "search" / "s")
    assert "diverged" not in train_card
    assert search_card["space"] == "low_pass"
    assert search_card["hypergradient"] == "first_order"
    assert (search_card["channels"], search_card["num_cells"]) == (4, 3)
    text = (runs / "search" / "s" / "card.md").read_text()
    family = "| Noise family of the search | uniform |"
    for row in ("| Hypergradient | first_order |", family, "| λ | 1 |"):
        assert row in text
    assert family in (runs / "train" / "t" / "card.md").read_text()


def test_the_next_command_is_one_that_finds_the_cell(tmp_path, capsys):
    runs = tmp_path / "my runs"
    search([*SMALL_SEARCH, "--wandb=off", f"--runs={runs}", "--model.noise_weight=0"])
    assert f"next: python train.py --runs '{runs}'\n" in capsys.readouterr().out
    [card] = runs.glob("search/latest/card.md")
    assert "Noise family" not in card.read_text()


@pytest.mark.parametrize(("named", "folder"), [("s", "search/s"), ("darts_v1", None)])
def test_a_cell_is_also_found_by_the_name_of_its_search(runs, named, folder):
    arguments = [f"--runs={runs}", f"--model.genotype={named}"]
    cli = train.TrainCLI(train.TrainModule, arguments)
    genotype, where = train.find_genotype(cli)
    assert where == (named if folder is None else str(runs / folder))
    assert genotype == dn.load_genotype(where)


def test_without_a_noise_check_the_card_says_so_and_without_a_bar_no_epoch(runs, tmp_path, capsys):
    train(
        [
            *SMALL_TRAIN,
            f"--runs={tmp_path}",
            f"--model.genotype={runs / 'search' / 's'}",
            "--noise_check=false",
            "--trainer.enable_progress_bar=false",
            "--wandb=off",
            "--name=t",
        ]
    )
    assert "epoch 1/2" not in capsys.readouterr().out
    card = json.loads((tmp_path / "train" / "t" / "card.json").read_text())
    assert card["noise_accuracy"] is None
    assert "not measured" in (tmp_path / "train" / "t" / "card.md").read_text()


def test_ctrl_c_leaves_what_was_found(tmp_path):
    command = [sys.executable, str(ROOT / "search.py"), *SMALL_SEARCH[:-1], f"--runs={tmp_path}"]
    process = subprocess.Popen(
        [*command, "--name=s", "--wandb=off", "--trainer.max_epochs=500"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # A shell that runs the tests in the background has its children ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    run = tmp_path / "search" / "s"
    deadline = time.monotonic() + 120
    while not (run / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert f"interrupted; what was found so far is in {run}" in output
    for file in ("genotype.json", "alpha.json", "cells.png", "metrics.csv"):
        assert (run / file).stat().st_size > 0
