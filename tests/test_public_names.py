"""The names of the package, which are imported with the first one that is used."""

import subprocess
import sys

import pytest
from conftest import ROOT

import darts_noise as dn


def test_every_name_is_there():
    for name in [*dn.__all__, *dn.PARTS]:
        assert getattr(dn, name) is getattr(dn, name)
    assert {*dn.__all__, *dn.PARTS} <= set(dir(dn))


def test_every_name_comes_from_one_part():
    for name in dn.__all__:
        assert sum(name in getattr(dn, part).__all__ for part in dn.PARTS) == 1, name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'create_modle'"):
        _ = dn.create_modle


def test_the_package_alone_does_not_import_torch():
    code = "import sys, darts_noise; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
