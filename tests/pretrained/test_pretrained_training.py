"""The bundle of a training run's directory is the one that the training left."""

import pytest
from conftest import train

import darts_noise as dn
from darts_noise.pretrained.__main__ import main
from darts_noise.pretrained.bundle import CARD, CONFIG, WEIGHTS

SMALL = ["--data.train_samples=120", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
SMALL += ["--model.genotype=darts_v2", "--model.channels=4", "--model.num_cells=3"]
SMALL += ["--wandb=off", "--noise_check=false", "--name=t"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    train([*SMALL, f"--runs={root}"])
    return root / "train" / "t"


def test_the_command_writes_the_same_bundle(run, tmp_path, capsys):
    main([str(run), str(tmp_path / "b")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "b")
    for name in (CARD, CONFIG, WEIGHTS):
        assert (tmp_path / "b" / name).read_bytes() == (run / "bundle" / name).read_bytes(), name
    assert dn.load_pretrained(run).num_classes == 10


@pytest.mark.parametrize(
    "text", ["- 1", "data: {nme: digits}", "data: {name: [digits]}", "a: [", "\x00"]
)
def test_another_config_is_refused_in_one_line(tmp_path, capsys, text):
    (tmp_path / "card.json").write_text("{}")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path), str(tmp_path / "b")])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_missing_is_named(tmp_path, capsys):
    for missing in ("card.json", "config.yaml"):
        with pytest.raises(SystemExit):
            main([str(tmp_path), str(tmp_path / "b")])
        assert f"{tmp_path / missing}: No such file" in capsys.readouterr().err
        (tmp_path / missing).write_text("{}")
