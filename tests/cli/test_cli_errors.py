"""Errors on the command line: one line that names the key, status 2, and no files."""

from pathlib import Path

import pytest
from conftest import in_a_fork, refused, search, train

from darts_noise.cli import commands, names
from darts_noise.cli.program import main

FOUND_IN_THE_PARSER = [
    (search, ["--model.chanels", "3"], ["'--model.channels'"]),
    (search, ["--channels=3"], ["'--model.channels'"]),
    (search, ["--modl.channels=3"], ["'--model.channels'"]),
    (search, ["--trainer", "t.yaml"], ["--trainer.KEY"]),
    (search, ["mnist"], ["'mnist'"]),
    (search, ["--model.channels", "abc"], ["model.channels", "int", "'abc'"]),
    (search, ["--model.macro", "3"], ["model.macro", "list", "'3'"]),
    (search, ["--model.mixup", "1"], ["'--model.mixup'", "train.py"]),
    (search, ["--model.seed", "1"], ["'--model.seed'", "'--seed'"]),
    (
        search,
        ["--config", "nowhere.yaml"],
        ["config: ", "'nowhere.yaml'", "small", "variants/gdas"],
    ),
    (search, ["--config", "mnst"], ["config: ", "'mnst'", "mnist", "variants/gdas"]),
    (search, ["--config"], ["--config"]),
    (search, ["--seed", "9" * 20], ["seed: ", "4294967295", "9" * 20]),
    (search, ["--seed", "-1"], ["seed: ", "0 to", "-1"]),
    (search, ["--name", "n" * 101], ["name: ", "at most 100 letters"]),
    (search, ["--name", "../x"], ["name: ", "'../x'"]),
    (search, ["--name", "latest"], ["name: ", "'latest'"]),
    (search, ["--wandb", "maybe"], ["wandb: ", "auto, off, offline, online"]),
    (search, ["--data.image_size=0"], ["data.image_size: ", "1 or more", "0"]),
    (search, ["--trainer.max_epochs", "0"], ["trainer.max_epochs: ", "1 or more", "0"]),
    (search, ["--trainer.limit_train_batches", "0"], ["trainer.limit_train_batches: "]),
    (search, ["--model.learning_rate=.inf"], ["model.learning_rate: ", "0 or more", "inf"]),
    (search, ["--model.alpha_learning_rate=.nan"], ["model.alpha_learning_rate: ", "nan"]),
    (search, ["--strategy_steps=0"], ["model.strategy_steps: ", "1 or more", "0"]),
    (search, ["--strategy_steps=many"], ["model.strategy_steps: ", "int", "'many'"]),
    (
        search,
        ["--model.objectives={adversarial: {weight: -1}}"],
        ["model.objectives.adversarial.weight: ", "0 or more", "-1"],
    ),
    (search, ["--model.objectives={adversarial: 1}"], ["model.objectives: ", "{NAME: {}}"]),
    (search, ["--model.objectives=[latency]"], ["model.objectives: ", "{NAME: {}}"]),
    (search, ["--strategi=random"], ["'--strategy'"]),
    (
        search,
        ["--strategy.evolution.population", "20"],
        ["--strategy '{evolution: {population: 20}}'"],
    ),
    (search, ["--model.macro.gain=[bounded]"], ["--model.macro '{gain: [bounded]}'"]),
    (search, [f"--model.nodes={'x' * 5000}"], ["model.nodes: ", "int", "xx...xx"]),
    (search, ["--seed 1"], ["unknown option '--seed 1'", "a word of its own"]),
    (search, ["--seed.first=1"], ["unknown option '--seed.first'", "'--seed'"]),
    (search, ["--strategy_step=9"], ["'--strategy_steps'"]),
    (search, ["--model.strateg=random"], ["'--model.strategy'"]),
    (search, ["--plugins=nowhere.py"], ["plugins: ", "'nowhere.py'"]),
    (train, ["--model.space", "darts"], ["'--model.space'", "search.py"]),
    (train, ["--data.cutot", "3"], ["'--data.cutout'"]),
    (train, ["--noise_sample", "3"], ["'--noise_samples'"]),
    (train, ["--noise_grid.seed=2"], ["'--noise_grid.seeds'"]),
    (train, ["--noise_grid.weight_decay=-1"], ["noise_grid.weight_decay: ", "0 or more", "-1"]),
    (train, ["--noise_grid.sgd_rates=[0]"], ["noise_grid.sgd_rates: "]),
    (train, ["--noise_grid.seeds=2"], ["noise_grid: ", "quick"]),
    (train, ["--noise_protocol=convergd"], ["noise_protocol: ", "'converged'"]),
    (train, ["--noise_protocol=selectivity", "--noise_controls=[]"], ["noise_controls: "]),
    (train, ["--noise_controls=[resnet18]"], ["noise_controls: ", "quick"]),
    (train, ["--noise_samples=0"], ["noise_samples: ", "1 or more", "0"]),
    (train, ["--noise_epochs=0"], ["noise_epochs: ", "1 or more", "0"]),
    (train, ["--model.learning_rate=.inf"], ["model.learning_rate: ", "inf"]),
    (train, ["--noisy_label=co_teaching"], ["'--noisy_labels'"]),
    (train, ["--data.wrong_labels=1"], ["data.wrong_labels: ", "less than 1", "1"]),
    (train, ["--data.wrong_labels_kind=pair"], ["data.wrong_labels_kind: ", "'pairwise'"]),
    (train, ["--noisy_labels=small_loss", "--model.mixup=1"], ["model.noisy_labels: ", "mixup"]),
    (train, ["--adversarial.eps=8"], ["model.adversarial_eps: ", "at most 1", "8"]),
    (train, ["--adversarial.steps=3"], ["model.adversarial_eps: ", "more than 0", "steps"]),
    (train, [], ["no search in", "search.py", "--model.genotype"]),
]
FOUND_LATER = [
    (search, ["--model.space", "drats"], ["model.space: ", "'darts'"]),
    (search, ["--model.stem", "smal"], ["model.stem: ", "'small'"]),
    (search, ["--model.noise_family", "unifrm"], ["model.noise_family: ", "'uniform'"]),
    (search, ["--model.noise_family={uniform: -1}"], ["model.noise_family: ", "weight", "-1"]),
    (search, ["--model.noise_family={uniform: 0}"], ["model.noise_family: ", "weight above 0"]),
    (search, ["--model.noise_family={unifrm: 1}"], ["model.noise_family: ", "'uniform'"]),
    (search, ["--model.noise_family=dataset"], ["model.noise_family: ", "dataset:NAME"]),
    (search, ["--model.noise_family=dataset:mnits"], ["model.noise_family: ", "'mnist'"]),
    (
        search,
        ["--model.noise_family=dataset:digits", "--model.noise_samples=2000"],
        ["model.noise_samples: ", "1438", "2000"],
    ),
    (search, ["--model.penalty", "twni"], ["model.penalty: ", "'twin'"]),
    (search, ["--model.penalty={twin: {form: lg}}"], ["model.penalty.twin.form: ", "'log'"]),
    (search, ["--model.penalty={twin: {frm: log}}"], ["model.penalty: ", "'form'"]),
    (search, ["--model.penalty={gram: {samples: 2.5}}"], ["model.penalty.gram.samples: ", "2.5"]),
    (search, ["--model.penalty={twin: null, gram: null}"], ["model.penalty: "]),
    (
        search,
        ["--model.penalty=gram", "--model.hypergradient=exact", "--model.optimiser=sgd"],
        ["model.hypergradient: ", "first_order", "exact"],
    ),
    (search, ["--model.objectives=adversrial"], ["model.objectives: ", "'adversarial'"]),
    (search, ["--model.objectives={latency: {wait: 1}}"], ["model.objectives: ", "'wait'"]),
    (
        search,
        ["--model.objectives={adversarial: {eps: 8}}"],
        ["model.objectives.adversarial.eps: ", "at most 1", "8"],
    ),
    (search, ["--strategy", "randm"], ["model.strategy: ", "'random'"]),
    (search, ["--strategy={random: {rung: 2}}"], ["model.strategy: ", "'rungs'"]),
    (search, ["--strategy={random: {rungs: 0}}"], ["model.strategy.random.rungs: ", "0"]),
    (search, ["--strategy={random: {rungs: 999}}"], ["model.strategy.random.rungs: ", "4^998"]),
    (
        search,
        ["--strategy=random", "--model.macro={colour: [all, chroma]}"],
        ["model.macro.colour: ", "for chroma, got 1"],
    ),
    (
        search,
        ["--model.race=8", "--model.macro={colour: [all, chroma], logit_scale: [64]}"],
        ["model.macro.colour: ", "for chroma, got 1"],
    ),
    (search, ["--model.race=2", "--model.macro=[{gain: fre}, {}]"], ["model.macro.gain: ", "fre"]),
    (search, ["-cdigits", "--model.race=0"], ["model.macro: ", "expected one mapping", "race"]),
    (
        search,
        ["-cdigits", "--model.race=0", "--strategy=evolution"],
        ["model.macro: ", "one mapping", "'evolution'"],
    ),
    (search, ["--model.race=2", "--model.macro=[gain]"], ["model.macro: "]),
    (search, ["--model.macro={gain: {a: b}}"], ["model.macro.gain: "]),
    (search, ["-cdigits", "--strategy=random"], ["model.race: ", "expected 0"]),
    (search, ["--strategy={enas: {share: 2}}"], ["model.strategy.enas.share: ", "at most 1"]),
    (search, ["--strategy={random: 3}"], ["model.strategy"]),
    (search, ["--strategy={random:{rungs: 3}}"], ["model.strategy: ", "space after each colon"]),
    (search, ["--strategy={darts: {rungs: 3}}"], ["model.strategy: ", "'rungs'"]),
    (search, ["--strategy={random: null, nas: null}"], ["model.strategy: ", "the name of a"]),
    (search, ["--strategy={evolution: {sample: 30}}"], ["sample: ", "population (10)", "30"]),
    (search, ["--strategy={nas: {baseline: 1.0}}"], ["model.strategy.nas.baseline: ", "1.0"]),
    (search, ["--strategy=nas", "--model.variants=gdas"], ["model.variants: ", "'nas'", "gdas"]),
    (search, ["--strategy=nas", "--model.race=2"], ["model.race: ", "expected 0", "'nas'", "2"]),
    (search, ["--model.num_cells", "1"], ["model.num_cells: ", "3 or more", "1"]),
    (search, ["--model.nodes", "0"], ["model.nodes: ", "1 to 64", "0"]),
    (search, ["--data.name", "mnits"], ["data.name: ", "'mnist'"]),
    (search, ["--data.batch_size", "5000"], ["data.batch_size: ", "5000", "719"]),
    (search, ["--data.validation_fraction", "0"], ["data.validation_fraction: "]),
    (search, ["--trainer.devices=-2"], ["trainer.devices: ", "-2"]),
    (search, ["--trainer.devices=tow"], ["trainer.devices: ", "'tow'"]),
    (search, ["--trainer.devices=[0, 0]"], ["trainer.devices: ", "[0, 0]"]),
    (search, ["--trainer.deterministic=maybe"], ["trainer.deterministic: ", "warn", "'maybe'"]),
    (search, ["--trainer.limit_val_batches=1.5"], ["trainer.limit_val_batches: ", "1.5"]),
    (search, ["--trainer.max_time={hors: 1}"], ["trainer.max_time: ", "'hours'"]),
    (search, ["--trainer.num_nodes=0"], ["trainer.num_nodes: ", "1 or more"]),
    (search, ["--trainer.accelerator=tpu"], ["trainer: "]),
    (search, ["--trainer.precision", "17"], ["trainer.precision: ", "bf16-mixed", "17"]),
    (search, ["--trainer.precision", "16-mixed"], ["trainer.precision: ", "bf16-mixed"]),
    (search, ["--trainer.gradient_clip_val", "1"], ["trainer.gradient_clip_val: "]),
    (search, ["--trainer.accumulate_grad_batches", "2"], ["trainer.accumulate_grad_batches: "]),
    (search, ["--trainer.max_epochs", "2"], ["trainer.max_epochs: ", "model.warmup_epochs (2)"]),
    (search, ["--trainer.callbacks=[EarlyStoping]"], ["trainer.callbacks: ", "EarlyStoping"]),
    (search, ["--data.root=photos"], ["data.root: ", "'digits'", "'photos'", "--config small"]),
    (search, ["-cdigits", "--data.root=x"], ["data.root: ", "'digits'", "--config small"]),
    (
        search,
        ["--data.root=photos", "--model.noise_family={dataset:mnist: {root: own}}"],
        ["data.root: ", "'photos'"],
    ),
    (
        train,
        ["--model.genotype=darts_v1", "--data.root=photos"],
        ["data.root: ", "'digits'", "--data.name image_folder"],
    ),
    (train, ["--model.genotype=darts_v1", "--model.channels=0"], ["model.channels: ", "0"]),
    (train, ["--model.genotype", "dats_v2"], ["model.genotype: ", "'darts_v2'"]),
    (train, ["--model.genotype", "gone.json"], ["gone.json: No such file"]),
    (
        train,
        ["--model.genotype=darts_v1", "--noisy_labels=co_teching"],
        ["model.noisy_labels: ", "'co_teaching'"],
    ),
    (
        train,
        ["--model.genotype=darts_v1", "--noisy_labels={small_loss: {forget_rate: 1}}"],
        ["model.noisy_labels.small_loss.forget_rate: ", "less than 1"],
    ),
    (
        train,
        ["--model.genotype=darts_v1", "--noise_family=unifrm"],
        ["noise_family: ", "'uniform'"],
    ),
    (
        train,
        ["--model.genotype=darts_v1", "--noise_family={uniform: 1, blur: -1}"],
        ["noise_family: ", "weight", "-1"],
    ),
    (
        train,
        ["--model.genotype=darts_v1", "--noise_family=dataset:mnits"],
        ["noise_family: ", "'mnist'"],
    ),
]


@pytest.mark.parametrize(("script", "argv", "words"), [*FOUND_IN_THE_PARSER, *FOUND_LATER])
def test_one_line_and_status_two(script, argv, words, capsys, tmp_path):
    error = refused(script, [*argv, "--runs", str(tmp_path / "runs")], capsys)
    assert [word for word in words if word not in error] == [], error
    assert not any(tmp_path.iterdir())


def registered():
    """The names of each registry, in the order of the table of the names that are known early."""
    import darts_noise as dn
    from darts_noise.cli import names
    from darts_noise.nets.stems import STEMS
    from darts_noise.nets.supernet import IMPLEMENTATIONS
    from darts_noise.search.hypergradients import METHODS

    found = {
        names.DATASETS: dn.list_datasets(),
        names.SPACES: dn.list_spaces(),
        names.STEMS: sorted(STEMS),
        names.SUPERNETS: sorted(IMPLEMENTATIONS),
        names.METHODS: sorted(METHODS),
        names.PENALTIES: dn.list_penalties(),
        names.VARIANTS: dn.list_variants(),
        names.STRATEGIES: dn.list_strategies(),
        names.OBJECTIVES: dn.list_objectives(),
        names.NOISE: dn.list_noise(),
        names.NOISY_LABELS: dn.list_noisy_labels(),
    }
    return [*(found[valid] for _, valid in names.BUILT_IN.values()), sorted(dn.list_sections())]


def test_the_names_that_are_known_early_are_those_of_the_registries():
    """In a fork, because other tests register further names."""
    of_settings = [valid for _, valid in names.BUILT_IN.values()]
    for valid, names_of in zip([*of_settings, names.SECTIONS], in_a_fork(registered), strict=True):
        assert list(valid) == names_of


@pytest.mark.parametrize("key", names.BUILT_IN)
def test_a_misspelt_name_is_refused_early_as_by_its_registry(key, capsys, tmp_path, monkeypatch):
    """Early: before the import of torch, when nobody can have registered other names."""
    _, valid = names.BUILT_IN[key]
    kind = train if "nois" in key and key != "model.noise_family" else search
    argv = ["--model.genotype=darts_v1" if kind is train else "--model.optimiser=sgd"]
    argv += [f"--{key}={valid[0]}x", f"--runs={tmp_path}"]
    if key == "unseen_families":
        kind, argv = main, ["study", "digits", f"--{key}=[{valid[0]}x]", f"--runs={tmp_path}"]
    late = refused(kind, argv, capsys)
    monkeypatch.setattr(commands, "may_be_extended", lambda: False)
    early = refused(kind, argv, capsys)
    assert early.partition(" (valid: ")[0] == late.partition(" (valid: ")[0]
    assert f"{key}: unknown " in late


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--trainer.strategy=dpp"], ["trainer.strategy: ", "'ddp'"]),
        (["--trainer.profiler=smple"], ["trainer.profiler: ", "'simple'"]),
        (["--trainer.logger=foo"], ["trainer.logger: ", "pytorch_lightning.loggers.NAME"]),
        (["--trainer.logger=nopackage.Foo"], ["trainer.logger: ", "'nopackage'"]),
        (["--trainer.logger=pytorch_lightning.loggers.CSVLoger"], ["'CSVLogger'"]),
        (["--trainer.callbacks=[EarlyStoping]"], ["trainer.callbacks: ", "'EarlyStopping'"]),
        (
            ["--trainer.callbacks=[{class_path: benchmarks.startup.EndAtFirstStp}]"],
            ["'EndAtFirstStep'"],
        ),
        (["--model.noise_family=dataset:mnits"], ["model.noise_family: ", "'mnist'"]),
    ],
)
def test_a_class_that_no_source_has_is_refused_early(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "may_be_extended", lambda: False)
    error = refused(search, [*argv, f"--runs={tmp_path}"], capsys)
    assert all(word in error for word in words), error


@pytest.mark.parametrize(
    "values",
    [
        {"strategy": "ddp", "accelerator": "gpu", "profiler": "simple", "logger": True},
        {"logger": "CSVLogger", "callbacks": ["pytorch_lightning.callbacks.EarlyStopping"]},
        {"strategy": "pytorch_lightning.strategies.DDPStrategy", "profiler": None},
        {"callbacks": [{"class_path": "benchmarks.startup.EndAtFirstStep"}], "plugins": None},
        {"callbacks": "MyOwnCallback"},
    ],
)
def test_classes_that_exist_or_may_exist_are_not_refused_early(values):
    names.require_built_in({f"trainer.{key}": value for key, value in values.items()})


def test_the_strategies_of_lightning_are_known():
    from pytorch_lightning.strategies import StrategyRegistry

    registered = [*StrategyRegistry.available_strategies(), "auto"]
    assert sorted(registered) == list(names.TRAINER_STRATEGIES)


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (search, ["--data.root={root}", "--model.noise_family=dataset:mnist"]),
        (
            train,
            ["--model.genotype=darts_v1", "--data.root={root}", "--noise_family=dataset:mnist"],
        ),
        (search, ["--config={root}/config.yaml", "--model.noise_family=dataset:mnist"]),
        (search, ["--data.name=mnist", "--data.root={root}"]),
    ],
)
def test_a_root_that_the_noise_or_the_data_read_is_not_refused(command, argv, tmp_path, capsys):
    """The folder is empty, so the message names what is missing in it."""
    (tmp_path / "config.yaml").write_text(f"data: {{root: {tmp_path}}}\n")
    filled = [word.replace("{root}", str(tmp_path)) for word in argv]
    error = refused(command, [*filled, f"--runs={tmp_path / 'runs'}"], capsys)
    assert "data.root: expected none" not in error
    assert f"{tmp_path / 'MNIST'}" in error


def test_a_root_in_a_config_without_the_data_is_refused(tmp_path, capsys):
    file = tmp_path / "own.yaml"
    file.write_text("data: {root: photos}\n")
    argv = ["--config", str(file), f"--runs={tmp_path / 'runs'}"]
    assert "data.root: expected none" in refused(search, argv, capsys)
    file.write_text("data: {root: photos, name: digits}\n")  # as in the config of a run
    assert "model.stem: " in refused(search, [*argv, "--model.stem=x"], capsys)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model:\n  chanels: 3\n", ["bad.yaml", "'model.channels'"]),
        ("model:\n  channels: abc\n", ["model.channels: ", "int", "'abc'"]),
        ("model:\n  mixup: 1\n", ["'model.mixup'", "train.py"]),
        ("strategi: random\n", ["bad.yaml", "'model.strategy'"]),
        ("model: 8\n", ["bad.yaml: model: ", "8"]),
        ("model: [[1]]\n", ["bad.yaml: model: ", "list"]),
        ("data: [1]\n", ["bad.yaml: data: ", "list"]),
        ("trainer: other.yaml\n", ["bad.yaml: trainer: ", "'other.yaml'"]),
        ("model:\n  channels: 3\n  nodes: 2\n  channels: 4\n", ["model.channels", "2 and 4"]),
        ("model: {}\nmodel: {}\n", ["bad.yaml: model ", "lines 1 and 2"]),
        ("model: &a {channels: *a}\n", ["model.channels: ", "int"]),
        ("model:\n  noise_family: {uniform: a}\n", ["model.noise_family: ", "weight"]),
        ("model:\n  noise_family: [uniform]\n", ["model.noise_family: "]),
        ("model:\n  noise_family:\n", ["model.noise_family: "]),
        ("model:\n  noise_family: 3\n", ["model.noise_family: "]),
        ("model:\n  penalty: [twin]\n", ["model.penalty: "]),
        ("model:\n  penalty: 3\n", ["model.penalty: "]),
        ("model:\n  penalty:\n    twin: 3\n", ["model.penalty: "]),
        ("model: " + "9" * 5000 + "\n", ["bad.yaml: "]),
        ('"a\\a": 1\n"a\\a": 2\n', [r"bad.yaml: 'a\x07' "]),
        ("model: [1\n", ["bad.yaml: not YAML: "]),
        ("model: {stem: \ue000 a: 1}\n", ["bad.yaml: not YAML: ", r"\ue000"]),
        ("- 1\n", ["bad.yaml: "]),
        ("", ["bad.yaml: "]),
        ("!!python/object/apply:os.system ['true']\n", ["bad.yaml: ", "tag", "line 1"]),
        ("model: !mine {}\n", ["bad.yaml: ", "'!mine'", "line 1"]),
        ("model: {? [a] : 3}\n", ["bad.yaml: ", "line 1"]),
        ("? \nmodel: {}\n", ["bad.yaml: ", "line 1"]),
        ("model: {}\n3: {}\n", ["bad.yaml: ", "line 2"]),
        ("model: {on: 1}\n", ["bad.yaml: ", "line 1"]),
        ("modle: {}\n", ["bad.yaml: ", "'modle'", "'model'"]),
        ("model: {channels: !!int 'abc'}\n", ["bad.yaml: ", "abc"]),
        ("trust: mine\n", ["trust: ", "command line"]),
        ("resume: r\n", ["resume: ", "command line"]),
        ("plugins: a.py\n", ["plugins: ", "command line"]),
        ("plugins: [a.py]\nmodel: {chanels: 3}\n", ["plugins: ", "command line"]),
    ],
)
@pytest.mark.parametrize("first", [[], ["--config=digits"]], ids=["alone", "later"])
def test_a_bad_config_file(first, text, words, capsys, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text, "utf-8")
    (tmp_path / "a.py").write_text("raise SystemExit('imported')")
    error = refused(search, [*first, "--config", str(path), f"--runs={tmp_path / 'runs'}"], capsys)
    assert [word for word in words if word not in error] == [], error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, "32 levels"),
        (b"{a: " * 2_000, "32 levels"),
        (b"a: &a [x]\nb: [" + b"*a, " * 30 + b"]", "20 aliases"),
        (b"#" * (1 << 21), "1048576 bytes"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_a_config_that_nobody_wrote(content: bytes, words: str, capsys, tmp_path: Path):
    """Read without a limit, the first of them ends the process with a signal."""
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    error = refused(search, ["--config", str(path)], capsys)
    assert "bad.yaml: " in error
    assert words in error
