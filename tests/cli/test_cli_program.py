"""The name with which a program's messages begin, and how it calls another one."""

import sys

import pytest

from darts_noise.cli.program import called, program


@pytest.mark.parametrize(
    ("argv", "name", "train"),
    [
        (["search.py", "--seed", "1"], "search.py", "python train.py"),
        (["/a/search.py"], "search.py", "python train.py"),
        (["/bin/darts-noise", "search", "--seed"], "darts-noise search", "darts-noise train"),
        (["C:/darts-noise.exe", "search"], "darts-noise search", "darts-noise train"),
        (["/lib/darts_noise/__main__.py", "search"], "darts-noise search", "darts-noise train"),
        (["darts-noise study", "a.yaml"], "darts-noise study", "darts-noise train"),
        (["/lib/pytest/__main__.py", "tests"], "__main__.py", "python train.py"),
        ([""], "darts_noise", "python train.py"),
    ],
)
def test_it_is_that_of_the_command_line(argv, name, train, monkeypatch):
    monkeypatch.setattr(sys, "argv", argv)
    assert program() == name
    assert called("train") == train
