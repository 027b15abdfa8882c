"""Expressions of derived points: a small part of Python's syntax, checked before it is ever evaluated.

Python's own parser reads the text, a whitelist decides what may stand in it, and simpleeval walks the tree with our
operators, which work on whole columns. There is no `eval`, no attribute, no subscript, no text, and no name but points.

A value that does not exist (a division by zero, the root of a negative number, an overflow of a power, an operand that
is itself NaN) is NaN on the way, and what is computed from it is NaN too: comparisons give 1.0, 0.0 or NaN. Only what
an `if ... else`, an `and` or an `or` does not choose may be NaN without harm, as in Python, where it is not computed.
"""

from __future__ import annotations

import ast
import difflib
import math
import re
import warnings
from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

MOST_CHARACTERS: Final = 2_000
MOST_NODES: Final = 400
"""names, numbers, operations and calls"""
MOST_DEPTH: Final = 100
"""a sum of a hundred meters is as deep; simpleeval takes three frames of Python's thousand for each"""
MOST_EXPONENT: Final = 64.0
FUNCTIONS: Final[Mapping[str, tuple[int, int]]] = {"abs": (1, 1), "max": (2, 100), "min": (2, 100), "sqrt": (1, 1)}
"""least and most arguments"""

Column = npt.NDArray[np.float64]

_BRACED: Final = re.compile(r"\{([A-Za-z0-9_-]{1,64})\}")
_FULL_WIDTH: Final = str.maketrans(
    {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | {0x3000: " ", 0xD7: "*", 0xF7: "/", 0x2212: "-"}
)
_NUMBERS: Final = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.Pow)
_COMPARISONS: Final = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_NAMED: Final[Mapping[type[ast.AST], str]] = {
    ast.Attribute: "a dot after a name",
    ast.Subscript: "[...]",
    ast.Lambda: "lambda",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.List: "a list",
    ast.Tuple: "a comma",
    ast.Set: "{...} around more than the name of a point",
    ast.Dict: "{...} around more than the name of a point",
    ast.JoinedStr: "text",
    ast.NamedExpr: ":=",
    ast.Starred: "a star before a name",
    ast.Await: "await",
    ast.Yield: "yield",
    ast.YieldFrom: "yield",
    ast.FloorDiv: "//",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.BitAnd: "&",
    ast.Invert: "~",
    ast.MatMult: "@",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Is: "is",
    ast.IsNot: "is not",
}
_HINTS: Final[Mapping[type[ast.AST], str]] = {
    ast.BitXor: "a power is written **",
    ast.BitAnd: "write and",
    ast.BitOr: "write or",
    ast.Invert: "write not",
    ast.Attribute: "an expression knows the points of its own device, by their names alone",
    ast.Tuple: "decimals are written with a point",
}
ALLOWED: Final = (
    "allowed are points of this device, numbers, + - * / ** %, comparisons, and, or, not, "
    "A if CONDITION else B, abs, max, min, sqrt"
)


class ExpressionError(ValueError):
    """An expression that is refused: where, why, and the next step."""

    def __init__(self, character: int, message: str, hint: str = ALLOWED) -> None:
        super().__init__(f"at character {character}: {message}")
        self.character = character
        """from 1"""
        self.hint = hint


class Expression:
    """A checked expression over named columns."""

    def __init__(self, text: str) -> None:
        """Raises `ExpressionError` for everything that is not in the whitelist."""
        self.text = text
        names: dict[str, int] = {}
        self._tree = _checked(text, names)
        self.names: tuple[str, ...] = tuple(names)
        """the operands in order of appearance, each once"""
        self.characters: Mapping[str, int] = names
        """where each stands first, from 1"""
        self.is_bool = _is_bool(self._tree)
        """the result is true or false"""
        self._evaluator: Any = None

    def evaluate(self, columns: Mapping[str, Column]) -> Column:
        """The result for each row of the columns float64[n], one for each of `names`; NaN where there is none.

        Of a result that is true or false 1.0 or 0.0.
        """
        if self._evaluator is None:
            self._evaluator = _evaluator()
        self._evaluator.names = columns
        with np.errstate(all="ignore"):
            result = self._evaluator.eval(self.text, previously_parsed=self._tree)
        # The result of an expression over columns is a column, but for `1 if 2 > 1 else a`.
        finite: Column = np.where(np.isfinite(result), result, np.nan)
        shape = columns[self.names[0]].shape
        return finite if finite.shape == shape else np.broadcast_to(finite, shape)


def nearest(word: str, words: Collection[str]) -> str:
    """ "did you mean X?" or nothing."""
    near = difflib.get_close_matches(word, words, 1, 0.6)
    return f"did you mean {near[0]}?" if near else ""


def _checked(text: str, names: dict[str, int]) -> ast.expr:
    if len(text) > MOST_CHARACTERS:
        raise ExpressionError(
            MOST_CHARACTERS + 1,
            f"at most {MOST_CHARACTERS} characters expected, found {len(text)}",
            "make a derived point of a part of it",
        )
    for at, letter in enumerate(text, 1):
        if not " " <= letter <= "~" and letter not in "\n\t":
            plain = letter.translate(_FULL_WIDTH)
            hint = f"write {plain} (half-width)" if plain.isascii() else ALLOWED
            raise ExpressionError(at, f"unexpected character {letter!r}", hint)
    # Same length, so that positions stay: `{t-1}` is the point t-1, which would else be t minus 1.
    braced = {match.start(): match[1] for match in _BRACED.finditer(text)}
    plain = _BRACED.sub(lambda match: "_" * len(match[0]), text).translate({10: " ", 9: " "})
    if not plain.strip():
        raise ExpressionError(1, "the expression is empty")
    if "#" in plain:
        raise ExpressionError(plain.index("#") + 1, "a comment cannot stand in an expression")
    spaces = len(plain) - len(plain.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of `1if`, which the engineer cannot be told of
            tree = ast.parse(plain[spaces:], mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        at = (getattr(error, "offset", None) or 1) + spaces
        raise ExpressionError(max(min(at, len(text)), 1), "this is no expression") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.expr):
            node.col_offset += spaces
        if isinstance(node, ast.Name):
            node.id = braced.get(node.col_offset, node.id)
    _check_size(tree)
    _check(tree, names)
    if not names:
        raise ExpressionError(1, "names no point")
    return tree


def _check_size(tree: ast.expr) -> None:
    """Without recursion: what is too deep must not end this check in another way."""
    waiting: list[tuple[ast.AST, int]] = [(tree, 1)]
    nodes = 0
    while waiting:
        node, depth = waiting.pop()
        nodes += isinstance(node, ast.expr)
        if nodes > MOST_NODES or depth > MOST_DEPTH:
            what = f"more than {MOST_NODES} parts" if nodes > MOST_NODES else f"nested more than {MOST_DEPTH} deep"
            raise ExpressionError(_at(node), what, "make a derived point of a part of it")
        waiting += [(child, depth + 1) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def _at(node: ast.AST) -> int:
    """From 1. The text is ASCII, so that Python's bytes are characters."""
    return int(getattr(node, "col_offset", 0)) + 1


def _check(node: ast.expr, names: dict[str, int]) -> None:
    match node:
        case ast.Name():
            names.setdefault(node.id, _at(node))
        case ast.Constant():
            _check_constant(node)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not()):
            _check(node.operand, names)
        case ast.BinOp() if isinstance(node.op, _NUMBERS):
            _check(node.left, names)
            _check(node.right, names)
            if isinstance(node.op, ast.Pow):
                _check_exponent(node.right)
        case ast.BoolOp():
            for value in node.values:
                _check(value, names)
        case ast.Compare() if all(isinstance(each, _COMPARISONS) for each in node.ops):
            for value in (node.left, *node.comparators):
                _check(value, names)
        case ast.IfExp():
            for value in (node.test, node.body, node.orelse):
                _check(value, names)
        case ast.Call():
            _check_call(node, names)
        case _:
            raise _not_allowed(node)


def _not_allowed(node: ast.expr) -> ExpressionError:
    found: type[ast.AST] = type(node)
    if isinstance(node, ast.BinOp | ast.UnaryOp):
        found = type(node.op)
    elif isinstance(node, ast.Compare):
        found = next(type(each) for each in node.ops if not isinstance(each, _COMPARISONS))
    return ExpressionError(
        _at(node), f"{_NAMED.get(found, found.__name__)} is not allowed here", _HINTS.get(found, ALLOWED)
    )


def _check_constant(node: ast.Constant) -> None:
    """Numbers become floats, so that none can grow without bound."""
    if isinstance(node.value, str | bytes):
        raise ExpressionError(_at(node), "text is not allowed here", "names of points stand without quotes")
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        raise ExpressionError(_at(node), f"{node.value} is not allowed here", "write a number, such as 1 or 0")
    try:
        node.value = float(node.value)
    except OverflowError:
        node.value = math.inf
    if math.isinf(node.value):
        raise ExpressionError(_at(node), "a number below 1.8e308 expected", "write fewer digits")


def _check_exponent(node: ast.expr) -> None:
    hint = f"the exponent is a number of at most {MOST_EXPONENT:g}, such as 2, 0.5 or -1"
    found: dict[str, int] = {}
    _check(node, found)
    if found:
        raise ExpressionError(_at(node), f"{next(iter(found))} stands in an exponent", hint)
    with np.errstate(all="ignore"):
        value = float(_evaluator().eval("", previously_parsed=node))
    if not abs(value) <= MOST_EXPONENT:
        raise ExpressionError(_at(node), f"the exponent is {value:g}", hint)


def _check_call(node: ast.Call, names: dict[str, int]) -> None:
    if not isinstance(node.func, ast.Name):
        if type(node.func) in _NAMED:
            raise _not_allowed(node.func)
        raise ExpressionError(_at(node), "this is no function", "a product is written with *")
    name = node.func.id
    known = ", ".join(FUNCTIONS)
    if name not in FUNCTIONS:
        hint = nearest(name, FUNCTIONS) or f"there are {known}"
        raise ExpressionError(_at(node), f"there is no function {name}", hint)
    if node.keywords:
        raise ExpressionError(_at(node.keywords[0]), "= is not allowed here", "equality is written ==")
    least, most = FUNCTIONS[name]
    if not least <= len(node.args) <= most:
        expected = "one value" if most == 1 else f"{least} to {most} values"
        example = f"such as {name}({'a, b' if least > 1 else 'a'})"
        raise ExpressionError(_at(node), f"{name} takes {expected}, found {len(node.args)}", example)
    for value in node.args:
        _check(value, names)


def _is_bool(node: ast.expr) -> bool:
    match node:
        case ast.Compare() | ast.UnaryOp(op=ast.Not()) | ast.BoolOp():
            return True
        case ast.IfExp():
            return _is_bool(node.body) and _is_bool(node.orelse)
        case _:
            return False


def _evaluator() -> Any:
    from gateway.derive.evaluator import Evaluator  # noqa: PLC0415 - a config without expressions does not pay for it

    return Evaluator()
