"""pydantic's errors in plain words: what was expected, what was found, the nearest valid key."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ValidationError

from gateway.config.problems import Path, Problem, path_text
from gateway.config.sources import Source
from gateway.config.words import meant_key, nearest
from gateway.config.yaml import ABSENT, child, full_width_hint, full_width_value_hint

_NAME_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
_COMPARISONS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_TYPES = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": 'a list (lines that begin with "- ")',
    "tuple": 'a list (lines that begin with "- ")',
    "dict": "a group of keys",
    "model": "a group of keys",
    "path": "a path",
}


class _Fault(NamedTuple):
    """One of pydantic's errors with its way into the data, union branches taken out."""

    path: Path
    type: str
    error: Mapping[str, Any]


def translate(error: ValidationError, model: type[BaseModel], source: Source) -> list[Problem]:
    """Problems for everything that `model` finds wrong with the source's data."""
    faults: dict[Path, list[_Fault]] = {}
    for detail in error.errors(include_url=False):
        path = _into_data(detail["loc"], source.data, missing=detail["type"] == "missing")
        faults.setdefault(path, []).append(_Fault(path, detail["type"], detail))
    # What lies deeper says more: a union reports every branch, a list with a bad entry also calls itself too short.
    leaves = [path for path in faults if not any(_is_inside(other, path) for other in faults)]
    problems = {path: _problem(faults[path], model, source) for path in leaves}
    renamed = {(*path[:-1], near) for path in leaves if (near := _nearest_key(faults[path][0], model))}
    return [problem for path, problem in problems.items() if path not in renamed]


def _into_data(loc: tuple[int | str, ...], data: Any, *, missing: bool) -> Path:
    """The part of pydantic's location that exists in the data; the rest are names of union branches."""
    path: list[int | str] = []
    node = data
    for i, part in enumerate(loc):
        below = child(node, part)
        if below is not ABSENT:
            path.append(part)
            node = below
        elif missing and i == len(loc) - 1:
            path.append(part)
    return tuple(path)


def _is_inside(inner: Path, outer: Path) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _problem(faults: list[_Fault], model: type[BaseModel], source: Source) -> Problem:
    fault = faults[0]
    path = fault.path
    if fault.type == "extra_forbidden":
        return _unknown_key(path, model, source)
    if fault.type == "missing":
        return _missing_key(path, model, source)
    found = "none" if fault.error["input"] == [] else _found(fault.error["input"], path, source)
    reference = source.secret(path)
    expected = list(dict.fromkeys(text for each in faults if (text := _expected(each))))
    if reference is not None:
        message = f"the value of {reference} does not fit" + (f": expected {' or '.join(expected)}" if expected else "")
        return Problem.at(
            source.locate(path), subject(path, source) + message, "correct the secret, or what stands around it"
        )
    wide = full_width_value_hint(fault.error["input"]) if isinstance(fault.error["input"], str) else ""
    if not expected:
        wide = wide or _wide_within(fault.error["input"])
        return Problem.at(source.locate(path), subject(path, source) + _plain_message(fault), wide)
    hint = wide
    if fault.type == "string_type" and isinstance(fault.error["input"], int | float):
        hint = f'put it in quotes: "{source.raw(path)}"'
    choices = fault.error.get("ctx", {}).get("expected", "")
    if fault.type in ("literal_error", "enum") and isinstance(fault.error["input"], str):
        near = nearest(fault.error["input"], _words(choices))
        hint = f"did you mean {near}?" if near else hint
        if near == fault.error["input"]:
            hint = "write it without quotes"
    return Problem.at(
        source.locate(path), f"{subject(path, source)}expected {' or '.join(expected)}, found {found}", hint
    )


def _wide_within(group: Any) -> str:
    """A hint for the first text of a group of keys that was refused as a whole."""
    texts = [value for value in group.values() if isinstance(value, str)] if isinstance(group, dict) else []
    return next((hint for text in texts if (hint := full_width_value_hint(text))), "")


def subject(path: Path, source: Source) -> str:
    """ "points[3].order (steam_pressure): ", as the beginning of a message; empty for the whole file."""
    if not path:
        return ""
    text = path_text(source.locate(path).path)
    name = _point_name(path, source.data)
    return f"{text} ({name}): " if name and path[-1] != "point" else f"{text}: "


def _point_name(path: Path, data: Any) -> str | None:
    if len(path) < 2 or path[0] not in ("points", "derived", "destinations") or not isinstance(path[1], int):
        return None
    try:
        name = data[path[0]][path[1]]["name" if path[0] == "destinations" else "point"]
    except (LookupError, TypeError):
        return None
    return name if isinstance(name, str) else None


def _unknown_key(path: Path, model: type[BaseModel], source: Source) -> Problem:
    key, valid, hint = str(path[-1]), _valid_keys(path, model), ""
    if wide := full_width_hint(key):
        message, hint = f'unknown key "{key}"', wide
    elif near := meant_key(key, valid):
        message = f'unknown key "{key}", did you mean "{near}"?'
    elif elsewhere := _elsewhere(model, key):
        message, hint = f'key "{key}" is in the wrong place', f'"{key}" belongs to {elsewhere}'
    else:
        message, hint = f'unknown key "{key}"', "valid here: " + ", ".join(valid)
    return Problem.at(source.locate(path, key=True), _parent(path, source) + message, hint)


def _nearest_key(fault: _Fault, model: type[BaseModel]) -> str | None:
    if fault.type != "extra_forbidden":
        return None
    return meant_key(str(fault.path[-1]), _valid_keys(fault.path, model))


def _valid_keys(path: Path, model: type[BaseModel]) -> list[str]:
    return list(dict.fromkeys(key for candidate in _models_at(model, path[:-1]) for key in _keys(candidate)))


def _missing_key(path: Path, model: type[BaseModel], source: Source) -> Problem:
    description = ""
    for candidate in _models_at(model, path[:-1]):
        for name, field in candidate.model_fields.items():
            if (field.alias or name) == path[-1]:
                description = field.description or ""
    place = source.locate(path[:-1])
    message = f'{_parent(path, source)}key "{path[-1]}" is missing'
    return Problem.at(place, message, f"add {path[-1]}: {description}" if description else f'add "{path[-1]}"')


def _parent(path: Path, source: Source) -> str:
    return subject(path[:-1], source)


def _expected(fault: _Fault) -> str:  # noqa: PLR0911 - a table with conditions
    type, context = fault.type, fault.error.get("ctx", {})
    if type in _COMPARISONS:
        words, key = _COMPARISONS[type]
        return f"{words} {context[key]}"
    if type == "string_pattern_mismatch":
        if context["pattern"] == _NAME_PATTERN:
            return "1 to 64 letters, digits, - and _"
        return f"text like {context['pattern']}"
    if type in ("literal_error", "enum"):
        return str(context["expected"]).replace("'", "")
    if type in ("too_short", "string_too_short"):
        return f"at least {context['min_length']} {'entry' if type == 'too_short' else 'character'}" + (
            "s" if context["min_length"] != 1 and type != "too_short" else ""
        )
    if type in ("too_long", "string_too_long"):
        return f"at most {context['max_length']} {'entries' if type == 'too_long' else 'characters'}"
    if type == "int_from_float":
        return "a whole number"
    kind, _, rest = type.rpartition("_")
    if rest in ("type", "parsing"):
        return _TYPES.get(kind, "")
    return ""


def _plain_message(fault: _Fault) -> str:
    message = str(fault.error["msg"])
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")


def _found(value: Any, path: Path, source: Source) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {source.raw(path) or value}"
    if isinstance(value, str):
        return f'"{value if len(value) <= 60 else value[:57] + "..."}"'
    return "a list" if isinstance(value, list) else "a group of keys"


def _words(choices: str) -> list[str]:
    return choices.replace("'", "").replace(" or ", ", ").split(", ")


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_at(model: type[BaseModel], path: Path) -> list[type[BaseModel]]:
    """Every model that may stand at `path` of a document of `model`."""
    candidates = [model]
    for part in path:
        if isinstance(part, int):
            continue
        candidates = [
            inner
            for candidate in candidates
            for name, field in candidate.model_fields.items()
            if (field.alias or name) == part
            for inner in _models_in(field.annotation)
        ]
    return candidates


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated, tuple, list):
        for argument in typing.get_args(annotation):
            yield from _models_in(argument)


def _elsewhere(model: type[BaseModel], key: str, under: str = "") -> str | None:
    """Where else in the file a key belongs, such as "points[]" or "connection"."""
    for name, field in model.model_fields.items():
        if (field.alias or name) == key and under:
            return under
        many = typing.get_origin(field.annotation) in (tuple, list)
        below = f"{under}.{field.alias or name}" if under else (field.alias or name)
        for inner in _models_in(field.annotation):
            if place := _elsewhere(inner, key, below + "[]" * many):
                return place
    if not under and key in _keys(model):
        return "the top of the file"
    return None
