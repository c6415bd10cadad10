"""``--plugins``: what a file registers can be named; only the command line can name the file."""

from pathlib import Path

import pytest
from conftest import ROOT, search, train
from darts_noise.cli.plugins import import_plugins
from darts_noise.cli.session import Session

from darts_noise.cli.parser import UserError
from darts_noise.space.operations import list_operations
from darts_noise.space.spaces import list_spaces

CODE = """
import darts_noise as dn
from torch import nn

@dn.register_operation("convolution")
def plugin_conv(channels, stride, affine):
    return nn.Conv2d(channels, channels, 3, stride, 1)

dn.register_space("plugin_space", ["none", "skip_connect", "plugin_conv"])
"""


def test_a_search_takes_the_space_that_a_file_registers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(CODE)
    with pytest.raises(SystemExit) as end:
        search([f"--plugins={tmp_path / 'mine.py'}", "--model.space=plugin_spac"])
    assert end.value.code == 2
    assert "plugin_space" in capsys.readouterr().err  # among those that there are
    assert "plugin_conv" in list_operations()
    assert "plugin_space" in list_spaces()


def test_other_arguments_stay_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    given = ["--seed", "1", "--plugins", str(tmp_path / "a.py"), "--name=x"]
    assert import_plugins(given) == ["--seed", "1", "--name=x"]


def test_the_command_to_go_on_has_each_plugin_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "my own.py"
    file.write_text("")
    monkeypatch.setattr("darts_noise.cli.plugins._IMPORTED", [])
    monkeypatch.setattr(Session, "fit", lambda session, module: session.interrupted())
    with pytest.raises(SystemExit):
        search([*(f"--plugins={file}",) * 2, f"--runs={tmp_path}", "--name=x", "--wandb=off"])
    line = next(line for line in capsys.readouterr().out.splitlines() if "to go on: " in line)
    assert line.endswith(f"--resume {tmp_path / 'search' / 'x'} --plugins '{file}'")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (None, "expected a file of Python code"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, code: str | None, told: str) -> None:
    file = tmp_path / "a.py"
    if code is not None:
        file.write_text(code)
    with pytest.raises(UserError, match=told):
        import_plugins(["--plugins", str(file)])
    with pytest.raises(UserError, match="expected a file"):
        import_plugins(["--plugins"])


@pytest.mark.parametrize("main", [search.main, train.main])
def test_a_config_cannot_name_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], main: object
) -> None:
    (tmp_path / "a.py").write_text("raise SystemExit(0)")
    config = tmp_path / "c.yaml"
    kind = "search" if main is search.main else "train"
    text = (ROOT / "configs" / kind / "digits.yaml").read_text("utf-8")
    config.write_text(f"plugins: {tmp_path / 'a.py'}\n{text}")
    with pytest.raises(SystemExit) as end:
        main(["--config", str(config)])  # type: ignore[operator]
    assert end.value.code == 2
    assert "unknown config key 'plugins'" in capsys.readouterr().err
