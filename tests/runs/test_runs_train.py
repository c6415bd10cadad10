"""A training from its settings to its card and its bundle: as a command and as a function."""

import csv
import json
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import wandb
import yaml
from conftest import (
    SMALL_SEARCH,
    SMALL_TRAIN,
    inspected,
    inspected_summary,
    refused,
    search,
    train,
)
from PIL import Image

import darts_noise as dn
from darts_noise.cli.program import main
from darts_noise.data import decoding
from darts_noise.pretrained.bundle import CARD, CONFIG, WEIGHTS
from darts_noise.runs import noise_check
from darts_noise.train.module import TrainModule

OWN = ["--wandb=off", "--name=t", "--noise_check=false"]


def card_of(run):
    return json.loads((run / "card.json").read_text())


def test_what_it_leaves(small_runs):
    run = small_runs.train
    for file in ["cells.png", "cells.svg", "curves.png", "card.md", "bundle/README.md"]:
        assert (run / file).stat().st_size > 0, file
    for file in ["metrics.csv", "config.yaml", "checkpoints/last.ckpt", "checkpoints/best.ckpt"]:
        assert (run / file).stat().st_size > 0, file
    assert list((run / "wandb").glob("offline-run-*/*.wandb"))
    assert (small_runs.root / "train" / "latest").resolve() == run.resolve()
    assert f"card: {run / 'card.md'}\nbundle: {run / 'bundle'}\n" in small_runs.said


def test_it_takes_the_newest_search_and_names_it(small_runs):
    card = card_of(small_runs.train)
    assert dn.load_genotype(small_runs.train) == dn.load_genotype(small_runs.search)
    assert card["cell"] == str(small_runs.search)
    text = (small_runs.train / "card.md").read_text()
    assert "| Noise family of the search | uniform |" in text
    assert "uniform noise epoch 2/2" in small_runs.said


def test_its_metrics_have_a_row_per_epoch_and_a_curve_of_the_noise(small_runs):
    rows = list(csv.DictReader((small_runs.train / "metrics.csv").open()))
    epochs = [row["epoch"] for row in rows if row["train/loss"]]
    assert epochs == ["0", "1"]
    card = card_of(small_runs.train)
    curve = [(row["epoch"], float(row["noise/accuracy"])) for row in rows if row["noise/accuracy"]]
    assert curve == [("0", card["noise"]["curve"][0]), ("1", card["noise_accuracy"])]


def tracked(run):
    """The file of its W&B run."""
    [file] = (run / "wandb").glob("offline-run-*/*.wandb")
    return file


def test_wandb_has_each_key_once_and_the_figure_by_which_a_sweep_ranks(small_runs):
    for run in (small_runs.search, small_runs.train):
        found, card = inspected_summary(tracked(run)), card_of(run)
        settings = yaml.safe_load((run / "config.yaml").read_text())
        groups = {key: value for key, value in settings.items() if isinstance(value, dict)}
        wanted = set(settings) - set(groups)
        for group, of_group in groups.items():
            wanted |= {f"{group}.{key}" for key in of_group}
        assert {key for key in found["config"] if not key.startswith("_")} == wanted
        assert found["summary"]["objective"] == card["objective"]
        [count] = {"parameters", "supernet_parameters"} & card.keys()
        assert found["summary"][count] == card[count]
        for twice in ("seed", "channels", "noise/accuracy", "test/accuracy"):
            assert twice not in found["summary"]


def test_wandb_gets_the_curve_of_the_noise_and_the_bundle(small_runs, tmp_path, monkeypatch):
    rows = [json.loads(line) for line in inspected(tracked(small_runs.train)).splitlines()]
    curve = [
        (row["history"]["item"]["epoch"], row["history"]["item"]["noise/accuracy"])
        for row in rows
        if row["type"] == "history" and "noise/accuracy" in row["history"]["item"]
    ]
    assert curve == list(enumerate(card_of(small_runs.train)["noise"]["curve"]))
    artifacts = [row["artifact"] for row in rows if row["type"] == "artifact"]
    [model] = [artifact for artifact in artifacts if artifact["type"] == "model"]
    assert model["name"] == "model-t"
    held = {entry["path"]: entry["local_path"] for entry in model["manifest"]["contents"]}
    assert held.keys() == {path.name for path in (small_runs.train / "bundle").iterdir()}

    def entry(name):  # as W&B's server would answer
        def download(root):
            shutil.copyfile(small_runs.train / "bundle" / name, f"{root}/{name}")

        return SimpleNamespace(size=1, download=download)

    artifact = SimpleNamespace(get_entry=entry)
    monkeypatch.setattr(wandb, "Api", lambda: SimpleNamespace(artifact=lambda name: artifact))
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    net = dn.load_pretrained("team/project/model-t:v0")
    wanted = dn.load_pretrained(small_runs.train).state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in net.state_dict().items())
    assert len(dn.pretrained_config("team/project/model-t:v0").images.classes) == 10
    monkeypatch.setattr(artifact, "get_entry", lambda name: entry("genotype.json"))
    with pytest.raises(ValueError, match=r"^W&B artifact team/project/model-t:v0: .*config.json"):
        dn.load_pretrained("team/project/model-t:v0")


def test_the_curve_of_the_noise_arrives_while_it_is_made(small_runs, tmp_path, monkeypatch):
    """Each epoch is logged before the next one ends; a run that goes on logs the earlier too."""
    logged, ends = [], []
    monkeypatch.setattr(noise_check, "_log_noise", lambda _, *row: logged.append(row))
    epoch_end = noise_check.NoiseCurve.on_train_epoch_start

    def begun(self, trainer, module):
        epoch_end(self, trainer, module)
        ends.append((trainer.current_epoch, len(logged)))

    monkeypatch.setattr(noise_check.NoiseCurve, "on_train_epoch_start", begun)
    own = [f"--model.genotype={small_runs.search}", f"--runs={tmp_path}", "--wandb=off"]
    train([*SMALL_TRAIN, *own, "--name=t", "--noise_controls=[]"])
    assert ends == [(0, 0), (1, 1)]
    assert [epoch for epoch, _ in logged] == [0, 1]


def test_a_logger_of_lightning_writes_into_the_folder_of_the_run(small_runs, tmp_path):
    own = [f"--model.genotype={small_runs.search}", f"--runs={tmp_path}", "--wandb=off"]
    train([*SMALL_TRAIN, *own, "--name=t", "--trainer.logger=CSVLogger"])
    folder = tmp_path / "train" / "t" / "lightning_logs" / "version_0"
    theirs = list(csv.DictReader((folder / "metrics.csv").open()))
    ours = list(csv.DictReader((tmp_path / "train" / "t" / "metrics.csv").open()))
    for key in ("train/loss", "test/accuracy", "noise/accuracy"):
        assert [row[key] for row in theirs] == [row[key] for row in ours]
    assert yaml.safe_load((folder / "hparams.yaml").read_text())["model"]["channels"] == 4


def test_the_card_agrees_with_the_network_it_describes(small_runs):
    run, card = small_runs.train, card_of(small_runs.train)
    net = dn.create_model(run, channels=4, num_cells=3, stem="small", in_channels=1)
    assert card["parameters"] == sum(p.numel() for p in net.parameters())
    assert (card["train_samples"], card["noise"]["samples"]) == (70, 70)
    assert card["noise"]["epochs"] == card["epochs"] == 2
    assert 0 <= card["noise_accuracy"] <= 1
    assert "diverged" not in card
    counts = torch.bincount(dn.load_dataset("digits").test.labels)
    assert card["test_chance"] == int(counts.max()) / int(counts.sum())
    assert f"{100 * card['test_accuracy']:.2f}%" in (run / "card.md").read_text()


def test_the_curves_show_the_noise(small_runs):
    """The pictures are drawn again after the noise check."""
    assert "noise" in (small_runs.train / "curves.svg").read_text("utf-8")


def test_the_bundle_holds_the_network_that_was_tested(small_runs):
    """Its accuracy on the test images, which its config says how to prepare, is the card's."""
    run = small_runs.train
    net, images = dn.load_pretrained(run), dn.pretrained_config(run).images
    test = dn.load_dataset("digits").test
    found = net(images.normalisation(test.images)).argmax(1) == test.labels
    accuracy = found.double().mean().item()
    assert accuracy == pytest.approx(card_of(run)["test_accuracy"], abs=1e-6)


def test_the_command_writes_the_same_bundle(small_runs, tmp_path, capsys):
    main(["bundle", str(small_runs.train), str(tmp_path / "b")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "b")
    for name in (CARD, CONFIG, WEIGHTS):
        left = small_runs.train / "bundle" / name
        assert (tmp_path / "b" / name).read_bytes() == left.read_bytes(), name


@pytest.mark.parametrize(
    "text", ["- 1", "data: {nme: digits}", "data: {name: [digits]}", "data: 3", "a: [", "\x00"]
)
def test_a_bundle_of_another_config_is_refused_in_one_line(text, tmp_path, capsys):
    (tmp_path / "card.json").write_text("{}")
    (tmp_path / "config.yaml").write_text(text)
    error = refused(main, ["bundle", str(tmp_path), str(tmp_path / "b")], capsys)
    assert str(tmp_path / "config.yaml") in error or "data" in error


def test_a_search_is_no_training_to_bundle(tmp_path, capsys):
    run = tmp_path / "found"
    run.mkdir()
    (run / "card.json").write_text("{}")
    (run / "config.yaml").write_text("data: {name: digits}\nmodel: {space: darts}\n")
    error = refused(lambda _: main(["bundle", str(run), str(tmp_path / "out")]), [], capsys)
    assert "train.py --model.genotype found" in error


def test_what_a_bundle_misses_is_named(tmp_path, capsys):
    for missing in ("card.json", "config.yaml"):
        error = refused(main, ["bundle", str(tmp_path), str(tmp_path / "b")], capsys)
        assert f"{tmp_path / missing}: No such file" in error
        (tmp_path / missing).write_text("{}")


def settings_of(run):
    """The typed settings in a run's own config."""
    stated = yaml.safe_load((run / "config.yaml").read_text())
    noise = {key.removeprefix("noise_"): v for key, v in stated.items() if key[:6] == "noise_"}
    noise["grid"] = dn.NoiseGrid(**noise["grid"])
    return {
        "data": dn.ImageDataModule(**stated["data"]),
        "config": dn.TrainConfig(**stated["model"]),
        "noise": dn.NoiseConfig(**noise),
        "trainer": dn.TrainerConfig(**stated["trainer"]),
    }


def test_the_function_trains_what_the_command_trained(small_runs, tmp_path, no_drawings):
    cell = dn.load_genotype(small_runs.search)
    run = dn.RunConfig(name="f", runs=str(tmp_path), wandb="off")
    found = dn.train(cell, **settings_of(small_runs.train), run=run)
    assert isinstance(found, dn.TrainResult)
    assert found.path == tmp_path / "train" / "f"
    assert found.bundle == found.path / "bundle"
    assert (found.path / "metrics.csv").read_bytes() == (
        small_runs.train / "metrics.csv"
    ).read_bytes()
    card = card_of(small_runs.train)
    assert isinstance(found.noise, dn.NoiseFit)
    assert found.noise.accuracy == card["noise_accuracy"]
    for key in ("test_accuracy", "test_loss", "noise_accuracy", "parameters", "genotype"):
        assert found.card[key] == card[key], key
    weights = dn.load_pretrained(small_runs.train).state_dict()
    for name, tensor in found.net.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_an_interrupted_function_says_which_run_can_go_on(
    small_runs, tmp_path, monkeypatch, no_drawings
):
    step, calls = TrainModule.training_step, iter(range(100))

    def interrupted(*args):
        if next(calls) == 4:  # in the second epoch
            signal.raise_signal(signal.SIGINT)
        return step(*args)

    settings = {**settings_of(small_runs.train), "noise": dn.NoiseConfig(check=False)}
    run = dn.RunConfig(name="a", runs=str(tmp_path), wandb="off")
    with monkeypatch.context() as patch:
        patch.setattr(TrainModule, "training_step", interrupted)
        with pytest.raises(dn.Interrupted) as stop:
            dn.train(small_runs.search, **settings, run=run)
    assert (stop.value.run, stop.value.status) == (tmp_path / "train" / "a", 130)
    run = dn.RunConfig(resume="a", runs=str(tmp_path), wandb="off")
    found = dn.train(small_runs.search, **settings, run=run)
    assert found.card["test_loss"] == card_of(small_runs.train)["test_loss"]
    assert found.card["noise_accuracy"] is None


@pytest.mark.parametrize(
    ("cell", "settings", "key"),
    [
        ("dats_v2", {}, "model.genotype"),
        ("darts_v1", {"noise": dn.NoiseConfig(family="unifrm")}, "noise_family"),
        ("darts_v1", {"noise": dn.NoiseConfig(samples=10**6, family="dataset:digits")}, "noise_"),
        ("darts_v1", {"trainer": dn.TrainerConfig(precision="16-mixed")}, "trainer.precision"),
    ],
)
def test_a_function_raises_the_error_of_a_setting_with_its_key(cell, settings, key, tmp_path):
    run = dn.RunConfig(name="a", runs=str(tmp_path), wandb="off")
    data = dn.ImageDataModule("digits", train_samples=80, batch_size=20)
    config = dn.TrainConfig(channels=4, num_cells=3, stem="small", auxiliary_weight=0.0)
    with pytest.raises(dn.SettingError) as error:
        dn.train(cell, data, config, **settings, run=run)
    assert error.value.key.startswith(key)
    assert not list(tmp_path.iterdir())


def test_a_config_of_a_training_trains_the_same_cell(small_runs, tmp_path, no_drawings):
    """Whatever has been searched since, and wherever the run's folder has moved."""
    root = tmp_path / "runs"
    shutil.copytree(small_runs.search, root / "search" / "s")
    one = ["--trainer.max_epochs=1", "--trainer.limit_test_batches=1"]
    train([*SMALL_TRAIN, *OWN, *one, f"--runs={root}"])
    config = root / "train" / "t" / "config.yaml"
    cell = dn.load_genotype(small_runs.search)
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
    config = moved / "train" / "t" / "config.yaml"
    train(["--config", str(config), f"--runs={moved}", "--name=third"])
    assert dn.load_genotype(moved / "train" / "third") == cell


def test_what_was_not_measured_and_the_progress_that_was_not_asked_for(
    tmp_path, capsys, no_drawings
):
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.limit_test_batches=0"]
    train([*SMALL_TRAIN, *OWN, *quiet, "--model.genotype=darts_v1", f"--runs={tmp_path}"])
    assert "epoch" not in capsys.readouterr().out.lower().split("test accuracy")[0]
    run = tmp_path / "train" / "t"
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["genotype"] == "darts_v1"
    card = card_of(run)
    assert (card["cell"], card["channels"], card["num_cells"]) == ("darts_v1", 4, 3)
    assert card["test_accuracy"] is card["noise_accuracy"] is None
    text = (run / "card.md").read_text()
    assert "| Test accuracy | not measured |" in text
    assert "| Training-noise accuracy | not measured |" in text


def test_a_training_that_diverges_ends_in_one_line(tmp_path, capsys, no_drawings):
    wild = ["--model.learning_rate=1e30", "--trainer.gradient_clip_val=0", "--model.optimiser=sgd"]
    argv = [*SMALL_TRAIN, *OWN, *wild, "--model.genotype=darts_v1", f"--runs={tmp_path}"]
    error = refused(train, argv, capsys)
    assert "is not finite at step 2 (epoch 1), learning rate 1e+30" in error
    assert str(tmp_path / "train" / "t") in error
    assert not (tmp_path / "train" / "t" / "card.json").exists()


def test_data_that_do_not_suit_the_trainer_are_one_line(tmp_path, capsys):
    """Lightning says so in the midst of its set-up. The folder is removed, and `latest` stays."""
    earlier = tmp_path / "train" / "earlier"
    dn.load_genotype("darts_v1").to_json(earlier / "genotype.json")
    (tmp_path / "train" / "latest").symlink_to("earlier")
    argv = [*SMALL_TRAIN, *OWN, "--model.genotype=darts_v1", f"--runs={tmp_path}"]
    error = refused(train, [*argv, "--trainer.limit_val_batches=0.001"], capsys)
    assert "trainer: " in error
    assert "results so far" not in error
    assert sorted(p.name for p in (tmp_path / "train").iterdir()) == ["earlier", "latest"]
    assert (tmp_path / "train" / "latest").resolve() == earlier


def test_without_a_config_the_training_is_on_the_searchs_data(
    small_runs, tmp_path, no_drawings, capsys
):
    """Also where no training config is shipped for them, as for a folder of images."""
    folder = tmp_path / "shapes"
    for part, count in (("train", 12), ("test", 3)):
        for label in ("dark", "light"):
            (folder / part / label).mkdir(parents=True)
            for i in range(count):
                grey = 10 * i + (100 if label == "light" else 0)
                Image.new("RGB", (9, 9), (grey,) * 3).save(folder / part / label / f"{i}.png")
    run = tmp_path / "search" / "a"
    run.mkdir(parents=True)
    shutil.copy(small_runs.search / "genotype.json", run)
    config = yaml.safe_load((small_runs.search / "config.yaml").read_text())
    config["data"] |= {"name": "image_folder", "root": str(folder), "image_size": 8}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    few = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--data.batch_size=6"]
    few += ["--model.num_cells=3", "--model.channels=4"]
    train([*OWN, *few, f"--runs={tmp_path}"])
    found = yaml.safe_load((tmp_path / "train" / "t" / "config.yaml").read_text())
    assert (found["data"]["name"], found["data"]["image_size"]) == ("image_folder", 8)
    assert card_of(tmp_path / "train" / "t")["train_samples"] == 22
    # A setting that the search hands on and that other images do not suit.
    config["data"]["test_fraction"] = 0.25
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    own = [f"--runs={tmp_path}", f"--data.root={folder}"]
    error = refused(train, own, capsys)
    assert "data.test_fraction: expected null" in error
    assert "0.25 comes from the search" in error
    assert "--data.test_fraction null" in error
    stated = refused(train, [*own, "--data.test_fraction=0.3"], capsys)
    assert "comes from the search" not in stated
    few = [*few, "--model.num_cells=3", "--noise_check=false", "--name=u", "--wandb=off"]
    train([*own, *few, "--data.test_fraction=null"])


TIMES = {"wall_time_s", "seconds", "genotype", "cell"}
"""What may differ between two cards: how long it took, and the names of the runs' folders."""


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return value


def found(run):
    """Cell, metrics and card of a run."""
    cell = json.loads((run / "genotype.json").read_text())
    return cell, (run / "metrics.csv").read_text(), without_times(card_of(run))


@pytest.mark.slow
def test_one_seed_is_one_result_with_any_reading_threads_and_with_or_without_wandb(
    tmp_path, monkeypatch
):
    """One thread without W&B, four with it, of images that stay on disk."""
    random = np.random.default_rng(0)
    for half in ("train", "test"):
        for name in ("a", "b"):
            folder = tmp_path / "images" / half / name
            folder.mkdir(parents=True)
            for i in range(24):
                pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    data = ["--data.name=image_folder", f"--data.root={tmp_path / 'images'}"]
    data += ["--data.in_memory=false", "--data.train_samples=48", "--data.batch_size=8"]
    results = []
    for threads, mode in ((1, "off"), (4, "offline")):
        monkeypatch.setattr(decoding, "_THREADS", threads)
        decoding._pool.cache_clear()  # whose threads were counted when it was made
        root = tmp_path / str(threads)
        own = [*data, f"--wandb={mode}", "--name=a", f"--runs={root}", "--model.stem=small"]
        search([*SMALL_SEARCH, *own, "--model.noise_samples=16"])
        train([*SMALL_TRAIN, *own, "--model.auxiliary_weight=0", "--noise_samples=16"])
        results.append([found(root / kind / "a") for kind in ("search", "train")])
    assert results[0] == results[1]


def test_a_training_starts_from_the_weights_of_another(small_runs, tmp_path, no_drawings):
    """It takes over the cell, the size and the data, so the options need not repeat them."""
    few = ["--data.train_samples=80", "--data.batch_size=20", "--trainer.max_epochs=1"]
    still = [f"--model.{key}learning_rate=1e-12" for key in ("", "adam_", "muon_")]
    still += ["--model.weight_decay=0", "--trainer.accelerator=cpu"]
    train([*few, *still, *OWN, f"--model.init={small_runs.train}", f"--runs={tmp_path}"])
    first, again = (
        dn.load_pretrained(small_runs.train),
        dn.load_pretrained(tmp_path / "train" / "t"),
    )
    assert again.genotype == first.genotype
    for (name, p), q in zip(first.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=name)
    stated = yaml.safe_load((tmp_path / "train" / "t" / "config.yaml").read_text())
    assert stated["model"]["init"] == str(small_runs.train.resolve())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model.init=digist"], "model.init: unknown trained network 'digist': did you mean"),
        (["--model.init=digits", "--model.channels=7"], "expected channels 12 as in 'digits'"),
        (["--model.init=digits", "--model.genotype=gdas"], "expected the cell of 'digits'"),
        (["--init=digits"], "did you mean '--model.init'"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(argv, message, tmp_path, capsys):
    assert message in refused(train, [*SMALL_TRAIN[:4], *OWN, *argv, f"--runs={tmp_path}"], capsys)
