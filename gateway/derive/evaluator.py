"""Evaluates checked expressions over whole columns: simpleeval's walk through the tree, our operators.

Only `gateway.derive.expression` uses it, and only with trees that its whitelist let through. simpleeval's own
operators and functions are all replaced: they are made for single values.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Final

import numpy as np
from simpleeval import SimpleEval


class Evaluator(SimpleEval):  # type: ignore[misc]
    """Operands are float64 columns or floats; what does not exist is NaN."""

    nodes: dict[Any, Callable[[Any], Any]]

    def __init__(self) -> None:
        super().__init__(operators=_OPERATORS, functions=_FUNCTIONS, names={})
        kept = (ast.Name, ast.Constant, ast.UnaryOp, ast.BinOp, ast.Call)
        ours: dict[Any, Callable[[Any], Any]] = {
            ast.Compare: self._compare, ast.BoolOp: self._combine, ast.IfExp: self._choose
        }  # fmt: skip
        self.nodes = {**{node: self.nodes[node] for node in kept}, **ours}

    def _compare(self, node: ast.Compare) -> Any:
        values = [self._eval(each) for each in (node.left, *node.comparators)]
        pairs = zip(node.ops, values[:-1], values[1:], strict=True)
        return reduce(_and, [self.operators[type(each)](left, right) for each, left, right in pairs])

    def _combine(self, node: ast.BoolOp) -> Any:
        combine = _and if isinstance(node.op, ast.And) else _or
        return reduce(combine, [_truth(self._eval(each)) for each in node.values])

    def _choose(self, node: ast.IfExp) -> Any:
        test, then, other = (self._eval(each) for each in (node.test, node.body, node.orelse))
        return np.where(np.isnan(test), np.nan, np.where(np.not_equal(test, 0.0), then, other))


def _truth(value: Any) -> Any:
    """1.0, 0.0 or NaN."""
    return np.where(np.isnan(value), np.nan, np.not_equal(value, 0.0))


def _and(left: Any, right: Any) -> Any:
    return np.where(np.equal(left, 0.0), 0.0, np.where(np.isnan(left), np.nan, right))


def _or(left: Any, right: Any) -> Any:
    return np.where(np.equal(left, 1.0), 1.0, np.where(np.isnan(left), np.nan, right))


def _compared(ufunc: np.ufunc) -> Callable[[Any, Any], Any]:
    def compare(left: Any, right: Any) -> Any:
        return np.where(np.isnan(left) | np.isnan(right), np.nan, ufunc(left, right))

    return compare


def _divide(left: Any, right: Any) -> Any:
    return np.where(np.equal(right, 0.0), np.nan, np.divide(left, right))


def _power(base: Any, exponent: Any) -> Any:
    raised = np.power(base, exponent)
    return np.where(np.isinf(raised), np.nan, raised)


def _over(of_two: np.ufunc) -> Callable[..., Any]:
    return lambda *values: reduce(of_two, values)


_OPERATORS: Final[Mapping[type[ast.AST], Callable[..., Any]]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: _divide,
    ast.Mod: np.remainder,
    ast.Pow: _power,
    ast.USub: np.negative,
    ast.UAdd: np.positive,
    ast.Not: lambda value: np.where(np.isnan(value), np.nan, np.equal(value, 0.0)),
    ast.Lt: _compared(np.less),
    ast.LtE: _compared(np.less_equal),
    ast.Gt: _compared(np.greater),
    ast.GtE: _compared(np.greater_equal),
    ast.Eq: _compared(np.equal),
    ast.NotEq: _compared(np.not_equal),
}
_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "abs": np.abs,
    "max": _over(np.maximum),
    "min": _over(np.minimum),
    "sqrt": np.sqrt,
}
