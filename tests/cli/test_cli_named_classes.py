"""A config file names no class of a package that the user has not named."""

import sys
from pathlib import Path

import pytest
import yaml
from conftest import search
from darts_noise.cli.config_files import lay_over

CONFIGS = [
    "trainer: {callbacks: [{class_path: theirs.Evil}]}",
    "trainer: {callbacks: {class_path: theirs.Evil}}",
    "trainer: {callbacks: theirs.Evil}",
    "trainer: {callbacks+: [theirs.Evil]}",
    "trainer.callbacks: [theirs.Evil]",
    "trainer: {logger: {class_path: theirs.deeper.Evil, init_args: {a: 1}}}",
    "trainer: {plugins: [theirs.Evil], strategy: ddp}",
    "trainer: {profiler: theirs.Evil}",
    "trainer: {strategy: {class_path: theirs.Evil}}",
    "trainer: {callbacks: [{class_path: LambdaCallback, init_args: {on_fit_start: theirs.evil}}]}",
]


@pytest.fixture(autouse=True)
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that says so when it is imported."""
    (tmp_path / "theirs.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def config(folder: Path, text: str) -> str:
    file = folder / "c.yaml"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize("text", CONFIGS)
def test_a_class_from_elsewhere_is_refused_and_not_imported(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = config(tmp_path, text)
    with pytest.raises(SystemExit) as ended:
        search(["--config", file, f"--runs={tmp_path}"])
    error = capsys.readouterr().err
    assert (ended.value.code, error.count("\n")) == (2, 1)
    assert f"{file}: trainer." in error
    assert "--trust theirs" in error
    assert "theirs" not in sys.modules


def test_a_file_within_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("class_path: theirs.Evil")
    text = f"trainer: {{callbacks: [{tmp_path / 'other.yaml'}]}}"
    with pytest.raises(ValueError, match=r"trainer\.callbacks: expected the settings themselves"):
        lay_over(["--config", config(tmp_path, text)])


@pytest.mark.parametrize("given", [["--trust", "mine,theirs"], ["--trust=theirs"]])
def test_the_user_may_trust_a_package(given: list[str], tmp_path: Path) -> None:
    for text in CONFIGS:
        lay_over(["--config", config(tmp_path, text), *given])


def test_lightnings_classes_and_plain_words_need_no_trust(tmp_path: Path) -> None:
    plain = {
        "callbacks": [
            {
                "class_path": "pytorch_lightning.callbacks.EarlyStopping",
                "init_args": {"monitor": "val/accuracy"},
            },
            {"class_path": "Timer", "init_args": {"duration": "00:01:00.5"}},
        ],
        "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "my.logs/a b.c"}},
        "strategy": "ddp",
    }
    file = config(tmp_path, yaml.safe_dump({"trainer": plain, "data": {"root": "os.path"}}))
    assert lay_over(["--config", file]) == ["--config", file]
