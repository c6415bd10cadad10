"""``darts-noise report``: a file and a line, or an error of one line."""

import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from conftest import ROOT, refused
from run_folders import search_run

import darts_noise as dn
from darts_noise.cli.program import main
from darts_noise.reading_record import Reading
from darts_noise.search.candidate import Candidate, write_candidates
from darts_noise.search.heat import Heat, write_race
from darts_noise.space.published import BUNDLES


def test_the_page_is_written_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = search_run(tmp_path / "search" / "one", alpha=False)
    (run.parent / "latest").symlink_to("one")
    main(["report", str(run.parent / "latest"), "--output", str(tmp_path / "r.html")])
    assert capsys.readouterr().out == f"report: {tmp_path / 'r.html'}\n"
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "search one" in text  # the run's own name, not that of the link


def test_it_does_not_wait_for_torch(tmp_path: Path) -> None:
    """It reads JSON and draws: importing torch and Lightning would take most of its time."""
    run = search_run(tmp_path / "search" / "one", space="nas_bench_201", alpha=False)
    heat = Heat({"gain": "bounded"}, (1, 1), validation=(Reading(1.0, 0.5),) * 2)
    write_race(run / "race.json", [dn.load_genotype("darts_v1")] * 2, [heat])
    write_candidates(
        run / "candidates.json", [Candidate(dn.load_genotype("darts_v1"), Reading(1.0, 0.5))]
    )
    code = """
import sys
from darts_noise.cli.program import main
main(sys.argv[1:])
print([n for n in ("torch", "torchmetrics", "pytorch_lightning") if n in sys.modules])
"""
    page = tmp_path / "r.html"
    argv = [sys.executable, "-c", code, "report", str(run), "--output", str(page)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"report: {page}", "[]"]


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        (None, "", "expected the directory of a run"),
        ("card.json", "[1]", "expected a JSON object"),
        ("card.json", "{", "card.json: not JSON"),
        ("history.json", "{}", "not the history of a search"),
        ("genotype.json", "{}", "genotype.json"),
        ("metrics.csv", "train/loss\nx\n", "expected a number, got 'x'"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str | None,
    content: str,
    told: str,
) -> None:
    run = tmp_path / "empty"
    if file is None:
        run.mkdir()
    else:
        run = search_run(tmp_path / "search" / "one")
        (run / file).write_text(content)
    with pytest.raises(SystemExit) as end:
        main(["report", str(run), "--output", str(tmp_path / "r.html")])
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.count("\n") == 1
    assert not (tmp_path / "r.html").exists()


def test_a_run_that_has_not_ended_is_named(tmp_path: Path) -> None:
    run, ended = (search_run(tmp_path / "search" / name, alpha=False) for name in ("one", "two"))
    (run / "card.json").unlink()
    with pytest.warns(UserWarning, match=f"^{run} has no card.json") as said:
        main(["report", str(ended), str(run), "--output", str(tmp_path / "r.html")])
    assert len(said) == 1
    assert f"{run} has no card.json" in (tmp_path / "r.html").read_text("utf-8")


def test_a_bundle_without_an_attack_is_told_how_to_measure_one(tmp_path: Path) -> None:
    bundle, page = tmp_path / "bundle", str(tmp_path / "r.html")
    shutil.copytree(BUNDLES / "digits", bundle)
    with pytest.warns(UserWarning, match=f"^{bundle} is a bundle, which has no card") as said:
        main(["report", str(bundle), "--output", page])
    [command] = re.findall("darts-noise (attack .*)", str(said[0].message))
    main([*command.split(), "--attacks", "fgsm", "--eps", "0.1", "--samples", "5"])
    with warnings.catch_warnings(action="error"):
        main(["report", str(bundle), "--output", page])


def test_an_ensemble_that_is_not_evaluated_is_told_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train").mkdir()
    argv = ["report", str(tmp_path), "--output", str(tmp_path / "r.html")]
    assert f"first darts-noise ensemble evaluate {tmp_path}" in refused(main, argv, capsys)


def test_a_history_of_another_cell_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = search_run(tmp_path / "search" / "one")
    head, *rows = json.loads((run / "history.json").read_text())
    (run / "history.json").write_text(json.dumps([{**head, "operations": ["none"]}, *rows]))
    with pytest.raises(SystemExit) as end:
        main(["report", str(run), "--output", str(tmp_path / "r.html")])
    assert end.value.code == 2
    assert "α has no row or column" in capsys.readouterr().err
