"""Which run --resume takes up, and what may stand beside it."""

import os
from pathlib import Path

import pytest
from darts_noise.cli.resume import take_up

from darts_noise.cli.parser import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Runs that were begun in this order: search/a, search/b, train/c."""
    for age, name in enumerate(["search/a", "search/b", "train/c"]):
        run = tmp_path / name
        run.mkdir(parents=True)
        (run / "config.yaml").write_text("seed: 0\n")
        os.utime(run / "config.yaml", (age, age))
    (tmp_path / "search" / "latest").symlink_to("a")
    return tmp_path


def test_without_the_option_nothing_changes(root: Path) -> None:
    assert take_up(["--seed", "3"], "search") == (["--seed", "3"], None)


@pytest.mark.parametrize(
    ("named", "kind", "taken"),
    [
        ([], "search", "search/b"),
        (["a"], "search", "search/a"),
        (["latest"], "search", "search/a"),
        ([], "train", "train/c"),
        (["{root}/search/a"], "search", "search/a"),
    ],
)
def test_the_run_that_is_named_or_the_newest(
    root: Path, named: list[str], kind: str, taken: str
) -> None:
    words = [word.format(root=root) for word in named]
    for argv in (["--resume", *words, "--runs", str(root)], [f"--runs={root}", "--resume", *words]):
        arguments, run = take_up(argv, kind)
        assert run == root / taken
        assert arguments[:2] == ["--config", str(root / taken / "config.yaml")]
        assert set(arguments[2:]) == {f"--runs={root}", f"--name={run.name}"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--resume", "z"], "resume: expected the name or the folder of a run in .*, got 'z'"),
        (["--resume", "{root}/train/c"], "resume: expected a run of search.py"),
        (["--resume", "--data.name=mnist"], "resume: the settings are those of .*got --data.name"),
        (["--resume", "--runs={root}/none"], "resume: no run in .*none"),
    ],
)
def test_what_cannot_be_taken_up_is_said_in_one_line(
    root: Path, argv: list[str], message: str
) -> None:
    words = [f"--runs={root}", *(word.format(root=root) for word in argv)]
    with pytest.raises(UserError, match=message):
        take_up(words, "search")


def test_a_run_that_has_ended_is_no_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "search" / "b" / "card.md").write_text("")
    assert take_up(["--resume", f"--runs={root}"], "search")[1] == root / "search" / "b"
    (root / "search" / "b" / "card.json").write_text("")
    with pytest.raises(SystemExit) as ended:
        take_up(["--resume", f"--runs={root}"], "search")
    assert ended.value.code == 0
    assert f"{root / 'search' / 'b'} has ended" in capsys.readouterr().out
