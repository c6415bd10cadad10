"""What a person sees who mistypes: one line that names the key, status 2, nothing written."""

import os

import pytest
import yaml

from darts_noise.cli import search, train
from darts_noise.cli.run_directory import newest_run
from darts_noise.space.published import load_genotype


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
        (
            search,
            ["--model.space=noise", "--model.macro", "{pooling: none}"],
            "model.macro: expected null or list, got 'none'",
        ),
        (search, ["--model.space", "drats"], "did you mean 'darts'?"),
        (search, ["--model.stem", "smal"], "did you mean 'small'?"),
        (search, ["--model.noise_family", "unifrm"], "did you mean 'uniform'?"),
        (search, ["--model.noise_family={uniform: -1}"], "model.noise_family: expected a finite"),
        (search, ["--model.noise_family={uniform: 0}"], "model.noise_family: expected a weight ab"),
        (search, ["--model.noise_family={unifrm: 1}"], "did you mean 'uniform'?"),
        (search, ["--model.noise_family=dataset"], "model.noise_family: expected the name of"),
        (search, ["--model.noise_family=dataset:mnits"], "did you mean 'mnist'?"),
        (
            search,
            ["--model.noise_family=dataset:digits", "--model.noise_samples=2000"],
            "model.noise_samples: 'dataset:digits' has 1438 images, got 2000",
        ),
        (
            search,
            ["--model.penalty", "twni"],
            "model.penalty: unknown penalty 'twni': did you mean",
        ),
        (search, ["--model.penalty={twin: {form: lg}}"], "model.penalty.twin: unknown form 'lg'"),
        (search, ["--model.penalty={twin: {frm: log}}"], "did you mean 'form'?"),
        (search, ["--model.penalty={gram: {samples: 2.5}}"], "samples: expected a whole number"),
        (search, ["--model.penalty={twin: null, gram: null}"], "expected the name of a penalty"),
        (
            search,
            ["--model.penalty=gram", "--model.hypergradient=exact"],
            "model.hypergradient: expected first_order with penalty 'gram', which has no twin",
        ),
        (search, ["--data.name", "mnits"], "did you mean 'mnist'?"),
        (search, ["--config", "nowhere.yaml"], "nowhere.yaml"),
        (search, ["--seed", "9" * 20], "seed: expected 0 to 4294967295, got 99999999999999999999"),
        (search, ["--name", "n" * 101], "name: expected at most 100 letters"),
        (search, ["--trainer.devices=-2"], "trainer: `devices` selected with"),
        (search, ["--trainer.accelerator=tpu"], "error: trainer: "),
        (search, ["--wandb", "maybe"], "valid: auto, off, offline, online"),
        (search, ["--name", "../x"], "name: expected at most 100 letters"),
        (search, ["--name", "latest"], "name: expected at most 100 letters"),
        (search, ["--seed", "-1"], "seed: expected 0 to 4294967295, got -1"),
        (search, ["--data.batch_size", "5000"], "data.batch_size: expected"),
        (search, ["--data.validation_fraction", "0"], "data.validation_fraction"),
        (search, ["--model.num_cells", "1"], "model.num_cells: expected 3 or more"),
        (search, ["--trainer.max_epochs", "0"], "trainer.max_epochs: expected 1 or more, got 0"),
        (search, ["--trainer.precision", "17"], "trainer.precision: expected"),
        (search, ["--trainer.precision", "16-mixed"], "the search runs in 32-true or bf16-mixed"),
        (search, ["--trainer.precision", "bf16-true"], "the search runs in 32-true or bf16-mixed"),
        (search, ["--trainer.gradient_clip_val", "1"], "clips by model.gradient_clip"),
        (search, ["--trainer.accumulate_grad_batches", "2"], "accumulate_grad_batches: expected 1"),
        (search, ["--trainer.max_epochs", "3"], "expected more than model.warmup_epochs (3)"),
        (search, ["--trainer.limit_train_batches", "0"], "limit_train_batches: expected more than"),
        (
            search,
            ["--model.learning_rate=.inf"],
            "model.learning_rate: expected 0 or more, got inf",
        ),
        (search, ["--model.alpha_learning_rate=.nan"], "model.alpha_learning_rate: expected 0 or"),
        (
            train,
            ["--model.genotype=darts_v1", "--model.learning_rate=.inf"],
            "model.learning_rate: expected 0 or more, got inf",
        ),
        (search, ["--model.nodes", "0"], "model.nodes: expected 1 to 64, got 0"),
        (search, ["--model.mixup", "1"], "'--model.mixup': it is a key of train.py"),
        (train, ["--model.space", "darts"], "'--model.space': it is a key of search.py"),
        (
            train,
            ["--model.genotype", "darts_v1", "--model.channels", "0"],
            "model.channels: expected at least 1, got 0",
        ),
        (train, ["--model.genotype", "dats_v2"], "did you mean 'darts_v2'?"),
        (train, ["--model.genotype", "gone.json"], "gone.json: No such file"),
        (train, ["--data.cutot", "3"], "did you mean '--data.cutout'?"),
        (train, ["--noise_family", "unifrm"], "did you mean 'uniform'?"),
        (
            train,
            ["--noise_family={uniform: 1, blur: -1}"],
            "noise_family: expected a finite weight",
        ),
        (
            train,
            ["--model.genotype=darts_v1", "--noise_family=dataset:mnits"],
            "noise_family: 'dataset:mnits': no such folder",
        ),
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
        ("model:\n  mixup: 1\n", "'model.mixup': it is a key of train.py"),
        ("model: 8\n", "bad.yaml: model: expected lines of key: value below it, got '8'"),
        ("data: [1]\n", "bad.yaml: data: expected lines of key: value below it"),
        (
            "model:\n  channels: 3\n  nodes: 2\n  channels: 4\n",
            "bad.yaml: model.channels is there twice, in lines 2 and 4",
        ),
        ("model: {}\nmodel: {}\n", "bad.yaml: model is there twice, in lines 1 and 2"),
        ("model: &a {channels: *a}\n", "model.channels: expected int"),
        ("model:\n  noise_family: {uniform: a}\n", "model.noise_family: expected a finite weight"),
        ("model:\n  noise_family: [uniform]\n", "model.noise_family: expected"),
        ("model:\n  noise_family:\n", "model.noise_family: expected"),
        ("model:\n  noise_family: 3\n", "model.noise_family: expected"),
        ("model:\n  penalty: [twin]\n", "model.penalty: expected"),
        ("model:\n  penalty: 3\n", "model.penalty: expected"),
        ("model:\n  penalty:\n    twin: 3\n", "model.penalty: expected"),
        ("model: " + "9" * 5000 + "\n", "key: value below it, got '99"),
        ('"a\\a": 1\n"a\\a": 2\n', r"bad.yaml: 'a\x07' is there twice"),
        ("model: [1\n", "bad.yaml: not YAML: while"),
        ("model: {stem: \ue000 a: 1}\n", r": model: {stem: \ue000 a: 1}"),
        ("- 1\n", "bad.yaml: expected a YAML file"),
        ("", "bad.yaml: expected a YAML file"),
        ("!!python/object/apply:os.system ['true']\n", "bad.yaml: expected plain values, got the"),
        ("model: !mine {}\n", "bad.yaml: expected plain values, got the tag '!mine' in line 1"),
        ("model: {? [a] : 3}\n", "bad.yaml: expected a word before the colon of line 1"),
        ("modle: {}\n", "bad.yaml: unknown config key 'modle': did you mean 'model'?"),
        ("resume: r\n", "resume: expected on the command line, and not in a config file"),
        ("model: [[1]]\n", "bad.yaml: model: expected lines of key: value below it, got a list"),
        ("model: {channels: !!int 'abc'}\n", "bad.yaml"),
    ],
)
def test_a_bad_config_file(text, message, capsys, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text, "utf-8")
    status, error = run(search, ["--config", str(path)], capsys)
    assert (status, error.count("\n")) == (2, 1)
    assert message in error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "nested at most 32 levels"),
        (b"{a: " * 2_000, "nested at most 32 levels"),
        (b"a: &a [x]\nb: [" + b"*a, " * 30 + b"]", "at most 20 aliases"),
        (b"#" * (1 << 21), "at most 1048576 bytes"),
        (b"\xff\xfe\x00", "expected UTF-8 text"),
    ],
)
def test_a_config_that_nobody_wrote(content, message, capsys, tmp_path):
    """Read without a limit, the first of them ends the process with a signal."""
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    status, error = run(search, ["--config", str(path)], capsys)
    assert (status, error.count("\n")) == (2, 1)
    assert "bad.yaml: " in error
    assert message in error


def test_what_a_diverged_search_raises_is_one_line(capsys, tmp_path):
    """The run stays, but is not the one that a training takes."""
    rates = [
        "--model.learning_rate=1e9",
        "--model.learning_rate_min=1e8",
        "--model.gradient_clip=0",
    ]
    few = ["--data.train_samples=160", "--data.batch_size=20", "--model.channels=4"]
    few += ["--model.nodes=1", "--model.warmup_epochs=0", "--trainer.max_epochs=2"]
    more = ["--trainer.accelerator=cpu", "--wandb=off", "--name=a", f"--runs={tmp_path}"]
    status, error = run(search, [*rates, *few, *more], capsys)
    assert (status, error.count("\n")) == (2, 1)
    assert "finite" in error
    assert f"what was found so far is in {tmp_path / 'search' / 'a'}" in error
    assert (tmp_path / "search" / "a" / "config.yaml").is_file()


def test_a_path_of_any_letters_is_carried_over_from_the_search(tmp_path):
    run = tmp_path / "search" / "old"
    run.mkdir(parents=True)
    (run / "genotype.json").touch()
    (tmp_path / "search" / "latest").symlink_to("old")
    root = '/home/josé/"mine"\\x'
    config = {"data": {"name": "mnist", "root": root, "grey": True}, "model": {"stem": "small"}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    found = train.default_config([f"--runs={tmp_path}"])
    assert found[:2] == ["--config", "train/mnist"]
    assert {"--data.name=mnist", f"--data.root={root}", "--data.grey=true"} <= {*found}


def test_a_search_without_a_cell_is_not_the_newest(capsys, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("image 7 cannot be read")

    monkeypatch.setattr("darts_noise.search.module.SearchModule.training_step", fail)
    old, failed = (tmp_path / "search" / name for name in ("old", "failed"))
    old.mkdir(parents=True)
    load_genotype("darts_v1").to_json(old / "genotype.json")
    (tmp_path / "search" / "latest").symlink_to("old")
    argv = ["--name=failed", "--wandb=off", "--trainer.accelerator=cpu", f"--runs={tmp_path}"]
    status, error = run(search, argv, capsys)
    assert (status, error.count("\n")) == (2, 1)
    assert "image 7 cannot be read" in error
    assert (failed / "config.yaml").is_file()
    assert newest_run(tmp_path, "search") == old
    assert (tmp_path / "search" / "latest").resolve() == old.resolve()


@pytest.mark.parametrize("link", [None, "failed", "gone"])
def test_without_a_latest_that_has_a_cell_the_newest_cell_counts(link, tmp_path):
    folder = tmp_path / "search"
    for age, name in enumerate(("new", "old")):
        (folder / name).mkdir(parents=True)
        load_genotype("darts_v1").to_json(folder / name / "genotype.json")
        os.utime(folder / name / "genotype.json", (10**9 - age, 10**9 - age))
    (folder / "failed").mkdir()
    if link:
        (folder / "latest").symlink_to(link)
    assert newest_run(tmp_path, "search") == folder / "new"
    assert newest_run(tmp_path, "train") is None


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
    assert len(text.splitlines()) <= 95
    for key in ("--seed", "--model.channels", "--data.name", "--trainer.max_epochs"):
        assert key in text


def test_print_config_is_a_config(capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        search.main(["--print_config", "--model.channels", "5"])
    assert stop.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["channels"] == 5
    assert config["data"]["name"] == "digits"
