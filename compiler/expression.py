"""Functions of x from an expression in a scheme file, without evaluating Python code."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import vectorize
from numpy.typing import NDArray

from hw.errors import ConfigError

Floats = NDArray[Any]
Function = Callable[[Floats], Floats]

LENGTH_MAX = 500
CONSTANTS = {"pi": math.pi, "e": math.e}


@vectorize(["float64(float64)"], cache=True)
def erf(x: float) -> float:
    """Error function."""
    return math.erf(x)


def sigmoid(x: Floats) -> Floats:
    """``1 / (1 + exp(-x))``, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


CALLS: dict[str, tuple[int, Callable[..., Any]]] = {
    "exp": (1, np.exp), "log": (1, np.log), "sqrt": (1, np.sqrt), "abs": (1, np.abs),
    "tanh": (1, np.tanh), "sin": (1, np.sin), "cos": (1, np.cos), "erf": (1, erf),
    "sigmoid": (1, sigmoid), "max": (2, np.maximum), "min": (2, np.minimum),
    "where": (3, np.where),
}
"""Functions by name with their count of arguments."""
BINARY: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide,
    ast.Pow: np.power,
}
COMPARE: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal,
}


def parse_expression(text: str) -> Function:
    """A function of float arrays from text such as ``x * tanh(log(1 + exp(x)))``.

    Numbers, x, pi, e, ``+ - * / **``, comparisons and the functions of `CALLS`. Where the value is
    not a number the function gives NaN or infinity, without a warning. Raises ConfigError in one
    line for anything else.
    """
    if len(text) > LENGTH_MAX:
        raise ConfigError(f"an activation's expression has at most {LENGTH_MAX} characters, not "
                          f"{len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        _check(tree, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConfigError(f"activation {text!r} is not an expression of x") from None

    def function(x: Floats) -> Floats:
        values = np.asarray(x, np.float64)
        with np.errstate(all="ignore"):
            return np.broadcast_to(np.asarray(_value(tree, values), np.float64),
                                   values.shape).copy()

    return function


def _check(node: ast.expr, text: str) -> None:
    """Raise ConfigError for a part that is not allowed."""
    if isinstance(node, ast.Constant):
        if not isinstance(node.value, int | float) or isinstance(node.value, bool):
            raise ConfigError(f"activation {text!r}: {node.value!r} is not a number")
        return
    if isinstance(node, ast.Name):
        if node.id != "x" and node.id not in CONSTANTS:
            raise ConfigError(f"activation {text!r}: unknown name {node.id!r}; known are x, "
                              f"{', '.join(CONSTANTS)}, {', '.join(CALLS)}")
        return
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        parts = [node.operand]
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARE:
        parts = [node.left, node.comparators[0]]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id not in CALLS:
            raise ConfigError(f"activation {text!r}: unknown function {node.func.id!r}; known are "
                              f"{', '.join(CALLS)}")
        count = CALLS[node.func.id][0]
        if len(node.args) != count:
            raise ConfigError(f"activation {text!r}: {node.func.id} takes {count} values, not "
                              f"{len(node.args)}")
        parts = node.args
    else:
        raise ConfigError(f"activation {text!r}: {ast.unparse(node)!r} is not allowed; use "
                          f"numbers, x, + - * / **, < > <= >= and {', '.join(CALLS)}")
    for part in parts:
        _check(part, text)


def _value(node: ast.expr, x: Floats) -> Any:
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, int | float)
        return np.float64(node.value)
    if isinstance(node, ast.Name):
        return x if node.id == "x" else np.float64(CONSTANTS[node.id])
    if isinstance(node, ast.BinOp):
        return BINARY[type(node.op)](_value(node.left, x), _value(node.right, x))
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand, x)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Compare):
        return COMPARE[type(node.ops[0])](_value(node.left, x), _value(node.comparators[0], x))
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    return CALLS[node.func.id][1](*(_value(part, x) for part in node.args))
