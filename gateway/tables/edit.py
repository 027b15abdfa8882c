"""Changes points in the text of a device file, and nothing else: comments, order and spaces of the rest stay.

Works on the places of YAML's events in the text, not on a tree that would be written anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from gateway.config.device_file import scalar
from gateway.contract import ConfigError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WIDTH = 118
_DURATION = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:ms|s|m|min|h|d)")
"""text that begins as a number does and is none, in YAML either: written without quotes, as people do"""
KEYS = ("point", "name", "tag", "address", "node", "type", "order", "bit", "length", "count", "scale", "offset", "unit")
"""the order in which people read the keys of a point; others follow"""


class _Pair(NamedTuple):
    """A key with its value, as indexes into the text."""

    start: int
    value: int
    end: int
    simple: bool
    """the value is one scalar, so that its end is known in every style"""


@dataclass(slots=True)
class _Item:
    """A point as it stands in the text."""

    start: int
    end: int
    flow: bool
    line: int
    pairs: dict[str, _Pair] = field(default_factory=dict)
    """in the order of the text"""
    name: str = ""


class DeviceText:
    """The text of a device file; changes are gathered, `text` has them all.

    Raises ConfigError, with file and line, where the file is written in a way that cannot be changed by rule.
    """

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._edits: list[tuple[int, int, str]] = []
        self._new: list[Mapping[str, Any]] = []
        self._items: dict[str, _Item] = {}
        self._points: tuple[int, int] | None = None
        self._flow_list = False
        self._column = 2
        self._end = len(text)
        self._walk()

    def has(self, point: str) -> bool:
        """Whether the point stands in this file; those of its template do not."""
        return point in self._items

    def set(self, point: str, key: str, value: Any) -> None:
        """Give a key of a point a value: in its place if it is there, else after those people read before it."""
        item = self._items[point]
        pair = item.pairs.get(key)
        written = flow(value)
        if pair is not None:
            if not pair.simple and not item.flow:
                raise self._by_hand(item, f"change {key} of point {point} to {written}")
            self._edits.append((pair.value, pair.end, written))
            return
        before = [known for known in KEYS[: KEYS.index(key)] if known in item.pairs] if key in KEYS else []
        after = item.pairs[before[-1]] if before else self._last_simple(item)
        if item.flow:
            self._edits.append((after.end, after.end, self._in_flow(item, after.end, f"{key}: {written}")))
        else:
            column = self._column_of(item.pairs["point"].start)
            end = self._line_end(after.end)
            self._edits.append((end, end, f"{self._newline}{' ' * column}{key}: {written}"))

    def remove_key(self, point: str, key: str) -> None:
        """Take a key of a point out."""
        item = self._items[point]
        pairs = list(item.pairs.items())
        index = next(i for i, (name, _) in enumerate(pairs) if name == key)
        pair = pairs[index][1]
        if item.flow:
            before = pairs[index - 1][1].end if index else None
            start, end = (before, pair.end) if before is not None else (pair.start, pairs[index + 1][1].start)
            self._edits.append((start, end, ""))
            return
        start = self._text.rfind("\n", 0, pair.start) + 1
        if not pair.simple or self._text[start : pair.start].strip():
            raise self._by_hand(item, f"take {key} of point {point} out")
        self._edits.append((start, min(self._line_end(pair.end) + len(self._newline), len(self._text)), ""))

    def remove_point(self, point: str) -> None:
        """Take a point out, with the rest of its last line."""
        item = self._items[point]
        if self._flow_list:
            raise self._by_hand(item, f"take point {point} out")
        start = self._text.rfind("\n", 0, item.start) + 1
        ends = [pair.end for pair in item.pairs.values()]
        end = self._line_end(item.end if item.flow else max(ends))
        self._edits.append((start, min(end + len(self._newline), len(self._text)), ""))

    def append(self, keys: Mapping[str, Any]) -> None:
        """Add a point after the others, in the style of the last one."""
        if self._flow_list:
            raise ConfigError(f"{self._file}: `points` is written in brackets; write one point a line, with `- `")
        self._new.append(keys)

    @property
    def text(self) -> str:
        """The text with all changes."""
        edits = sorted(self._edits, key=lambda edit: edit[:2])
        if self._new:
            edits.append(self._appended())
            edits.sort(key=lambda edit: edit[:2])
        parts: list[str] = []
        at = 0
        for start, end, replacement in edits:
            parts += (self._text[at:start], replacement)
            at = max(at, end)
        return "".join(parts) + self._text[at:]

    def _appended(self) -> tuple[int, int, str]:
        items = list(self._items.values())
        block = bool(items) and not items[-1].flow
        lines = [line for keys in self._new for line in point_lines(keys, self._column, block=block)]
        new = self._newline.join(lines)
        if items:
            last = items[-1]
            end = self._line_end(last.end if last.flow else max(pair.end for pair in last.pairs.values()))
            return end, end, self._newline + new
        if self._points is None:
            text = self._text[: self._end]
            lead = "" if not text or text.endswith("\n") else self._newline
            return self._end, self._end, f"{lead}points:{self._newline}{new}{self._newline}"
        return *self._points, self._newline + new

    def _in_flow(self, item: _Item, at: int, written: str) -> str:
        begin = self._text.rfind("\n", 0, at) + 1
        if at - begin + len(written) + 2 > _WIDTH:
            return f",{self._newline}{' ' * (self._column_of(item.start) + 1)}{written}"
        return f", {written}"

    def _last_simple(self, item: _Item) -> _Pair:
        return [pair for pair in item.pairs.values() if pair.simple or item.flow][-1]

    def _column_of(self, index: int) -> int:
        return index - (self._text.rfind("\n", 0, index) + 1)

    def _line_end(self, index: int) -> int:
        end = self._text.find("\n", index)
        if end < 0:
            return len(self._text)
        return end - 1 if self._text[end - 1] == "\r" and end > index else end

    def _by_hand(self, item: _Item, what: str) -> ConfigError:
        return ConfigError(f"{self._file}:{item.line}: this point is written in a way that is not changed here; {what}")

    def _walk(self) -> None:
        events = iter(yaml.parse(self._text, Loader=_LOADER))
        next(events)
        next(events)
        root = next(events)
        if not isinstance(root, yaml.MappingStartEvent) or root.flow_style:
            raise ConfigError(f"{self._file}: expected keys such as `device: boiler-1`, one a line")
        while not isinstance(key := next(events), yaml.MappingEndEvent):
            value = next(events)
            if key.value == "points" and isinstance(value, yaml.SequenceStartEvent):
                self._flow_list = bool(value.flow_style)
                self._list(events, value)
            else:
                if key.value == "points":
                    self._points = (key.end_mark.index + 1, value.end_mark.index)
                _skip(events, value)

    def _list(self, events: Iterator[Any], start: Any) -> None:
        self._points = (start.start_mark.index, start.end_mark.index)
        if not self._flow_list:
            self._column = start.start_mark.column
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            if not isinstance(event, yaml.MappingStartEvent):
                _skip(events, event)
                continue
            item = _Item(event.start_mark.index, 0, bool(event.flow_style), event.start_mark.line + 1)
            while not isinstance(key := next(events), yaml.MappingEndEvent):
                value = next(events)
                end = _skip(events, value)
                simple = isinstance(value, yaml.AliasEvent) or (
                    isinstance(value, yaml.ScalarEvent) and value.style not in ("|", ">")
                )
                item.pairs[key.value] = _Pair(key.start_mark.index, value.start_mark.index, end, simple)
                if key.value == "point" and isinstance(value, yaml.ScalarEvent):
                    item.name = value.value
            item.end = key.end_mark.index
            self._items.setdefault(item.name, item)


def _skip(events: Iterator[Any], event: Any) -> int:
    """Pass over what begins with `event`; returns where it ends in the text."""
    depth = 0
    while True:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth == 0:
            return int(event.end_mark.index)
        event = next(events)


def flow(value: Any) -> str:
    """A value on one line that reads back as the same."""
    if isinstance(value, str):
        if _DURATION.fullmatch(value):
            return value
        return scalar(value.replace("${", "$ {"))  # the loader would take it for a reference to a secret
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    return json.dumps(value)


def ordered(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a point in the order in which people read them."""
    known = {key: keys[key] for key in KEYS if key in keys}
    return known | {key: value for key, value in keys.items() if key not in known}


def point_lines(keys: Mapping[str, Any], column: int, *, block: bool) -> list[str]:
    """A point as lines of a list whose "-" stand at `column`: one in braces, or one line a key where `block`."""
    indent = " " * column
    parts = [f"{key}: {flow(value)}" for key, value in ordered(keys).items()]
    if block:
        return [f"{indent}- {parts[0]}", *(f"{indent}  {part}" for part in parts[1:])]
    lines = [f"{indent}- {{{parts[0]}"]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) + 3 > _WIDTH:
            lines[-1] += ","
            lines.append(f"{indent}   {part}")
        else:
            lines[-1] += f", {part}"
    lines[-1] += "}"
    return lines
