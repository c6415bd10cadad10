"""Every command in the README is one that the scripts accept, and every snippet runs."""

import re
import shlex

import pytest
from conftest import ROOT

from darts_noise.cli import search, train

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    command
    for language, text in BLOCKS
    if language == "bash"
    for command in re.findall(r"python \w+\.py.*", text)
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_accepted(command, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    program, script, *arguments = shlex.split(command)
    assert program == "python"
    main = {"search.py": search.main, "train.py": train.main}[script]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--print_config"])
    assert stop.value.code == 0, capsys.readouterr().err


def test_the_first_commands_are_the_two_that_do_all_the_set_up():
    bash = [text.strip() for language, text in BLOCKS if language == "bash"]
    assert bash[0] == "pip install -e . && python search.py"
    assert "pip install -e '.[dev]' && pytest" in bash


def test_the_files_it_names_are_there():
    for path in re.findall(r"configs/[\w/]+\.yaml", README):
        assert (ROOT / path).is_file(), path
