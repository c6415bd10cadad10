"""Imports of the package run one way: a folder imports only from those before it."""

import ast
import importlib
from pathlib import Path

from conftest import ROOT, in_a_fork

PACKAGE = ROOT / "darts_noise"
LAYERS = (
    ("shown",),
    ("errors", "atomic", "compat", "memory", "wandb_key"),
    ("configured",),
    ("space", "data", "distributed"),
    ("nets", "noise", "reading_record"),
    ("finite", "metrics", "loading", "reading", "checkpoints", "attacks"),
    ("train",),
    ("search",),
    ("report",),
    ("examine", "pretrained"),
    ("runs",),
    ("study",),
    ("cli",),
)
"""The folders and the modules beside them, from the lowest to the highest."""
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The parts of the package that a file imports, also within functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {n.split(".")[1] for n in names if n.startswith("darts_noise.")}
    return found


FILES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__main__.py" and path != PACKAGE / "__init__.py"
]
"""All but the doors: the public names, and ``python -m``, which calls the command line."""


def test_a_file_imports_only_what_lies_below() -> None:
    for path in FILES:
        own = part_of(path)
        assert own in HEIGHT, f"expected {own} in LAYERS, which says what it may import"
        wrong = {p for p in imported(path) - {own} if HEIGHT[p] >= HEIGHT[own]}
        assert not wrong, f"{path} imports from {', '.join(sorted(wrong))}, which is not below it"


def test_every_benchmark_can_be_imported():
    """In a fork, because some define callbacks, whose names a config could then mean."""
    in_a_fork(import_benchmarks)


def import_benchmarks():
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] not in ("__init__", "__main__"):
            importlib.import_module(".".join(parts))
