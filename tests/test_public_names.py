"""The public names of the package, which are imported at their first use."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, in_a_fork

import darts_noise as dn
from darts_noise.examine.sections import make_sections


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


def test_the_reference_documents_the_functions_of_every_section():
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    modules = {type(section).__module__ for section in make_sections((), {}).values()}
    assert [module for module in sorted(modules) if f"::: {module}\n" not in text] == []


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


def study_keeps_its_name(first):
    """Whichever is asked for first: a module, or the function (None)."""
    import darts_noise as dn

    _ = dn.study if first is None else importlib.import_module(first)
    from darts_noise.study import settings

    importlib.import_module("darts_noise.study.run")
    assert dn.study is sys.modules["darts_noise"].study
    assert dn.StudyConfig is settings.StudyConfig
    assert callable(dn.study)


def test_a_function_keeps_its_name_from_the_folder_that_has_the_same():
    for first in ("darts_noise.study.settings", None, "darts_noise.study"):
        in_a_fork(study_keeps_its_name, first)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'create_modle'"):
        _ = dn.create_modle


def test_the_package_alone_does_not_import_torch():
    code = "import sys, darts_noise; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
