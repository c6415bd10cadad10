"""The public names of the package, which are imported at their first use."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import darts_noise as dn


def test_every_name_is_there():
    for name in dn.__all__:
        assert getattr(dn, name) is getattr(dn, name)
    assert {*dn.__all__} <= set(dir(dn))


def test_the_version_is_that_of_the_project():
    assert f'version = "{dn.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert "__version__" in dir(dn)


def test_the_reference_documents_every_name():
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    lacking = [n for n, m in dn.MODULES.items() if f"::: darts_noise.{m}.{n}\n" not in text]
    assert lacking == []


def test_a_type_checker_sees_the_same_names():
    tree = ast.parse(Path(dn.__file__).read_text("utf-8"))
    seen = {
        alias.name: node.module.removeprefix("darts_noise.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("darts_noise.")
        for alias in node.names
        if alias.asname == alias.name
    }
    assert seen == dn.MODULES


def test_a_function_keeps_its_name_from_the_folder_that_has_the_same():
    """Whichever is asked for first."""
    code = "import sys"
    for first in ("import darts_noise.study.settings", "_ = dn.study", "import darts_noise.study"):
        code += f"""
for name in [name for name in sys.modules if name.partition('.')[0] == 'darts_noise']:
    del sys.modules[name]
import darts_noise as dn; {first}
from darts_noise.study import settings
import darts_noise.study.run
assert dn.study is darts_noise.study
assert dn.StudyConfig is settings.StudyConfig
assert callable(dn.study)"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'create_modle'"):
        _ = dn.create_modle


def test_the_package_alone_does_not_import_torch():
    code = "import sys, darts_noise; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
