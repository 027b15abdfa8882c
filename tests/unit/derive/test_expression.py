"""Expressions: the same as plain Python on any data, and nothing but points, numbers and the operators of the list."""

from __future__ import annotations

import ast
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.derive.expression import MOST_CHARACTERS, Expression, ExpressionError

NAMES = ("a", "b", "p_in", "t-1")
NUMBERS = st.one_of(
    st.integers(-5, 5).map(float),
    st.floats(-1e6, 1e6, allow_nan=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, 0.1, 5e-324, 1.7e308]),
)
LITERALS = st.one_of(st.integers(0, 12).map(str), st.floats(0, 1e6, allow_nan=False).map(repr))
OPERANDS = st.one_of(LITERALS, st.sampled_from(["a", "b", "p_in", "{t-1}", "{a}"]))


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    operators = ("+", "-", "*", "/", "%", "<", "<=", ">", ">=", "==", "!=", "and", "or")
    return st.one_of(
        st.tuples(inner, st.sampled_from(operators), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(inner, st.sampled_from(["2", "0.5", "-1", "3", "(1/3)", "0"])).map(lambda p: f"({p[0]}) ** {p[1]}"),
        inner.map(lambda text: f"(-{text})"),
        inner.map(lambda text: f"(not {text})"),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} if {p[1]} else {p[2]})"),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} < {p[1]} <= {p[2]})"),
        st.tuples(st.sampled_from(["min", "max"]), two).map(lambda p: f"{p[0]}({p[1][0]}, {p[1][1]})"),
        st.tuples(st.sampled_from(["abs", "sqrt"]), inner).map(lambda p: f"{p[0]}({p[1]})"),
    )


EXPRESSIONS = st.recursive(OPERANDS, larger, max_leaves=8)


def plain_python(text: str, row: dict[str, float]) -> float | None:
    """What Python itself makes of it; None where it raises, or where the result is no finite number.

    `and` and `or` are taken for true and false, as our expressions take them.
    """
    code = text.replace("{t-1}", "t_1").replace("{a}", "a")
    names: dict[str, Any] = {**row, "t_1": row["t-1"], "sqrt": math.sqrt, "abs": abs, "min": min, "max": max}
    names |= {"bool": bool, "real": real}
    try:
        result = eval(_truths(code), {"__builtins__": {}}, names)
    except (ArithmeticError, ValueError):  # ValueError: the root of a negative number
        return None
    return float(result) if math.isfinite(result) else None


def real(power: complex) -> float:
    """Python makes (-1) ** 0.5 a complex number, we make it none."""
    if isinstance(power, complex):
        raise ArithmeticError
    return power


def _truths(code: str) -> str:
    """Python's `a and b` is a or b; ours is true or false."""

    class Wrap(ast.NodeTransformer):
        def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
            self.generic_visit(node)
            return ast.Call(func=ast.Name("bool", ast.Load()), args=[node], keywords=[])

        def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
            self.generic_visit(node)
            if not isinstance(node.op, ast.Pow):
                return node
            return ast.Call(func=ast.Name("real", ast.Load()), args=[node], keywords=[])

        def visit_Constant(self, node: ast.Constant) -> ast.AST:
            return ast.Constant(float(node.value))

    return ast.unparse(ast.fix_missing_locations(Wrap().visit(ast.parse(code, mode="eval"))))


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS, st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=6))
def test_columns_give_what_plain_python_gives_row_by_row(text: str, rows: list[tuple[float, ...]]) -> None:
    expression = Expression(f"{text} if a == a else 0")  # names a point, whatever was drawn
    columns = {name: np.array([row[i] for row in rows]) for i, name in enumerate(NAMES)}
    got = expression.evaluate(columns)
    for i in range(len(rows)):
        expected = plain_python(expression.text, {name: float(columns[name][i]) for name in NAMES})
        if expected is None:
            assert math.isnan(got[i]), (expression.text, columns)
        else:
            assert got[i] == pytest.approx(expected, rel=1e-12, abs=0.0), (expression.text, columns)


@pytest.mark.parametrize(
    ("text", "character", "message"),
    [
        ("a.real", 1, "a dot after a name is not allowed here"),
        ("().__class__", 1, "a dot after a name is not allowed here"),
        ("a + b.__class__.__mro__", 5, "a dot after a name is not allowed here"),
        ("__import__('os').system('id')", 1, "a dot after a name is not allowed here"),
        ("__import__('os')", 1, "there is no function __import__"),
        ("eval('a')", 1, "there is no function eval"),
        ("sqr(a)", 1, "there is no function sqr"),
        ("(lambda: a)()", 2, "lambda is not allowed here"),
        ("a + (lambda x: x)", 6, "lambda is not allowed here"),
        ("a(b)(a)", 1, "this is no function"),
        ("[x for x in a]", 1, "a comprehension is not allowed here"),
        ("max(x for x in a)", 1, "max takes 2 to 100 values, found 1"),
        ("min(a, *b)", 8, "a star before a name is not allowed here"),
        ("min(a, b, key=abs)", 11, "= is not allowed here"),
        ("sqrt(a, b)", 1, "sqrt takes one value, found 2"),
        ("a[0]", 1, "[...] is not allowed here"),
        ("{a, b}", 1, "{...} around more than the name of a point is not allowed here"),
        ("a, b", 1, "a comma is not allowed here"),
        ("'x' * 1000000000", 1, "text is not allowed here"),
        ("a * b'x'", 5, "text is not allowed here"),
        ("f'{a}'", 1, "text is not allowed here"),
        ("a ** 65", 6, "the exponent is 65"),
        ("9 ** 9 ** 9 + a", 6, "the exponent is 3.8742e+08"),
        ("a ** b", 6, "b stands in an exponent"),
        ("a ** (1/0)", 7, "the exponent is nan"),
        ("a + " + "9" * 400, 5, "a number below 1.8e308 expected"),
        ("a + 1j", 5, "1j is not allowed here"),
        ("a if True else b", 6, "True is not allowed here"),
        ("a == None", 6, "None is not allowed here"),
        ("a ^ 2", 1, "^ is not allowed here"),
        ("a // 2", 1, "// is not allowed here"),
        ("a << 9", 1, "<< is not allowed here"),
        ("a & b", 1, "& is not allowed here"),
        ("~a", 1, "~ is not allowed here"),
        ("a is b", 1, "is is not allowed here"),
        ("a in b", 1, "in is not allowed here"),
        ("(a := 1)", 2, ":= is not allowed here"),
        ("await a", 1, "await is not allowed here"),
        ("(yield a)", 2, "yield is not allowed here"),
        ("a = b", 3, "this is no expression"),
        ("a; b", 2, "this is no expression"),
        ("a) + (b", 2, "this is no expression"),
        ("(a", 1, "this is no expression"),
        ("a +", 1, "this is no expression"),
        ("a # b", 3, "a comment cannot stand in an expression"),
        ("import os", 1, "this is no expression"),
        ("a（b）", 2, "unexpected character '（'"),
        ("压力 * 2", 1, "unexpected character '压'"),
        ("   ", 1, "the expression is empty"),
        ("1 + 2", 1, "names no point"),
        ("a" * (MOST_CHARACTERS + 1), MOST_CHARACTERS + 1, "at most 2000 characters expected, found 2001"),
        ("-" * 150 + "a", 101, "nested more than 100 deep"),
        ("+".join("a" * 150), 101, "nested more than 100 deep"),
        ("b + max(" + ",".join("a" * 110) + ")", 5, "max takes 2 to 100 values, found 110"),
        ("min(" + ",".join(["a<b<a<b"] * 90) + ")", 85, "more than 400 parts"),
        ("(" * 300 + "a" + ")" * 300, 201, "this is no expression"),
        ("\x00a", 1, "unexpected character '\\x00'"),
        ("a\\\n+b", 3, "this is no expression"),
    ],
)
def test_hostile_and_mistaken_expressions_are_refused_with_their_place(text: str, character: int, message: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        Expression(text)
    assert str(refused.value).startswith(f"at character {character}: {message}")
    assert refused.value.hint


PIECES = [*"ab_.()[]{}'\"*+-/%<>=!~^&|@:;,\\ \n0189", "lambda ", "__", " if ", " else ", " and ", "min(", "** "]
SOUP = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


def refusal(text: str) -> ExpressionError | None:
    try:
        Expression(text)
    except ExpressionError as error:
        return error
    return None


@settings(max_examples=100, deadline=None)
@given(st.one_of(SOUP, st.text(max_size=60)))
def test_whatever_is_written_is_either_refused_in_words_or_reaches_points_alone(text: str) -> None:
    if refused := refusal(text):
        assert 1 <= refused.character <= max(len(text), 1)
        return
    expression = Expression(text)
    columns = {name: np.array([1.5, -2.0]) for name in expression.names}
    assert expression.evaluate(columns).shape == (2,)


def test_a_sum_of_a_hundred_meters_and_names_that_are_no_words_of_python() -> None:
    names = [f"meter-{i}" for i in range(90)]
    expression = Expression(" + ".join(f"{{{name}}}" for name in names))
    assert expression.names == tuple(names)
    columns = {name: np.array([float(i), 1.0]) for i, name in enumerate(names)}
    assert expression.evaluate(columns).tolist() == [sum(range(90)), 90.0]


def test_what_is_true_or_false_is_known_before() -> None:
    assert Expression("a > 5").is_bool
    assert Expression("not a if a > 2 else a > 7").is_bool
    assert not Expression("a + (b > 5)").is_bool
    assert not Expression("a if a > 5 else b > 1").is_bool
