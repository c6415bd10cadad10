"""What the scripts import before they have anything to do."""

import json
import subprocess
import sys

from conftest import ROOT

# Prints the packages that the scripts' --print_config and --help import beyond those that Lightning
# imports for a parser of its own Trainer. A --help that is not alone comes from the parser.
BEYOND_LIGHTNING = """
import contextlib, io, json, runpy, sys
import pytorch_lightning as pl
from pytorch_lightning.cli import LightningArgumentParser

def packages():
    return {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names

LightningArgumentParser().add_lightning_class_args(pl.Trainer, "trainer")
lightning = packages()
for script in ("search.py", "train.py"):
    for option in ("--help", "--print_config"):
        sys.argv = [script, "--seed=1", option]
        with contextlib.redirect_stdout(io.StringIO()) as text:
            try:
                runpy.run_path(script, run_name="__main__")
            except SystemExit as stop:
                assert not stop.code
        assert "model" in text.getvalue()
print(json.dumps(sorted(packages() - lightning)))
"""


def test_help_imports_no_package_that_lightning_does_not():
    done = subprocess.run(
        [sys.executable, "-c", BEYOND_LIGHTNING], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["darts_noise"]
