"""``search`` and ``train``: defaults in ``--help``, plugins, and the run or cell that they use."""

import hashlib
import json
import os
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, SMALL_SEARCH, SMALL_TRAIN, refused, search, train

import darts_noise as dn
from darts_noise.cli import commands, defaults
from darts_noise.cli.configs import read_config
from darts_noise.cli.options import SEARCH, TRAIN
from darts_noise.cli.parser import WIDTH
from darts_noise.cli.program import main
from darts_noise.runs.folder import lacking_plugins, note_plugins
from darts_noise.runs.run import Interrupted, Run
from darts_noise.space import spaces
from darts_noise.space.operations import list_operations, registry
from darts_noise.space.spaces import list_spaces


def helped(command, *argv, capsys) -> dict[str, str]:
    """The options that ``--help`` shows, with their texts in one line."""
    command([*argv, "--help"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= WIDTH
    options: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("  --"):
            key, _, words = line.strip().removeprefix("--").partition(" ")
            options[key] = words.strip()
        elif line.startswith("   ") and options:
            options[key] += f" {line.strip()}"
    return options


def printed(command, *argv, capsys):
    """The settings that ``--print_config`` prints."""
    command([*argv, "--print_config"])
    return yaml.safe_load(capsys.readouterr().out)


def value(config, key):
    for part in key.split("."):
        config = config[part]
    return config


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (search, []),
        (search, ["--config", "mnist"]),
        (search, ["-cdigits", "-cvariants/gdas", "--model.channels=5", "--seed=7"]),
        (train, ["--model.genotype=darts_v1"]),
        (train, ["--config=cifar10"]),
        (train, ["--noise_protocol=converged", "--noise_grid.sgd_rates=[0.5]"]),
    ],
)
def test_help_shows_the_defaults_that_this_very_command_would_use(command, argv, capsys):
    options, config = helped(command, *argv, capsys=capsys), printed(command, *argv, capsys=capsys)
    shown = 0
    for key, text in options.items():
        if key in ("help", "config", "print_config", "plugins", "resume", "trust"):
            continue
        used = value(config, key)
        used = tuple(used) if isinstance(used, list) and f"[{used}]" not in text else used
        assert text.endswith(f"[{used}]") or (used is None and not text.endswith("]")), key
        shown += used is not None
    assert shown > 25


def test_help_of_the_plain_commands_shows_what_the_readme_promises(capsys):
    """Those of the configs that they read, and not those of the classes."""
    options = helped(search, capsys=capsys)
    shipped = read_config(ROOT / "configs" / "search" / "digits.yaml")
    for key in ("trainer.max_epochs", "model.channels", "model.space"):
        assert options[key].endswith(f"[{value(shipped, key)}]")
    assert options["trainer.max_epochs"].endswith("[15]")
    assert not any(key.split(".")[-1] == "seed" for key in options if "." in key)
    mnist = helped(search, "--config", "mnist", capsys=capsys)
    assert mnist["data.name"].endswith("[mnist]")
    shipped = read_config(ROOT / "configs" / "search" / "mnist.yaml")
    assert mnist["trainer.max_epochs"].endswith(f"[{value(shipped, 'trainer.max_epochs')}]")


@pytest.mark.parametrize(
    ("argv", "raced"),
    [
        (["--model.noise_weight=0", "--model.space=bounded", "--strategy=darts"], 2),
        (["--strategy=random"], 0),
        (["--model.space=noise"], 0),
        (["--model.race=0"], 0),
        (["--model.macro={logit_scale: 64}"], 0),
        (["-cdigits", "-cstrategies/nas"], 0),
        (["--model.macro=[{gain: free}, {gain: bounded}]"], 2),
        (["-cdigits", "--model.race=4"], 4),
    ],
)
def test_the_default_race_is_only_for_the_default_choices(argv, raced, capsys):
    model = printed(search, *argv, capsys=capsys)["model"]
    assert model["race"] == raced
    assert isinstance(model["macro"], list) == (raced > 0)
    assert dn.SearchConfig(**model).macros


@pytest.mark.parametrize("command", [SEARCH, TRAIN], ids=lambda c: c.name)
def test_every_option_that_is_shown_is_explained(command):
    own = [option for option in command.all_options() if not option.hidden]
    assert [option.key for option in own if not option.text] == []
    keys = {option.key for option in command.all_options()}
    assert {"seed", "name", "runs", "wandb", "trainer.max_epochs", "data.name"} <= keys
    assert len(keys) == len(command.all_options())


PLUGIN = """
import darts_noise as dn
from torch import nn

@dn.register_operation("convolution")
def plugin_conv(channels, stride, affine):
    return nn.Conv2d(channels, channels, 3, stride, 1)

dn.register_space("plugin_space", ["none", "skip_connect", "plugin_conv"])
"""


@pytest.mark.parametrize("form", [["--plugins={file}"], ["--plugins", "{file}"]])
def test_a_search_takes_the_space_that_a_plugin_registers(form, tmp_path, capsys):
    name = f"plugin{len(form)}"
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN.replace("plugin", name))
    given = [text.format(file=file) for text in form]
    argv = [*given, *SMALL_SEARCH, f"--model.space={name}_spac", f"--runs={tmp_path}"]
    error = refused(search, argv, capsys)
    assert f"{name}_space" in error  # among those that there are
    assert f"{name}_conv" in list_operations()
    assert f"{name}_space" in list_spaces()


@pytest.mark.parametrize(
    ("code", "told"),
    [("1 / 0", "ZeroDivisionError: division by zero"), ("def", "SyntaxError"), (None, "plugins: ")],
)
@pytest.mark.parametrize("command", [search, train])
def test_what_is_wrong_with_a_plugin_is_told(command, code, told, tmp_path, capsys):
    file = tmp_path / "a.py"
    if code is not None:
        file.write_text(code)
    error = refused(command, ["--plugins", str(file), f"--runs={tmp_path / 'runs'}"], capsys)
    assert told in error
    assert str(file) in error


def test_the_command_to_go_on_names_the_run_and_every_plugin(tmp_path, capsys, monkeypatch):
    file, runs = tmp_path / "my own.py", tmp_path / "my runs"
    file.write_text("")
    monkeypatch.setattr(Run, "fit", lambda run, module: run.interrupted("a hint"))
    argv = [f"--plugins={file}", f"--runs={runs}", "--name=x", "--wandb=off", *SMALL_SEARCH]
    with pytest.raises(SystemExit) as stop:
        search(argv)
    assert stop.value.code == 130
    *_, hint, line = capsys.readouterr().out.splitlines()
    assert hint == "a hint"
    assert line == (
        f"to resume: python search.py --resume '{runs / 'search' / 'x'}' --plugins '{file}'"
    )
    stopped = Interrupted(None, 0)  # another process than the first
    monkeypatch.setattr(commands, "_read", lambda *args: (_ for _ in ()).throw(stopped))
    with pytest.raises(SystemExit) as stop:
        search([])
    assert (stop.value.code, capsys.readouterr().out) == (0, "")


@pytest.fixture
def plugged(tmp_path, no_drawings, capsys):
    """A search with the space of a plugin, in an interpreter that no longer knows the plugin."""
    file, runs = tmp_path / "my own.py", tmp_path / "runs"
    file.write_text(PLUGIN.replace("plugin", "noted"))
    argv = [f"--plugins={file}", *SMALL_SEARCH, "--model.space=noted_space", f"--runs={runs}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
        patch.setattr(spaces, "_SPACES", dict(spaces._SPACES))
        search([*argv, "--name=s", "--wandb=off"])
    # The next command names the plugin.
    assert f"next: python train.py --plugins '{file}' --runs " in capsys.readouterr().out
    return runs / "search" / "s", file


def test_a_run_notes_its_plugins_and_says_which_are_lacking(plugged, tmp_path, capsys, monkeypatch):
    """Nothing but the command line makes one run, whatever the run's folder names."""
    run, file = plugged
    noted = json.loads((run / "plugins.json").read_text())
    assert noted == [{"path": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}]
    (run / "card.json").rename(run / "card.old")
    small = [*SMALL_TRAIN, f"--runs={run.parent.parent}", "--wandb=off"]
    commands_without = {
        "train": small,
        "search": [f"--config={run / 'config.yaml'}", "--name=again"],
        "search --resume": ["--resume", str(run)],
        "report": [str(run), f"--output={tmp_path / 'page.html'}"],
    }
    for name, argv in commands_without.items():
        words = [*name.split(), *argv]
        error = refused(main, words, capsys)
        assert f"--plugins '{file}'" in error, name
        assert "noted_" in error, name
    with monkeypatch.context() as early:
        early.setattr(commands, "may_be_extended", lambda: False)
        error = refused(search, ["--resume", str(run)], capsys)
        assert f"--plugins '{file}'" in error
    # An error about anything else does not speak of plugins.
    error = refused(train, [*small, "--data.batch_size=5000", "--model.genotype=darts_v1"], capsys)
    assert "--plugins" not in error
    error = refused(search, [f"--config={run / 'config.yaml'}", "--model.nodes=0"], capsys)
    assert "--plugins" not in error
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(spaces, "_SPACES", dict(spaces._SPACES))
    (run / "card.old").rename(run / "card.json")
    main(["report", str(run), f"--output={tmp_path / 'page.html'}", f"--plugins={file}"])
    assert "noted_conv" in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize(
    "text",
    ["", "[", "[3]", '{"path": 3}', '[{"path": "a.py"}]', '["x"]', "null"],
)
def test_a_damaged_note_of_plugins_is_no_matter(text, tmp_path):
    (tmp_path / "plugins.json").write_text(text)
    assert lacking_plugins(tmp_path, []) is None


def test_a_note_of_plugins_is_compared_by_content_and_prints_nothing_strange(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("x = 1\n")
    note_plugins(tmp_path, [str(file)])
    moved = tmp_path / "b" / "c.py"
    moved.parent.mkdir()
    moved.write_text("x = 1\n")
    assert lacking_plugins(tmp_path, [str(moved)]) is None
    file.write_text("x = 2\n")
    assert "another content" in str(lacking_plugins(tmp_path, [str(file)]))
    strange = [{"path": "\x1b[2J\n; rm -r .", "sha256": ""}]
    (tmp_path / "plugins.json").write_text(json.dumps(strange))
    told = str(lacking_plugins(tmp_path, []))
    assert told.isprintable()
    assert "'" in told  # quoted for a shell


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """Runs that were begun in this order: search/a, search/b, train/c."""
    for age, name in enumerate(["search/a", "search/b", "train/c"]):
        run = tmp_path / name
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(f"model: {{channels: {age + 1}}}\n")
        os.utime(run / "config.yaml", (age, age))
    (tmp_path / "search" / "latest").symlink_to("a")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "named", "taken"),
    [
        (search, [], "search/b"),
        (search, ["a"], "search/a"),
        (search, ["latest"], "search/a"),
        (train, [], "train/c"),
        (search, ["{root}/search/a"], "search/a"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_the_run_that_is_named_or_the_newest_goes_on(command, named, taken, first, begun, capsys):
    """With the settings of its config, in its own folder."""
    words = ["--resume", *(word.format(root=begun) for word in named)]
    other = ["--runs", str(begun)]
    config = printed(command, *(words + other if first else other + words), capsys=capsys)
    run = begun / taken
    assert (config["runs"], config["name"]) == (str(begun), run.name)
    assert (
        config["model"]["channels"]
        == yaml.safe_load((run / "config.yaml").read_text())["model"]["channels"]
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--resume", "z"], ["'z'"]),
        (["--resume", "{root}/train/c"], ["expected a run of search"]),
        (["--resume", "--data.name=mnist"], ["resumed run keeps its settings", "--data.name"]),
        (["--resume", "--config=mnist"], ["resumed run keeps its settings", "--config"]),
        (["--resume", "--runs={root}/none"], ["no run in", "none"]),
        (["--resume", "a", "--name=b"], ["--name"]),
    ],
)
def test_what_cannot_go_on_is_said_in_one_line(argv, words, begun, capsys):
    argv = [f"--runs={begun}", *(word.format(root=begun) for word in argv)]
    error = refused(search, argv, capsys)
    assert [word for word in ("resume: ", *words) if word not in error] == [], error


def test_a_run_that_has_ended_is_no_error(begun, capsys):
    run = begun / "search" / "b"
    (run / "card.md").write_text("")
    assert printed(search, "--resume", f"--runs={begun}", capsys=capsys)["name"] == "b"
    (run / "card.json").write_text("")
    with pytest.raises(SystemExit) as ended:
        search(["--resume", f"--runs={begun}"])
    assert not ended.value.code
    assert f"{run} has ended" in capsys.readouterr().out


def searched(root: Path, **config) -> None:
    """A search that has found a cell, with this config."""
    run = root / "search" / "old"
    run.mkdir(parents=True)
    dn.load_genotype("darts_v1").to_json(run / "genotype.json")
    (run.parent / "latest").symlink_to("old")
    (run / "config.yaml").write_text(yaml.safe_dump(config))


NAMED = {
    "the newest": [],
    "a name": ["--model.genotype=old"],
    "a folder": ["--model.genotype={root}/search/old"],
    "a file": ["--model.genotype={root}/search/old/genotype.json"],
}


@pytest.mark.parametrize("named", NAMED)
def test_a_training_takes_over_the_data_of_the_search_of_its_cell(named, tmp_path, capsys):
    """With the config that is shipped for them, else with that for digits and the search's stem."""

    def config_of(runs):
        argv = [word.format(root=runs) for word in NAMED[named]]
        return printed(train, *argv, f"--runs={runs}", capsys=capsys)

    root = '/home/josé/"mine"\\x'
    data, model = {"name": "mnist", "root": root, "grey": True}, {"stem": "cifar"}
    searched(tmp_path / "a", data=data, model=model)
    config = config_of(tmp_path / "a")
    assert {key: config["data"][key] for key in data} == data
    shipped = read_config(ROOT / "configs" / "train" / "mnist.yaml")
    assert {key: config["model"][key] for key in shipped["model"]} == shipped["model"]
    data = {"name": "image_folder", "root": "x", "test_fraction": 0.2, "flip": False}
    own = {"batch_size": 7, "validation_fraction": 0.4, "seed": 3, "train_samples": 9}
    searched(tmp_path / "b", data={**data, **own}, model={"stem": "cifar", "stem_stride": 2})
    config = config_of(tmp_path / "b")
    assert {key: config["data"][key] for key in data} == data
    assert {key for key in own if config["data"][key] == own[key]} == set()
    assert (config["model"]["stem"], config["model"]["stem_stride"]) == ("cifar", 2)
    shipped = read_config(ROOT / "configs" / "train" / "small.yaml")
    assert config["trainer"]["max_epochs"] == shipped["trainer"]["max_epochs"]


def test_a_search_hands_on_all_that_says_what_its_images_are():
    """A new setting of the data is handed on, unless it is listed as one of the training."""
    assert set(defaults.OF_A_TRAINING) <= {field.name for field in fields(dn.DataConfig)}
    assert "root" not in defaults.OF_A_TRAINING


def test_a_cell_that_lies_alone_is_not_trained_on_other_data_unasked(tmp_path, capsys):
    """Its search's config is not there, so the data have to be named."""
    meta = {"dataset": "image_folder"}
    file = tmp_path / "cell.json"
    replace(dn.load_genotype("darts_v1"), meta=meta).to_json(file)
    argv = [f"--model.genotype={file}", f"--runs={tmp_path}"]
    error = refused(train, argv, capsys)
    assert [word for word in ("data.name", "image_folder", str(file)) if word not in error] == []
    for more in (["--data.name=mnist"], ["--config=mnist"]):
        assert printed(train, *argv, *more, capsys=capsys)["data"]["name"] == "mnist"
    replace(dn.load_genotype("darts_v1"), meta={"dataset": "digits"}).to_json(file)
    assert printed(train, *argv, capsys=capsys)["data"]["name"] == "digits"


@pytest.mark.parametrize("argv", [["--data.name=digits"], ["--config=digits"]])
@pytest.mark.parametrize("named", [[], ["--model.genotype=old"]])
def test_data_that_are_named_count(argv, named, tmp_path, capsys):
    searched(tmp_path, data={"name": "mnist"}, model={})
    config = printed(train, *argv, *named, f"--runs={tmp_path}", capsys=capsys)
    assert config["data"]["name"] == "digits"


@pytest.mark.parametrize("text", ["data: 3\n", "a: [", "{}"])
def test_a_damaged_config_of_the_newest_search_is_named(text, tmp_path, capsys):
    searched(tmp_path)
    file = tmp_path / "search" / "old" / "config.yaml"
    file.write_text(text)
    assert str(file) in refused(train, [f"--runs={tmp_path}"], capsys)


def test_the_cell_is_a_published_one_a_searchs_or_the_newest(tmp_path, monkeypatch):
    """A name that is also a published cell's, or a path that is there, is that."""
    for name in ("old", "darts_v1"):
        folder = tmp_path / "search" / name
        folder.mkdir(parents=True)
        dn.load_genotype("gdas").to_json(folder / "genotype.json")
    (tmp_path / "search" / "latest").symlink_to("old")
    old = str(tmp_path / "search" / "old")
    taken = []

    def stop(cell, *args, **settings):
        taken.append(cell)
        raise KeyboardInterrupt

    monkeypatch.setattr("darts_noise.runs.train.train", stop)
    named = [None, "old", "darts_v1", "DARTS_V2", old]
    for name in named:
        argv = [] if name is None else [f"--model.genotype={name}"]
        with pytest.raises(SystemExit):
            train([*argv, "--config=digits", f"--runs={tmp_path}"])
    assert taken == [old, old, "darts_v1", "DARTS_V2", old]


def test_a_search_without_a_cell_is_named(tmp_path, capsys):
    run = tmp_path / "search" / "stopped"
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    error = refused(train, ["--model.genotype=stopped", f"--runs={tmp_path}"], capsys)
    assert f"{run} has no cell yet" in error
    assert "--resume" in error


def test_a_genotype_may_be_given_as_text(tmp_path):
    """It is longer than a file's name may be."""
    text = dn.load_genotype("gdas").to_text()
    assert dn.load_genotype(defaults.find_cell(text, str(tmp_path), [])) == dn.load_genotype("gdas")
