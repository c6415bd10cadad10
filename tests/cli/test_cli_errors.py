"""What a person sees who mistypes: one line that names the key, status 2, nothing written."""

import pytest
import yaml

from darts_noise.cli import search, train


def run(script, argv, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(argv)
    captured = capsys.readouterr()
    return stop.value.code, captured.err


@pytest.mark.parametrize(
    ("script", "argv", "message"),
    [
        (search, ["--model.chanels", "3"], "did you mean '--model.channels'?"),
        (search, ["--channels=3"], "did you mean '--model.channels'?"),
        (search, ["mnist"], "unexpected argument 'mnist'"),
        (search, ["--model.channels", "abc"], "model.channels: expected int, got 'abc'"),
        (search, ["--model.space", "drats"], "did you mean 'darts'?"),
        (search, ["--model.stem", "smal"], "did you mean 'small'?"),
        (search, ["--model.noise_family", "unifrm"], "did you mean 'uniform'?"),
        (search, ["--data.name", "mnits"], "did you mean 'mnist'?"),
        (search, ["--config", "nowhere.yaml"], "nowhere.yaml"),
        (search, ["--wandb", "maybe"], "valid: auto, off, offline, online"),
        (search, ["--name", "../x"], "name: expected letters"),
        (search, ["--name", "latest"], "name: expected letters"),
        (search, ["--seed", "-1"], "seed: expected 0 or more, got -1"),
        (search, ["--data.batch_size", "5000"], "data.batch_size: expected"),
        (search, ["--data.validation_fraction", "0"], "data.validation_fraction"),
        (search, ["--model.num_cells", "1"], "model.num_cells: expected 3 or more"),
        (search, ["--trainer.max_epochs", "0"], "trainer.max_epochs: expected 1 or more, got 0"),
        (search, ["--trainer.precision", "17"], "trainer.precision: expected"),
        (search, ["--trainer.precision", "16-mixed"], "trainer.precision"),
        (train, ["--model.genotype", "dats_v2"], "did you mean 'darts_v2'?"),
        (train, ["--model.genotype", "gone.json"], "gone.json: No such file"),
        (train, ["--data.cutot", "3"], "did you mean '--data.cutout'?"),
        (train, ["--noise_family", "unifrm"], "did you mean 'uniform'?"),
        (train, [], "no search in"),
    ],
)
def test_one_line_and_status_two(script, argv, message, capsys, tmp_path):
    status, error = run(script, [*argv, "--runs", str(tmp_path / "runs")], capsys)
    assert status == 2
    assert error.count("\n") == 1
    assert "error: " in error
    assert message in error
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").rglob("*.*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n  chanels: 3\n", "did you mean 'model.channels'?"),
        ("model:\n  channels: abc\n", "model.channels: expected int, got 'abc'"),
        ("model: [1\n", "config: not YAML"),
        ("- 1\n", "config: expected a YAML file"),
        ("!!python/object/apply:os.system ['true']\n", "config"),
    ],
)
def test_a_bad_config_file(text, message, capsys, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    status, error = run(search, ["--config", str(path)], capsys)
    assert (status, error.count("\n")) == (2, 1)
    assert message in error


def test_a_taken_name_leaves_what_is_there(capsys, tmp_path):
    taken = tmp_path / "search" / "mine"
    taken.mkdir(parents=True)
    (taken / "genotype.json").write_text("precious")
    status, error = run(search, ["--name", "mine", "--runs", str(tmp_path)], capsys)
    assert status == 2
    assert "choose another --name" in error
    assert [p.name for p in taken.iterdir()] == ["genotype.json"]


@pytest.mark.parametrize("script", [search, train])
def test_help_is_short_and_names_every_own_key(script, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert len(text.splitlines()) < 70
    for key in ("--seed", "--model.channels", "--data.name", "--trainer.max_epochs"):
        assert key in text


def test_print_config_is_a_config(capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        search.main(["--print_config", "--model.channels", "5"])
    assert stop.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["channels"] == 5
    assert config["data"]["name"] == "digits"
