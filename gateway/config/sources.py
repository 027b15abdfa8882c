"""Where a device's keys come from: its own file, or a template under it. Messages point into the right one."""

from __future__ import annotations

import json
from typing import Any, Protocol

from gateway.config.problems import Path, Place, Problem, path_text
from gateway.config.templates import DEVICE, Scalar, Slot, Template, Unfit
from gateway.config.words import nearest
from gateway.config.yaml import Document

TABLES = ("points", "derived")
"""lists of points, in which a device file names only what differs from its template"""


def is_derived(point: Any) -> bool:
    """Whether an entry of a list of points is computed, and so belongs into `derived` wherever it was written."""
    return isinstance(point, dict) and ("expression" in point or "window" in point)


class Source(Protocol):
    """Data to be checked, with the place of everything in it."""

    @property
    def data(self) -> Any:
        """Plain dicts, lists and scalars."""
        ...

    def locate(self, path: Path, *, key: bool = False) -> Place:
        """Place of the value at `path` or of its key, else of the nearest thing around it."""
        ...

    def raw(self, path: Path) -> str | None:
        """The scalar at `path` as it was written."""
        ...

    def secret(self, path: Path) -> str | None:
        """The reference that stood at `path`, when a secret was put in there."""
        ...


class Plain:
    """One file by itself."""

    def __init__(self, document: Document) -> None:
        self.data = document.data
        self._document = document

    def locate(self, path: Path, *, key: bool = False) -> Place:
        """See `Source.locate`."""
        return self._document.locate(path, key=key)

    def raw(self, path: Path) -> str | None:
        """See `Source.raw`."""
        return self._document.raw(path)

    def secret(self, path: Path) -> str | None:
        """See `Source.secret`."""
        return self._document.secrets.get(path)


class Overlay:
    """A device file over a template: groups of keys are merged, points are matched by their name.

    The template is filled in with the device's `parameters`, and loses the points that the device does `without`. A
    point in the device file adds to or replaces keys of the template's point with that name, else follows the
    template's points. `problems` are what does not fit between the two files.
    """

    def __init__(self, device: Document, template: Template) -> None:
        theirs_derived = _names(template.document.data, ("derived",))
        device.move("points", "derived", lambda point: not theirs_derived.isdisjoint(_names({"points": [point]})))
        self._device = device
        self._template = template
        self._origins: dict[str, list[tuple[int | None, int | None]]] = {}
        self.problems: list[Problem] = []
        self._bad: set[str] = set()
        given = device.data.get("parameters")
        self._given = given if isinstance(given, dict) else {}
        self._user = _user(device.data.get("device"), self._given)
        filled = template.fill(self._values())
        first = {error.parameter: (slot, error) for slot, error in reversed(filled.unfit)}
        self.problems += [self._unfit(slot, error) for slot, error in first.values()]
        self.data: dict[str, Any] = _merge(filled.data, device.data)
        left_out = self._without(filled.data)
        for table in TABLES:
            theirs, ours = filled.data.get(table), device.data.get(table)
            if isinstance(theirs, list) and (isinstance(ours, list) or table not in device.data):
                self.data[table] = self._points(table, theirs, ours or [], left_out)

    def locate(self, path: Path, *, key: bool = False) -> Place:
        """See `Source.locate`."""
        document, inner = self._find(path)
        place = document.locate(inner, key=key)
        return place._replace(used_by=self._user) if document is self._template.document else place

    def raw(self, path: Path) -> str | None:
        """See `Source.raw`; None for what was made of parameters."""
        document, inner = self._find(path)
        return None if self._slot(document, inner) else document.raw(inner)

    def secret(self, path: Path) -> str | None:
        """See `Source.secret`."""
        document, inner = self._find(path)
        slot = self._slot(document, inner)
        secrets = [self._device.secrets.get(("parameters", name)) for name in slot.names] if slot else []
        return document.secrets.get(inner) or next((secret for secret in secrets if secret), None)

    def origin(self, table: str, point: int) -> tuple[Place | None, Place | None, tuple[str, ...]]:
        """Where a point of `data` stands in the template and in the device file, and which keys the latter changes.

        `table` is one of `TABLES`.
        """
        theirs, ours = self._origins[table][point] if table in self._origins else (None, point)
        device, template = self._device, self._template.document
        changed = () if theirs is None or ours is None else tuple(self._device.data[table][ours])
        return (
            None if theirs is None else template.locate((table, theirs)),
            None if ours is None else device.locate((table, ours)),
            tuple(key for key in changed if key != "point"),
        )

    def doubtful(self) -> set[tuple[str, int, int]]:
        """Places (file, line, column) that look wrong only because something is told already."""
        slots = [slot.path for slot in self._template.slots.values() if self._bad.intersection(slot.names)]
        told = [(each.file, each.line, each.column) for each in (*self._template.problems, *self.problems)]
        return {*told, *(self._template.document.locate(path)[:3] for path in (*slots, *self._template.untold))}

    def _slot(self, document: Document, path: Path) -> Slot | None:
        return self._template.slots.get(path) if document is self._template.document else None

    def _values(self) -> dict[str, Scalar]:
        """The template's parameters as this device gives them."""
        file, declared = self._template.document.file, self._template.parameters
        values: dict[str, Scalar] = {}
        for name, value in self._given.items():
            if name not in declared:
                if self._template.problems:
                    continue  # it may be one that is not declared right
                near = nearest(name, declared)
                message = f'parameters: {file} has no parameter "{name}"'
                hint = f"parameters of this template: {', '.join(declared)}" if declared else "this template has none"
                message += f', did you mean "{near}"?' if near else ""
                self._problem(("parameters", name), message, hint, key=True)
            elif isinstance(value, dict | list) or value is None:
                found = "nothing" if value is None else "a list" if isinstance(value, list) else "a group of keys"
                self._problem(("parameters", name), f"parameters.{name}: expected text or a number, found {found}")
                self._bad.add(name)
            else:
                values[name] = value
        mistyped = {near for name in self._given if name not in declared and (near := nearest(name, declared))}
        for name, parameter in declared.items():
            if name in values:
                continue
            told = name in self._given or name in mistyped or self._template.problems
            if parameter.default is None and not told:
                path: Path = ("parameters",) if self._device.has(("parameters",)) else ("template",)
                hint = f"add parameters: {{{name}: ...}}"
                hint += f" ({parameter.description})" if parameter.description else ""
                self._problem(path, f'{file} needs the parameter "{name}"', hint)
            if parameter.default is None or name in mistyped:
                self._bad.add(name)
            values[name] = parameter.default if parameter.default is not None else 0
        device = self._device.data.get("device")
        return values | {DEVICE: device if isinstance(device, str) else ""}

    def _unfit(self, slot: Slot, error: Unfit) -> Problem:
        self._bad.add(error.parameter)
        place = self._template.document.locate(slot.path)
        path = ("parameters", error.parameter)
        own = self._device.has(path)
        document = self._device if own else self._template.document
        raw = document.raw(path if own else (*path, "default")) or document.raw(path) or ""
        shown = f'"{raw}"' if isinstance(self._given.get(error.parameter), str) else raw
        hint = f'put it in quotes: {error.parameter}: "{raw}"' if error.wants_text else "such as 100, without quotes"
        where = f"{place.file}:{place.line}:{place.column}"
        message = f"{path_text(path)}: at {where} {error.message}, found {shown}"
        return Problem.at(document.locate(path), message, hint)

    def _problem(self, path: Path, message: str, hint: str = "", *, key: bool = False) -> None:
        self.problems.append(Problem.at(self._device.locate(path, key=key), message, hint))

    def _without(self, filled: dict[str, Any]) -> set[str]:
        """Names of the template's points that the device leaves out."""
        names = self._device.data.get("without")
        theirs, ours = _names(filled), _names(self._device.data)
        left_out: set[str] = set()
        for index, name in enumerate(names if isinstance(names, list) else []):
            if not isinstance(name, str):
                continue  # what the model tells
            if name not in theirs:
                near = nearest(name, theirs)
                message = f'without: {self._template.document.file} has no point "{name}"'
                message += f', did you mean "{near}"?' if near else ""
                self._problem(("without", index), message, "name points of the template")
            elif name in ours:
                message = f'without: the point "{name}" is left out here and stands under points'
                self._problem(("without", index), message, "take one of them out")
            else:
                left_out.add(name)
        return left_out

    def _points(self, table: str, theirs: list[Any], ours: list[Any], left_out: set[str]) -> list[Any]:
        origins = self._origins.setdefault(table, [])
        waiting: dict[Any, list[int]] = {}
        for index, point in enumerate(ours):
            if isinstance(point, dict) and isinstance(name := point.get("point"), str):
                waiting.setdefault(name, []).append(index)
        merged: list[Any] = []
        used: set[int] = set()
        for index, point in enumerate(theirs):
            name = point.get("point") if isinstance(point, dict) else None
            if not isinstance(name, str):
                name = None
            if name in left_out:
                continue
            matches = waiting.get(name) if name is not None else None
            if matches and matches[0] not in used:
                used.add(matches[0])
                merged.append(point | ours[matches[0]])
                origins.append((index, matches[0]))
            else:
                merged.append(point)
                origins.append((index, None))
        for index, point in enumerate(ours):
            if index not in used:
                merged.append(point)
                origins.append((None, index))
        return merged

    def _find(self, path: Path) -> tuple[Document, Path]:
        in_device: Path | None = path
        in_template: Path | None = path
        table, index = path[:2] if len(path) > 1 else (None, None)
        if isinstance(table, str) and isinstance(index, int) and table in self._origins:
            theirs, ours = self._origins[table][index]
            in_device = None if ours is None else (table, ours, *path[2:])
            in_template = None if theirs is None else (table, theirs, *path[2:])
        if in_device is not None and (in_template is None or self._device.has(in_device)):
            return self._device, in_device
        template = self._template.document
        if in_template is not None and (in_device is None or template.has(in_template)):
            return template, in_template
        return self._device, in_device or path


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _names(data: dict[str, Any], tables: tuple[str, ...] = TABLES) -> set[str]:
    """Names of all points in a file."""
    entries = [entry for table in tables if isinstance(data.get(table), list) for entry in data[table]]
    names = (entry.get("point") for entry in entries if isinstance(entry, dict))
    return {name for name in names if isinstance(name, str)}


def _user(device: Any, parameters: dict[str, Any]) -> str:
    """A device with the parameters that it gives, for people."""
    given = [
        f"{name}: {value if isinstance(value, int | float) else json.dumps(value, ensure_ascii=False)}"
        for name, value in parameters.items()
        if isinstance(value, str | int | float)
    ]
    return f"{device}" + (f" ({', '.join(given)})" if given else "")
