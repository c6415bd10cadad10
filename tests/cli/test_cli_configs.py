"""Every shipped config is parsed and built, and states no key twice or at its default's value."""

import inspect
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from darts_noise.cli.search import SearchCLI
from darts_noise.cli.train import TrainCLI

import darts_noise as dn

CONFIGS = sorted((ROOT / "configs").glob("search/*.yaml")) + sorted(
    (ROOT / "configs").glob("train/*.yaml")
)
VARIANTS = sorted((ROOT / "configs" / "variants").glob("*.yaml"))
PENALTIES = sorted((ROOT / "configs" / "penalties").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_it_builds(path: Path, tmp_path):
    cli_class, module_class = {
        "search": (SearchCLI, dn.SearchModule),
        "train": (TrainCLI, dn.TrainModule),
    }[path.parent.name]
    cli = cli_class(module_class, ["--config", str(path)])
    trainer = cli.make_trainer()
    assert trainer.max_epochs > 4 + getattr(cli.model.config, "warmup_epochs", 0)
    data = cli.datamodule
    assert data.name == {"imagenet": "image_folder"}.get(path.stem, path.stem)
    module = cli.model
    if data.name == "digits":
        data.setup()
    if isinstance(module, dn.TrainModule):
        module.build(dn.load_genotype("darts_v2"), 10, 1 if data.name in ("digits", "mnist") else 3)
    elif data.name == "digits":
        module.build(data)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_line_says_something(path: Path):
    """A key that a user may want to turn has a comment; the file says what it is for."""
    text = path.read_text()
    assert text.startswith("# ")
    assert yaml.safe_load(text).keys() == {"data", "model", "trainer"}


@pytest.mark.parametrize("path", VARIANTS, ids=lambda p: p.stem)
def test_a_variant_lies_over_a_search_config_and_states_every_setting(path: Path):
    digits = ROOT / "configs" / "search" / "digits.yaml"
    cli = SearchCLI(dn.SearchModule, ["--config", str(digits), "--config", str(path)])
    assert list(cli.model.variants) == [path.stem]
    assert cli.model.config.channels == 8
    stated = cli.model.config.variants[path.stem]
    signature = inspect.signature(type(cli.model.variants[path.stem]))
    default = {k: p.default for k, p in signature.parameters.items()}
    assert stated == default
    assert {k: type(v) for k, v in stated.items()} == {k: type(v) for k, v in default.items()}
    cli.datamodule.setup()
    cli.model.build(cli.datamodule)


def test_several_presets_lie_over_each_other(tmp_path):
    """Each file adds its variants; of one that two files state, the later settings count."""
    presets = {path.stem: path for path in VARIANTS}
    later = tmp_path / "later.yaml"
    later.write_text("model: {channels: 6, variants: {gdas: {temperature: 5e0}}}\n")
    argv = ["--model.channels=4", "--config", str(presets["gdas"])]
    argv += [f"--config={presets['pc_darts']}", "-c", str(later)]
    config = SearchCLI(dn.SearchModule, argv).model.config
    assert config.variants == {
        "gdas": {"temperature": 5.0},
        "pc_darts": {"parts": 4, "edge_normalisation": True},
    }
    assert config.channels == 6
    later.write_text("model: {channels: 6, variants: gdas}\n")
    assert SearchCLI(dn.SearchModule, argv).model.config.variants["gdas"] is None
    none = SearchCLI(dn.SearchModule, [*argv, "--model.variants=null"]).model.config
    assert none.variants is None
    alone = SearchCLI(dn.SearchModule, ["--model.variants=gdas"]).model.config
    assert alone.variants == {"gdas": None}


def test_every_variant_has_a_preset():
    assert [path.stem for path in VARIANTS] == dn.list_variants()


@pytest.mark.parametrize("path", PENALTIES, ids=lambda p: p.stem)
def test_a_penalty_lies_over_a_search_config_and_states_every_setting(path: Path):
    digits = ROOT / "configs" / "search" / "digits.yaml"
    cli = SearchCLI(dn.SearchModule, ["--config", str(digits), "--config", str(path)])
    [(name, stated)] = cli.model.config.penalty.items()
    assert path.stem in (name, *(f"{name}_{word}" for word in stated.values()))
    allowed = inspect.signature(type(cli.model.penalty)).parameters
    assert {k: type(v) for k, v in stated.items()} == {
        k: type(p.default) for k, p in allowed.items()
    }
    assert all(getattr(cli.model.penalty, k) == v for k, v in stated.items())
    assert str(path.relative_to(ROOT)) in path.read_text()  # the command that it shows


def test_every_penalty_has_a_preset():
    stated = [yaml.safe_load(path.read_text())["model"]["penalty"] for path in PENALTIES]
    assert sorted(name for [name] in stated) == dn.list_penalties()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("lookahead", "lookahead"),
        ("{twin: {form: log}}", {"twin": {"form": "log"}}),
        ("{lookahead: {learning_rate: 5e-2}}", {"lookahead": {"learning_rate": 0.05}}),
        ("{gram: {samples: 4}}", {"gram": {"samples": 4}}),
        ("{shared: null}", {"shared": None}),
    ],
)
def test_an_option_takes_the_place_of_a_files_penalty(given, expected):
    preset = ["--config", str(PENALTIES[0]), f"--model.penalty={given}", "--model.twin_restart=0"]
    found = SearchCLI(dn.SearchModule, preset).model.config.penalty
    assert found == expected
    if isinstance(expected, dict):
        [(name, settings)] = expected.items()
        assert [type(v) for v in (found[name] or {}).values()] == [
            type(v) for v in (settings or {}).values()
        ]


def test_paper_presets_are_the_defaults():
    """DARTS, section 3.1 and appendix A.1: the figures of the search and of the retraining."""
    search = dn.SearchConfig()
    assert (search.channels, search.num_cells) == (16, 8)
    assert (search.learning_rate, search.learning_rate_min) == (0.025, 0.001)
    assert (search.momentum, search.weight_decay, search.gradient_clip) == (0.9, 3e-4, 5)
    assert (search.alpha_learning_rate, search.alpha_betas) == (3e-4, (0.5, 0.999))
    assert search.alpha_weight_decay == 1e-3
    train = dn.TrainConfig()
    assert (train.channels, train.num_cells) == (36, 20)
    assert (train.auxiliary_weight, train.drop_path) == (0.4, 0.2)
    assert (train.learning_rate, train.momentum, train.weight_decay) == (0.025, 0.9, 3e-4)
    assert dn.DataConfig().validation_fraction == 0.5
    assert (SearchCLI.max_epochs, TrainCLI.max_epochs) == (50, 600)


def test_the_imagenet_preset_is_the_papers():
    """DARTS, section 3.3 and appendix A.3."""
    config = yaml.safe_load((ROOT / "configs" / "train" / "imagenet.yaml").read_text())
    model, trainer = config["model"], config["trainer"]
    assert (config["data"]["image_size"], config["data"]["batch_size"]) == (224, 128)
    assert (model["channels"], model["num_cells"], model["stem"]) == (48, 14, "imagenet")
    assert (model["learning_rate"], model["learning_rate_decay"]) == (0.1, 0.97)
    assert (model["weight_decay"], model["label_smoothing"]) == (3e-5, 0.1)
    assert (model["auxiliary_weight"], model["drop_path"]) == (0.4, 0.0)
    assert (trainer["max_epochs"], trainer["gradient_clip_val"]) == (250, 5.0)
