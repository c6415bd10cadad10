"""``darts-noise ensemble``: ordinary runs with other seeds, which can be resumed, and evaluated."""

import json
import signal
from pathlib import Path

import pytest
from conftest import refused, train

import darts_noise as dn
from darts_noise.cli.program import main
from darts_noise.errors import SettingError
from darts_noise.train.module import TrainModule

CELL = dn.Genotype(
    normal=[[["skip_connect", 0], ["conv_1x1", 1]]],
    normal_concat=[2],
    reduce=[[["max_pool_3x3", 0], ["conv_1x1", 1]]],
    reduce_concat=[2],
)
FEW = [
    "--model.genotype=cell.json",
    "--data.train_samples=60",
    "--data.batch_size=10",
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--model.channels=4",
    "--model.num_cells=3",
    "--model.auxiliary_weight=0",
    "--model.stem=small",
    "--wandb=off",
    "--seed=3",
]
QUICK = ["--attacks", "fgsm", "--eps", "0.1", "--samples", "30"]

pytestmark = pytest.mark.usefixtures("no_drawings")


@pytest.fixture(autouse=True)
def _in_a_folder_with_the_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    CELL.to_json("cell.json")


def card(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "card.json").read_text())
    for key in ("wall_time_s", "cell", "genotype"):
        found.pop(key, None)
    return found


def test_an_ensemble_that_was_stopped_goes_on_and_is_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step, steps = TrainModule.training_step, []

    def stopping(self: TrainModule, *batch: object) -> object:
        steps.append(self.config.seed)
        if len(steps) == 8:  # within the second member
            signal.raise_signal(signal.SIGTERM)
        return step(self, *batch)

    monkeypatch.setattr(TrainModule, "training_step", stopping)
    own = [*FEW, f"--runs={tmp_path}", "--name=e", "--members=2", "--bootstrap=true"]
    with pytest.raises(SystemExit) as ended:
        main(["ensemble", "train", *own])
    assert ended.value.code == 143
    folder = tmp_path / "ensemble" / "e"
    assert f"to resume: darts-noise ensemble train --resume {folder}" in capsys.readouterr().out
    with pytest.raises(SettingError, match="1 of 2 are trained"):
        dn.evaluate_ensemble([folder])
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "ensemble").rename(moved / "ensemble")
    main(["ensemble", "train", "--resume", f"--runs={moved}"])
    (moved / "ensemble").rename(tmp_path / "ensemble")
    assert steps.count(3) == 5  # one epoch: the first member was not trained again
    other = ["--seed=4", "--data.split_seed=3", "--data.bootstrap=true", "--noise_check=false"]
    train([*FEW[:-1], *other, f"--runs={tmp_path}", "--name=alone"])
    assert card(folder / "train" / "1") == card(tmp_path / "train" / "alone")

    capsys.readouterr()
    main(["ensemble", "evaluate", str(folder), "--outside", "digits", *QUICK])
    printed = capsys.readouterr().out
    assert "ensemble: 2 networks | linf | 30 test images" in printed
    found = json.loads((folder / "ensemble.json").read_text())
    attack = {"attacks": ("fgsm",), "eps": (0.1,), "samples": 30}
    members = [folder / "train" / name for name in "01"]
    again = dn.evaluate_ensemble(members, outside="digits", **attack)
    assert found["accuracy"] == again.accuracy
    assert set(found["attacked"]) == {"member", "outside", "itself"}
    single = dn.attack(members[0], **attack).accuracy()  # each with its own normalisation
    assert (again.accuracy["single"], again.attacked["itself"]["single"][0]) == single
    assert (folder / "ensemble_features.svg").is_file()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "expected train or evaluate, got 'trian'"),
        (["train", *FEW, "--members=1"], "members: expected 2 or more, got 1"),
        (["train", *FEW, "--trainer.devices=2"], "trainer.devices: expected 1"),
        (["train", *FEW, "--data.batch_size=100"], "data.batch_size: expected"),
        (["evaluate", "digits", *QUICK], "members: expected 2 networks or more, got 1"),
        (["evaluate", "digits", "digist"], "did you mean 'digits'"),
        (["evaluate", "digits", "digits", "--outside=mnist", *QUICK], "on others than digits"),
        (["evaluate", "digits", "digits", "--eps", "0"], "eps: expected more than 0"),
    ],
)
def test_what_is_wrong_is_one_line(
    argv: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert message in refused(main, ["ensemble", *argv], capsys)
    assert not list(tmp_path.glob("runs/ensemble/*"))
