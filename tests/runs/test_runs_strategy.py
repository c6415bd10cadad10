"""``search.py --strategy``: what a search without a supernet leaves, prints and resumes from."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import search
from rich.console import Console

import darts_noise as dn
from darts_noise.report.alpha_history import read_history
from darts_noise.report.page import make_page
from darts_noise.search import candidate_trainings
from darts_noise.search.candidate import read_candidates
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.shared_weights import SharedWeights
from darts_noise.search.strategies import strategy

DATA = {"name": "digits", "train_samples": 80, "batch_size": 20}
CONFIG = dn.SearchConfig(
    "low_pass",
    nodes=1,
    macro={"gain": ["free", "bounded"]},
    channels=4,
    num_cells=3,
    stem="small",
    noise_samples=40,
    candidate_epochs=1,
    strategy={"evolution": {"population": 2, "sample": 1}},
    strategy_steps=35,
)
"""A supernet could not mix the two gains."""
TRAINER = dn.TrainerConfig(accelerator="cpu", enable_progress_bar=False)
FILES = ("candidates.json", "metrics.csv", "history.json", "genotype.json")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate_trainings, "NOISE_EPOCHS", 2)


def search_in(folder: Path, config: dn.SearchConfig = CONFIG, **more: Any) -> dn.SearchResult:
    console = more.pop("console", None)
    run = dn.RunConfig(runs=str(folder), wandb="off", **{"name": "a", **more})
    data = dn.ImageDataModule(**DATA)
    return dn.search(data, config, trainer=TRAINER, run=run, console=console)


def test_it_leaves_what_every_search_leaves(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=1000)
    found = search_in(tmp_path, console=console)
    run = found.path
    for name in ("cells", "alpha", "film", "curves"):
        assert (run / f"{name}.png").stat().st_size > 0
    measured = read_candidates(run / "candidates.json")
    assert found.genotype == dn.load_genotype(run) == measured[0].genotype
    assert found.genotype.meta["dataset"] == "digits"
    assert found.genotype.meta["strategy"] == CONFIG.strategy
    assert (tmp_path / "search" / "latest").resolve() == run.resolve()
    assert found.alpha == {}

    steps = sum(candidate.steps for candidate in measured)
    card = json.loads((run / "card.json").read_text())
    assert card["gradient_steps"] == card["candidates_steps"] == steps >= 35
    assert steps - measured[-1].steps < 35 + 12
    assert (card["strategy_steps"], card["candidates"]) == (35, len(measured))
    assert card["objective"] == measured[0].objective
    network = dn.create_model(
        found.genotype, num_classes=10, in_channels=1, channels=4, num_cells=3, stem="small"
    )
    assert card["parameters"] == sum(p.numel() for p in network.parameters())
    assert "| Strategy | evolution (population 2, sample 1) |" in (run / "card.md").read_text()

    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == [str(n) for n in range(len(measured))]
    assert float(rows[-1]["search/step"]) == steps
    best = [float(row["objective/best"]) for row in rows]
    assert best == sorted(best, reverse=True)
    assert best[-1] == measured[0].objective
    history = read_history(run / "history.json")
    assert history.counted == "cell"
    assert history.moments[-1].genotype == found.genotype
    weights = history.moments[-1].weights
    for kind in ("normal", "reduce"):  # each node has both its edges in every cell
        assert [sum(row) for row in weights[kind]] == pytest.approx([1.0, 1.0], abs=1e-4)
    said = console.file.getvalue()
    assert said.count("\ncell ") == len(measured)
    assert f"step {steps:,}/35" in said
    page = make_page([run])
    assert "objective by cell" in page
    assert "Share of the last measured cells" in page


SHARED = {"share": 0.4, "samples": 6}


MEMORY = {"memory": 5, "memory_added": 3, "memory_replaced": 1, "supervised_batch": 2}
ENAS = {"enas": {**SHARED, **MEMORY, "controller_steps": 2, "hidden": 4}}
RANDOM_LABELS = {"random_labels": {**SHARED, "population": 3}}


def test_random_search_keeps_to_the_mappings_of_a_list(tmp_path: Path, no_drawings: None) -> None:
    macro = [{"gain": "free"}, {"gain": "bounded", "reduction": "average"}]
    found = search_in(tmp_path, replace(CONFIG, strategy="random", macro=macro, strategy_steps=120))
    cells = [c.genotype for c in read_candidates(found.path / "candidates.json")]
    pairs = {(cell.choice("gain"), cell.choice("reduction")) for cell in cells}
    assert pairs == {("free", "strided"), ("bounded", "average")}


@pytest.mark.parametrize(
    "name",
    ["nas", ENAS, RANDOM_LABELS, pytest.param("random", marks=pytest.mark.slow)],
)
def test_a_stopped_search_ends_as_the_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_drawings: None, name: Any
) -> None:
    config = replace(CONFIG, strategy=name)
    if isinstance(name, dict):  # a supernet has one gain
        config = replace(config, macro={"gain": ["bounded"]}, strategy_steps=50)
    whole = search_in(tmp_path, config, name="whole")
    usual, made = CandidateTrainings._measured, []

    def measured(*args: Any) -> Any:
        if len(made) == limit:
            raise KeyboardInterrupt
        made.append(args)
        return usual(*args)

    monkeypatch.setattr(CandidateTrainings, "_measured", measured)
    limit = 2
    with pytest.raises(dn.Interrupted):
        search_in(tmp_path, config)
    run = tmp_path / "search" / "a"
    assert not (run / "card.json").exists()
    assert len(read_candidates(run / "candidates.json")) == 2
    assert (run / "genotype.json").exists()
    made.clear()
    limit = -1
    console = Console(file=io.StringIO(), width=1000)
    again = search_in(tmp_path, config, name=None, resume=str(run), console=console)
    assert len(made) == whole.card["candidates"] - 2
    assert console.file.getvalue().count("\ncell ") == len(made)
    controllers = [path.name for path in whole.path.glob("controller.safetensors")]
    assert len(controllers) == (name in ("nas", ENAS))
    for file in (*FILES, *controllers):
        assert (run / file).read_bytes() == (whole.path / file).read_bytes(), file
    for key in ("gradient_steps", "objective", "candidates", "noise_fingerprint"):
        assert again.card[key] == whole.card[key]


def test_the_command_takes_a_strategy_of_a_plugin(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    no_drawings: None,
) -> None:
    monkeypatch.setattr(strategy, "_STRATEGIES", dict(strategy._STRATEGIES))
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import darts_noise as dn\n"
        "@dn.register_strategy('one_cell')\n"
        "class OneCell(dn.Strategy):\n"
        "    def ask(self):\n"
        "        return dn.Proposal(dn.Architecture(self.space).genotype())\n"
        "    def tell(self, candidate):\n"
        "        print('told', candidate.score)\n"
    )
    options = [f"--data.{key}={value}" for key, value in DATA.items()]
    options += ["--model.candidate_epochs=1", "--model.channels=4", "--model.noise_samples=40"]
    search(
        [
            *options,
            f"--plugins={plugin}",
            "--strategy=one_cell",
            "--strategy_steps=1",
            "--trainer.accelerator=cpu",
            f"--runs={tmp_path}",
            "--name=p",
        ]
    )
    said = capsys.readouterr().out
    assert said.count("told ") == 1
    assert "| Gradient steps" not in said
    assert f"next: python train.py --plugins {plugin} --runs {tmp_path}" in said


def test_shared_weights_count_in_the_figures_and_their_training_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_drawings: None
) -> None:
    config = replace(
        CONFIG, macro=None, strategy={"random_shared": SHARED}, strategy_steps=50, noise_weight=0.5
    )
    console = Console(file=io.StringIO(), width=1000)
    whole = search_in(tmp_path, config, name="whole", console=console)
    assert whole.card["supernet_steps"] == 20
    candidates = read_candidates(whole.path / "candidates.json")
    steps = 20 + sum(candidate.steps for candidate in candidates)
    assert whole.card["gradient_steps"] == steps >= 50
    rows = list(csv.DictReader((whole.path / "metrics.csv").open()))
    assert float(rows[-1]["search/step"]) == steps
    said = console.file.getvalue()
    assert f"step {steps:,}/50" in said
    assert said.count("\nshared weights  step ") == 20 // 2 // 2

    usual = SharedWeights.train

    def train(self: SharedWeights, *args: Any) -> None:
        if self.steps == 8:
            raise KeyboardInterrupt
        usual(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(SharedWeights, "train", train)
        with pytest.raises(dn.Interrupted):
            search_in(tmp_path, config)
    again = search_in(tmp_path, config, name=None, resume=str(tmp_path / "search" / "a"))
    for file in FILES:
        assert (again.path / file).read_bytes() == (whole.path / file).read_bytes(), file
