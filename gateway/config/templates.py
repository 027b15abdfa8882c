"""Templates: a point table that many equal machines share, with parameters that each device gives.

In a template's texts `{base}` stands for a parameter's value and `{base+4}` for a number computed from it (whole
numbers, `+`, `-`, `*`); `{device}` is the device's name; `{{` and `}}` are plain braces. A text that is nothing but a
placeholder becomes the parameter's own value: `station: "{unit}"` is a number where the device gives a number. In the
expression of a derived point braces around other names are the expression's own. What
stands under `identifiers` keeps its braces, which are the pattern's, and so does a text that holds a secret.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.config.problems import Path, Problem, path_text
from gateway.config.words import nearest
from gateway.config.yaml import Document

Scalar = str | int | float | bool
DEVICE = "device"
"""the parameter that every template has"""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_FACTOR = r"(?:[A-Za-z][A-Za-z0-9_]*|[0-9]{1,9})"
_EXPRESSION = re.compile(rf"\s*{_FACTOR}(?:\s*[-+*]\s*{_FACTOR})*\s*")
_TOKEN = re.compile(rf"{_FACTOR}|[-+*]")
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_KEYS_OF_A_PARAMETER = ("default", "description")
_NOT_IN_TEMPLATES = {
    "device": "the device file names the device",
    "template": "a template cannot use another one",
    "without": "the device file says which points it leaves out",
}
_OWN_BRACES = "identifiers"


class Parameter(NamedTuple):
    """What a template wants to be told."""

    default: Scalar | None
    """None = every device has to give it"""
    description: str


class Expression(NamedTuple):
    """What stands between braces."""

    text: str
    tokens: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def plain(self) -> bool:
        """Nothing but a parameter's name."""
        return len(self.tokens) == 1 and bool(self.names)


class Slot(NamedTuple):
    """A text of the template that holds placeholders."""

    path: Path
    parts: tuple[str | Expression, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that are used in it."""
        return tuple(name for part in self.parts if isinstance(part, Expression) for name in part.names)


class Unfit(Exception):
    """A parameter's value cannot be used where it is asked for."""

    def __init__(self, parameter: str, message: str, *, wants_text: bool = False) -> None:
        self.parameter = parameter
        self.message = message
        self.wants_text = wants_text


@dataclass(frozen=True, slots=True)
class Filled:
    """A template with one device's values."""

    data: dict[str, Any]
    unfit: tuple[tuple[Slot, Unfit], ...]
    """texts that could not be filled in; in `data` they are as they were"""


class Template:
    """A template file, read once; `fill` gives it the values of a device."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.parameters = dict(self._declared())
        self.untold: list[Path] = []
        """texts that are not understood only because the parameters were not"""
        self._declares = not self.problems
        self.slots = {slot.path: slot for slot in self._slots()}
        for key, why in _NOT_IN_TEMPLATES.items():
            if key in document.data:
                self._problem((key,), f'key "{key}" does not belong into a template', why, key=True)
        self._data = {
            key: value for key, value in document.data.items() if key != "parameters" and key not in _NOT_IN_TEMPLATES
        }

    def fill(self, values: Mapping[str, Scalar]) -> Filled:
        """The template's data with `values` in place; what has no placeholder is shared, not copied."""
        data = dict(self._data)
        copied: set[Path] = set()
        known: dict[str, Any] = {}
        unfit: list[tuple[Slot, Unfit]] = []
        for slot in self.slots.values():
            try:
                value = _value(slot, values, known)
            except Unfit as error:
                unfit.append((slot, error))
                continue
            node: Any = data
            for depth, part in enumerate(slot.path[:-1], 1):
                if (above := slot.path[:depth]) not in copied:
                    node[part] = copy.copy(node[part])
                    copied.add(above)
                node = node[part]
            node[slot.path[-1]] = value
        return Filled(data, tuple(unfit))

    def _declared(self) -> Iterator[tuple[str, Parameter]]:
        given = self.document.data.get("parameters")
        if given is None:
            return
        if isinstance(given, list) and all(isinstance(name, str) for name in given):
            given = dict.fromkeys(given)
        if not isinstance(given, dict):
            message = "parameters: expected a group of keys, one for each parameter"
            self._problem(
                ("parameters",), message, "such as parameters: {base: {description: first register}, unit: 1}"
            )
            return
        for name, what in given.items():
            path = ("parameters", name)
            if not _NAME.fullmatch(name) or name == DEVICE:
                message = f'parameters: expected a name of letters, digits and _, found "{name}"'
                hint = "{device} is always there: the device's name" if name == DEVICE else "such as base or unit_id"
                self._problem(path, message, hint, key=True)
            elif what is None or isinstance(what, dict):
                yield name, self._parameter(path, what or {})
            elif isinstance(what, list):
                self._problem(path, f"parameters.{name}: expected a default value or a group of keys, found a list")
            else:
                yield name, Parameter(what, "")

    def _parameter(self, path: Path, keys: dict[str, Any]) -> Parameter:
        for key in keys:
            if key not in _KEYS_OF_A_PARAMETER:
                near = nearest(key, _KEYS_OF_A_PARAMETER)
                message = f'{path_text(path)}: unknown key "{key}"' + (f', did you mean "{near}"?' if near else "")
                self._problem((*path, key), message, "valid here: default, description", key=True)
        default = keys.get("default")
        if isinstance(default, dict | list):
            self._problem((*path, "default"), f"{path_text(path)}.default: expected one value")
            default = ""
        return Parameter(default, str(keys.get("description") or ""))

    def _slots(self) -> Iterator[Slot]:
        for key, value in self.document.data.items():
            if key not in ("parameters", _OWN_BRACES, *_NOT_IN_TEMPLATES):
                yield from self._walk(value, (key,))

    def _walk(self, node: Any, path: Path) -> Iterator[Slot]:
        if isinstance(node, str):
            if ("{" in node or "}" in node) and path not in self.document.secrets and (slot := self._slot(node, path)):
                yield slot
        elif isinstance(node, dict):
            if len(node) == 1 and None in node.values() and _EXPRESSION.fullmatch(name := next(iter(node))):
                message = f"{path_text(path)}: YAML takes {{{name}}} without quotes for a group of keys"
                self._problem(path, message, f'put it in quotes: "{{{name}}}"')
                return
            for key, value in node.items():
                if key != _OWN_BRACES:
                    yield from self._walk(value, (*path, key))
        elif isinstance(node, list):
            for index, value in enumerate(node):
                yield from self._walk(value, (*path, index))

    def _slot(self, text: str, path: Path) -> Slot | None:
        parts: list[str | Expression] = []
        end = 0
        for match in _PIECE.finditer(text):
            parts.append(text[end : match.start()])
            end = match.end()
            piece = match[0]
            if match[1] is None and len(piece) == 1:
                message = f'{path_text(path)}: the brace "{piece}" has no partner'
                self._problem(path, message, 'write "{{" and "}}" for braces that are meant as such')
                return None
            if match[1] is None:
                parts.append(piece[0])
            elif self._is_point(match[1], path):
                parts.append(piece)
            elif (expression := self._expression(match[1], path)) is None:
                return None
            else:
                parts.append(expression)
        parts.append(text[end:])
        return Slot(path, tuple(part for part in parts if part))

    def _is_point(self, text: str, path: Path) -> bool:
        """Whether braces in the expression of a derived point hold a point's name, and not parameters."""
        names = [token for token in _TOKEN.findall(text) if token[0].isalpha()]
        known = {*self.parameters, DEVICE}
        return _is_formula(path) and not known.issuperset(names)

    def _expression(self, text: str, path: Path) -> Expression | None:
        if not _EXPRESSION.fullmatch(text):
            message = f'{path_text(path)}: expected a parameter such as {{base}} or {{base+4}}, found "{{{text}}}"'
            self._problem(path, message, 'write "{{" and "}}" for braces that are meant as such')
            return None
        tokens = tuple(_TOKEN.findall(text))
        names = tuple(token for token in tokens if token[0].isalpha())
        for name in names:
            if name not in self.parameters and name != DEVICE:
                if not self._declares:
                    self.untold.append(path)  # what is told of `parameters` is the cause
                    return None
                near = nearest(name, (*self.parameters, DEVICE))
                message = f'{path_text(path)}: there is no parameter "{name}"'
                there = ", ".join((*self.parameters, DEVICE))
                hint = f"parameters of this template: {there}; declare a new one under parameters:"
                self._problem(path, message + (f', did you mean "{near}"?' if near else ""), hint)
                return None
        return Expression(text, tokens, names)

    def _problem(self, path: Path, message: str, hint: str = "", *, key: bool = False) -> None:
        self.problems.append(Problem.at(self.document.locate(path, key=key), message, hint))


def _value(slot: Slot, values: Mapping[str, Scalar], known: dict[str, Any]) -> Any:
    """What stands in the slot; `known` keeps texts of expressions between slots. Raises Unfit."""
    if len(slot.parts) == 1 and isinstance(only := slot.parts[0], Expression):
        return values[only.names[0]] if only.plain else _number(only, values)
    text = ""
    for part in slot.parts:
        if isinstance(part, str):
            text += part
            continue
        if _is_formula(slot.path):
            text += _operand_text(part, values)
            continue
        if part.text not in known:
            known[part.text] = _text(part, values)
        text += known[part.text]
    return text


def _is_formula(path: Path) -> bool:
    """Whether the expression of a derived point stands there."""
    return path[0] == "derived" and path[-1] == "expression"


def _operand_text(expression: Expression, values: Mapping[str, Scalar]) -> str:
    """A parameter within a formula: a number counts as one operand, a text such as a point's name stands as it is."""
    value = values[expression.names[0]] if expression.plain else _number(expression, values)
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        raise Unfit(expression.names[0], "it stands within an expression, expected a number or text")
    return f"({value})" if value < 0 else str(value)


def _text(expression: Expression, values: Mapping[str, Scalar]) -> str:
    if not expression.plain:
        return str(_number(expression, values))
    name = expression.names[0]
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Unfit(name, "it stands within a text, expected text or a whole number", wants_text=True)
    return str(value)


def _number(expression: Expression, values: Mapping[str, Scalar]) -> int:
    """The expression's value: products first, then from left to right. Raises Unfit."""
    operands = [_operand(token, expression, values) for token in expression.tokens[::2]]
    waiting: list[tuple[str, int]] = [("+", operands[0])]
    for sign, operand in zip(expression.tokens[1::2], operands[1:], strict=True):
        if sign == "*":
            before, factor = waiting[-1]
            waiting[-1] = before, factor * operand
        else:
            waiting.append((sign, operand))
    total = 0
    for sign, operand in waiting:
        total += operand if sign == "+" else -operand
    return total


def _operand(token: str, expression: Expression, values: Mapping[str, Scalar]) -> int:
    if not token[0].isalpha():
        return int(token)
    value = values[token]
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unfit(token, f"{{{expression.text}}} needs a whole number")
    return value
