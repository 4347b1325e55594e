"""What code says about itself: descriptions in docstrings, rules in checks, comments of files."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

import hw.config


def described(documented: type, names: Iterable[str]) -> dict[str, str]:
    """Text behind ``name:`` or ``name, name:`` in a class's docstring, for the names given."""
    known = "|".join(map(re.escape, names))
    text = " ".join((inspect.getdoc(documented) or "").split())
    heads = list(re.finditer(rf"(?:^|(?<=[\s;.]))((?:{known})(?:, (?:{known}))*): ", text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {
        name: text[head.end():end].strip().rstrip(".;")
        for head, end in zip(heads, ends, strict=True) for name in head[1].split(", ")}


def first_comment(path: Path) -> str:
    """The comment that a file begins with, as one line."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def _text(node: ast.expr) -> str:
    """A string of the source; what an f-string computes appears as code."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        if isinstance(node.value, ast.Name):
            return f"{getattr(hw.config, node.value.id):,}"
        return f"`{ast.unparse(node.value).replace('self.', '').replace('//', '/')}`"
    assert isinstance(node, ast.Constant)
    return str(node.value)


def hardware_rules() -> dict[str, list[str]]:
    """What `hw.config.HardwareConfig` demands of each parameter, read from its own checks.

    A condition stands in front of a rule that holds only with it.
    """
    source = textwrap.dedent(inspect.getsource(hw.config.HardwareConfig.__post_init__))
    rules: dict[str, list[str]] = {}

    def visit(body: list[ast.stmt], condition: str) -> None:
        for statement in body:
            if isinstance(statement, ast.If) and "self." in ast.unparse(statement.test):
                visit(statement.body, ast.unparse(statement.test).replace("self.", ""))
            elif isinstance(statement, ast.For) and isinstance(statement.iter, ast.Tuple):
                for name in statement.iter.elts:
                    rules.setdefault(_text(name), []).append("a power of two")
            elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
                _, names, rule = statement.value.args
                factors = _text(names).split(" x ")
                said = _text(rule) if len(factors) == 1 else f"{_text(names)} {_text(rule)}"
                for word in factors:
                    rules.setdefault(word, []).append(
                        f"with {condition}: {said}" if condition else said)

    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    visit(function.body, "")
    return rules
