"""No file can make the package run code: nothing in it evaluates text or unpickles objects."""

import ast
from pathlib import Path

import pytest

import darts_noise

PACKAGE = Path(darts_noise.__file__).parent
FILES = [*sorted(PACKAGE.rglob("*.py")), *sorted(PACKAGE.parent.glob("*.py"))]

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal"}
FORBIDDEN_MODULES |= {"shelve", "jsonpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
UNSAFE_YAML = {"load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all"}
UNSAFE_LOADERS = {"Loader", "CLoader", "FullLoader", "UnsafeLoader"}


def code_from_files(source: str) -> list[str]:
    """What of a source could run what a file says, by line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        if any(name.split(".")[0] in FORBIDDEN_MODULES for name in names):
            found.append(f"{node.lineno}: import of {names[0]}")
        used = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        if used and node.id in FORBIDDEN_CALLS:  # a field of that name is no use of it
            found.append(f"{node.lineno}: {node.id}")
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if owner == "yaml" and node.attr in UNSAFE_YAML | UNSAFE_LOADERS:
                found.append(f"{node.lineno}: yaml.{node.attr}")
            if owner == "builtins" and node.attr in FORBIDDEN_CALLS:
                found.append(f"{node.lineno}: builtins.{node.attr}")
        if isinstance(node, ast.Call):
            called, options = ast.unparse(node.func), {k.arg: k.value for k in node.keywords}
            # A caller's choice may be passed on, but False may not be chosen here.
            safe = options.get("weights_only")
            if called == "torch.load" and (safe is None or ast.unparse(safe) == "False"):
                found.append(f"{node.lineno}: torch.load without weights_only")
            if (
                called.endswith("np.load")
                and ast.unparse(options.get("allow_pickle", ast.Constant(False))) != "False"
            ):
                found.append(f"{node.lineno}: np.load with allow_pickle")
            if any(k == "shell" and ast.unparse(v) != "False" for k, v in options.items()):
                found.append(f"{node.lineno}: a shell")
    return found


def test_no_file_can_run_code():
    found = {str(file): code_from_files(file.read_text("utf-8")) for file in FILES}
    assert {file: code for file, code in found.items() if code} == {}


@pytest.mark.parametrize(
    "source",
    [
        "eval(x)",
        "f = exec",
        "import pickle",
        "from pickle import loads",
        "import joblib.memory",
        "import builtins\nbuiltins.eval(x)",
        "import yaml\nyaml.load(x, Loader=yaml.SafeLoader)",
        "import yaml\nyaml.compose(x, Loader=yaml.Loader)",
        "import torch\ntorch.load(x)",
        "import torch\ntorch.load(x, weights_only=False)",
        "import numpy as np\nnp.load(x, allow_pickle=True)",
        "import subprocess\nsubprocess.run(x, shell=True)",
    ],
)
def test_each_way_is_seen(source):
    assert code_from_files(source)
