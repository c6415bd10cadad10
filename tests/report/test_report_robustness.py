"""The accuracies under attack in a folder are drawn, listed and checked."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from darts_noise.examine.attacks import AttackResult
from darts_noise.examine.ensembles import RULES, EnsembleResult
from darts_noise.report.page import make_page
from darts_noise.report.robustness import draw_robustness, read_robustness
from darts_noise.runs.robustness import write_result

SMALLEST = {"pgd": torch.tensor([0.0, 0.1, 0.2, 0.2]), "square": torch.tensor([0.0, 0.2, 0.2, 0.2])}


def attacked(folder: Path, norm: str, **changed: Any) -> AttackResult:
    """Write the result of two attacks on four images, and return it."""
    radii = torch.tensor([0.0, 0.05, 0.15, 0.15], dtype=torch.float64)
    fields = {"radii": radii, "unlimited": 0.0, "warnings": ("masked <gradients>",), **changed}
    found = AttackResult(norm, (0.1, 0.2), SMALLEST, **fields)
    write_result(found, folder / f"attack_{norm}.json")
    return found


def of_an_ensemble(folder: Path) -> EnsembleResult:
    accuracy = {"single": 0.5, **dict.fromkeys(RULES, 0.75)}
    under = {name: (value / 2,) for name, value in accuracy.items()}
    found = EnsembleResult(
        3, 4, "linf", (0.1,), ("fgsm",), accuracy, accuracy, {"member": under, "itself": under}, ()
    )
    write_result(found, folder / "ensemble.json")
    return found


def test_what_the_commands_write_is_read(tmp_path: Path) -> None:
    found = attacked(tmp_path, "l2")
    attacked(tmp_path, "linf", radii=None)
    ensemble = of_an_ensemble(tmp_path)
    linf, l2, member, itself = read_robustness(tmp_path)
    lines = {name: list(found.accuracy(name)) for name in SMALLEST}
    lines = {"certified": [0.75, 0.5, 0.0], **lines, "strongest": [0.75, 0.5, 0.0]}
    assert {name: list(values) for name, values in l2.accuracies.items()} == lines
    assert (l2.norm, list(l2.eps)) == ("l2", [0.0, 0.1, 0.2])
    assert "4 test images" in l2.title
    assert "certified" not in linf.accuracies
    assert list(itself.accuracies["mean"]) == [0.75, 0.375]
    assert list(itself.eps) == [0.0, 0.1]
    assert list(itself.accuracies) == [*ensemble.accuracy]
    assert "the first member" in member.title
    assert "what classifies them" in itself.title
    assert read_robustness(tmp_path / "nowhere") == []


def test_every_line_is_drawn_in_per_cent_and_every_size_is_named(tmp_path: Path) -> None:
    attacked(tmp_path, "l2")
    [found] = read_robustness(tmp_path)
    figure = draw_robustness(found)
    [axes] = figure.axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert drawn == {
        name: [100 * value for value in values] for name, values in found.accuracies.items()
    }
    assert list(axes.get_xticks()) == [0.0, 0.1, 0.2]


def test_a_folder_with_results_alone_has_a_section_and_no_complaint(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    for name in ("bundle", "ensemble"):
        (tmp_path / name).mkdir()
    attacked(tmp_path / "bundle", "l2")
    of_an_ensemble(tmp_path / "ensemble")
    text = make_page([tmp_path / "bundle", tmp_path / "ensemble"])
    assert 'id="run-1-attacks"' in text
    assert 'id="run-2-attacks"' in text
    row = '<tr><th scope="row">0.1</th><td>50.00%</td><td>50.00%</td><td>75.00%</td>'
    assert row in text
    assert "masked &lt;gradients&gt;" in text
    assert not recwarn.list


@pytest.mark.parametrize(
    "change",
    [
        {"format": "darts_noise.certificate/1"},
        {"norm": "l1"},
        {"eps": [0.0]},
        {"accuracy": {"pgd": [0.5, 0.5]}},
        {"accuracy": {"pgd": [0.5, 0.5, 1.5]}},
        {"accuracy": {"<b>": [0.5, 0.5, 0.5]}},
        {"accuracy": [0.5]},
        {"eps": None},
    ],
)
def test_another_file_of_this_name_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    attacked(tmp_path, "l2")
    file = tmp_path / "attack_l2.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=r"attack_l2\.json: expected a file of darts_noise"):
        read_robustness(tmp_path)
