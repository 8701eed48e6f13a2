"""Public names are there when they are asked for."""

from __future__ import annotations

import pytest

import brevitas_ftprop
from brevitas_ftprop import export


@pytest.mark.parametrize("package", [brevitas_ftprop, export], ids=lambda p: p.__name__)
def test_every_public_name_is_found_and_listed(package):
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("package", [brevitas_ftprop, export], ids=lambda p: p.__name__)
def test_a_name_that_is_none_is_refused(package):
    with pytest.raises(AttributeError, match="has no attribute 'export_keras'"):
        _ = package.export_keras


def test_both_packages_give_the_same_objects():
    for name in set(brevitas_ftprop.__all__) & set(export.__all__):
        assert getattr(brevitas_ftprop, name) is getattr(export, name)
