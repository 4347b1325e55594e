"""Rules of the code base: import direction, module size, and that the checkout is what runs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hw

ROOT = Path(__file__).resolve().parent.parent
ORDER = ("hw", "compiler", "sim", "reports", "lutrip")
MODULES = [path for package in ORDER for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("package", ORDER)
def test_imports_point_down(package):
    above = set(ORDER[ORDER.index(package) + 1:])
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] not in above, f"{path} imports {name}"


def test_modules_are_small():
    long = {str(path): lines for path in MODULES
            if (lines := len(path.read_text().splitlines())) > 400}
    assert not long


def test_the_checkout_is_imported():
    assert Path(hw.__file__).is_relative_to(ROOT)
