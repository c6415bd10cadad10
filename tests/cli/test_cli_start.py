"""Ctrl-C while a script imports, and before it has a run to save."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from darts_noise.cli import search, start

# Stands in for torch: the Ctrl-C comes during its import, which reports it as a failure of its own.
INTERRUPTED = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    raise ImportError("torch is broken")
"""


@pytest.mark.parametrize("script", ["search.py", "train.py"])
def test_ctrl_c_during_the_imports_ends_quietly(script, tmp_path):
    (tmp_path / "torch.py").write_text(INTERRUPTED)
    done = subprocess.run(
        [sys.executable, script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        # A shell that runs the tests in the background has its children ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_before_there_is_a_run_ends_quietly(monkeypatch):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "main", interrupted)
    monkeypatch.setattr(sys, "argv", ["search.py"])
    with pytest.raises(SystemExit) as stop:
        start.start("search")
    assert stop.value.code == 130
    assert stop.value.__suppress_context__


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.default_int_handler])
def test_the_script_gets_the_handler_that_it_was_started_with(handler, monkeypatch):
    met = []
    monkeypatch.setattr(search, "main", lambda argv: met.append(signal.getsignal(signal.SIGINT)))
    monkeypatch.setattr(sys, "argv", ["search.py"])
    before = signal.signal(signal.SIGINT, handler)
    try:
        start.start("search")
    finally:
        signal.signal(signal.SIGINT, before)
    assert met == [handler]
