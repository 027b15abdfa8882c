"""YAML with positions: plain data first, the place of every key and value when somebody asks.

libyaml's event stream through PyYAML, because 10,000 points must load within 2 s at the start of a small box: a
round-trip loader in pure Python takes five times longer than the whole budget. Scalars follow the core schema of YAML
1.2: `on`, `no` and `12:30` are text, and only true and false are booleans.

Positions cost memory and are needed for messages only, so they are gathered in a second pass when the first one asks.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import yaml

from gateway.config.problems import Path, Place, Problem

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH = 40
_INTEGER = re.compile(r"[-+]?[0-9]{1,40}|0o[0-7]{1,40}|0x[0-9a-fA-F]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_FULL_WIDTH = re.compile("[：，“”｛｝［］＂＇＃]")
_WIDE_VALUE = re.compile("[\uff01-\uff5e\u3000“”‘’]")
_PLAIN = str.maketrans("：，“”｛｝［］＂＇＃‘’", ":,\"\"{}[]\"'#''")
_NUMBER_STARTS = frozenset("0123456789+-.")


ABSENT: Any = object()
"""what `child` returns where there is nothing"""


def child(node: Any, part: str | int) -> Any:
    """The value under a key or list index, or ABSENT."""
    if isinstance(node, dict):
        return node.get(part, ABSENT)
    if isinstance(node, list) and isinstance(part, int) and part < len(node):
        return node[part]
    return ABSENT


class Mark(NamedTuple):
    """Where a key and its value stand, from 0; `raw` is a scalar as it was written."""

    key: tuple[int, int]
    value: tuple[int, int]
    raw: str | None


class Document:
    """One YAML file: `data` as dicts, lists and scalars, and the place of everything in it."""

    def __init__(self, file: str, text: str, data: Any) -> None:
        self.file = file
        self.data = data
        self.secrets: dict[Path, str] = {}
        """where a secret was put in, and the reference that stood there"""
        self._text = text
        self._marks: _Marks | None = None
        self._moved: dict[Path, Path] = {}

    def move(self, source: str, target: str, belongs: Callable[[Any], bool]) -> None:
        """Put entries of the list `source` that belong to the list `target` there, behind what it has.

        Their places stay where they were written. To be called before anybody asks for places within the lists.
        """
        entries, others = child(self.data, source), child(self.data, target)
        if not isinstance(entries, list) or not (others is ABSENT or isinstance(others, list)):
            return
        kept: list[Any] = []
        moved = [] if others is ABSENT else [*others]
        now: dict[Path, Path] = {}
        for index, entry in enumerate(entries):
            table, into = (target, moved) if belongs(entry) else (source, kept)
            now[source, index] = (table, len(into))
            into.append(entry)
        if len(kept) == len(entries):
            return
        self.data |= {source: kept, target: moved}
        written = {after: self._written(before) for before, after in now.items()}
        self._moved = {path: place for path, place in self._moved.items() if path not in now} | written
        self.secrets = {now.get(path[:2], path[:2]) + path[2:]: text for path, text in self.secrets.items()}

    def has(self, path: Path) -> bool:
        """Whether there is something at `path`."""
        node = self.data
        for part in path:
            node = child(node, part)
        return node is not ABSENT

    def locate(self, path: Path, *, key: bool = False) -> Place:
        """Place of the value at `path` (or of its key), else of what is nearest around it; with its path as written."""
        written = known = self._written(path)
        while (mark := self._marked.find(known)) is None:
            known = known[:-1]
        line, column = mark.key if key or known != written else mark.value
        return Place(self.file, line + 1, column + 1, written)

    def raw(self, path: Path) -> str | None:
        """The scalar at `path` as it was written; None for anything else."""
        mark = self._marked.find(self._written(path))
        return mark.raw if mark else None

    def _written(self, path: Path) -> Path:
        """Where in the file `path` stands."""
        return self._moved.get(path[:2], path[:2]) + path[2:]

    @property
    def _marked(self) -> _Marks:
        if self._marks is None:
            self._marks = _Marks()
            _Composer(self.file, self._text, self._marks).document()
        return self._marks


def parse(file: str, content: bytes) -> tuple[Document | None, list[Problem]]:
    """The document and what is wrong with its YAML; no document when it cannot be read at all."""
    text, problem = _decode(file, content)
    if problem:
        return None, [problem]
    composer = _Composer(file, text, None)
    try:
        data = composer.document()
    except yaml.YAMLError as error:
        return None, [*composer.problems, _syntax_problem(file, text, error)]
    except _Unreadable as error:
        return None, [*composer.problems, error.problem]
    return Document(file, text, data), composer.problems


class _Marks:
    """All positions of a document by path."""

    def __init__(self) -> None:
        self.marks: dict[Path, Mark] = {(): Mark((0, 0), (0, 0), None)}
        self.aliases: dict[Path, Path] = {}

    def find(self, path: Path) -> Mark | None:
        if mark := self.marks.get(path):
            return mark
        for length in range(len(path), 0, -1):
            if source := self.aliases.get(path[:length]):
                return self.find(source + path[length:])
        return None


class _Unreadable(Exception):
    """The document cannot be used, although it is YAML."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class _Composer:
    """Builds plain data from the events of one document; with `marks`, notes where everything stands."""

    def __init__(self, file: str, text: str, marks: _Marks | None) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._marks = marks
        self._anchors: dict[str, tuple[Any, Path]] = {}
        self._texts: dict[str, str] = {}  # a table of points repeats the same few words: keep each once

    def document(self) -> Any:
        next(self._events)  # start of stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        data = self._node(next(self._events), (), None)
        next(self._events)  # end of document
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _Unreadable(self._problem(after, 'a second document begins here ("---"); one file holds one'))
        return data

    def _node(self, event: Any, path: Path, key: Any) -> Any:
        if len(path) > _MAX_DEPTH:
            raise _Unreadable(self._problem(event, f"nested more than {_MAX_DEPTH} levels deep"))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        raw = None
        data: Any
        if isinstance(event, yaml.ScalarEvent):
            raw = event.value
            data = self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            data = self._mapping(path)
        else:
            data = self._sequence(path)
        if event.anchor:
            self._anchors[event.anchor] = (data, path)
        if self._marks is not None:
            at = (event.start_mark.line, event.start_mark.column)
            self._marks.marks[path] = Mark((key.line, key.column) if key else at, at, raw)
        return data

    def _mapping(self, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        seen: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise _Unreadable(self._problem(event, "a key must be a plain word"))
            key, mark = sys.intern(event.value), event.start_mark
            value = self._node(next(self._events), (*path, key), mark)
            if key == "<<" and isinstance(value, dict):
                merged = value
                if self._marks is not None:
                    for name in value:
                        self._marks.aliases.setdefault((*path, name), (*path, "<<", name))
            elif key in seen:
                first = seen[key]
                self.problems.append(
                    self._problem(
                        event,
                        f'key "{key}" stands twice here, first on line {first.line + 1}',
                        "remove or rename one of them",
                        (*path, key),
                    )
                )
            else:
                seen[key] = mark
                data[key] = value
        return merged | data if merged else data

    def _sequence(self, path: Path) -> list[Any]:
        data: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            data.append(self._node(event, (*path, len(data)), None))
        return data

    def _alias(self, event: Any, path: Path) -> Any:
        if event.anchor not in self._anchors:
            raise _Unreadable(self._problem(event, f'"*{event.anchor}" refers to an anchor that is not defined above'))
        data, source = self._anchors[event.anchor]
        if self._marks is not None:
            self._marks.aliases[path] = source
        return data

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if not event.implicit[0]:
            if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
                self.problems.append(self._problem(event, f"the tag {event.tag} is not supported", "remove it"))
            return text
        if text in _WORDS:
            return _WORDS[text]
        if text[0] in _NUMBER_STARTS:
            if _INTEGER.fullmatch(text):
                return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
            if _FLOAT.fullmatch(text):
                return float(text.replace(".inf", "inf").replace(".nan", "nan") if text[-1] in "fnFN" else text)
        return self._texts.setdefault(text, text)

    def _problem(self, event: Any, message: str, hint: str = "", path: Path = ()) -> Problem:
        mark = event.start_mark
        return Problem.at(Place(self._file, mark.line + 1, mark.column + 1, path), message, hint)


def _decode(file: str, content: bytes) -> tuple[str, Problem | None]:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "", Problem.at(Place(file, 1, 1), "the file is UTF-16, expected UTF-8", "save it again as UTF-8")
    try:
        return content.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        place = Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
    try:
        content.decode("gb18030")
    except UnicodeDecodeError:
        return "", Problem.at(place, "this is not UTF-8 text", "save the file again as UTF-8")
    return "", Problem.at(
        place,
        "this is not UTF-8; it looks like GBK",
        f"save the file as UTF-8 in the editor, or: iconv -f GB18030 -t UTF-8 {file} > utf8.yaml",
    )


def _syntax_problem(file: str, text: str, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:  # a reader error: a character that YAML forbids
        position = getattr(error, "position", 0)
        before = text[:position] if isinstance(position, int) else ""
        place = Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        return Problem.at(place, "a control character that YAML forbids", "delete it, or type the line again")
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    problem = getattr(error, "problem", None) or "this cannot be read"
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent:
        place = Place(file, mark.line + 1, indent.index("\t") + 1)
        return Problem.at(place, "a tab stands in the indentation; YAML allows only spaces", "replace it with spaces")
    place = Place(file, mark.line + 1, mark.column + 1)
    if "quoted scalar" in str(error.context if isinstance(error, yaml.MarkedYAMLError) else "") and error.context_mark:
        begins = error.context_mark
        place = Place(file, begins.line + 1, begins.column + 1)
        return Problem.at(place, "YAML: the quote that begins here is not closed", "close it on the same line")
    context = getattr(error, "context_mark", None)
    above = context is not None and context.line != mark.line
    message, hint = _in_words(problem, line[mark.column : mark.column + 1], above=above)
    if context is not None and above:
        message += f" (in what begins on line {context.line + 1})"
    first = max(0, min(mark.line - 1, context.line if context is not None else mark.line))
    for number in range(first, min(mark.line + 1, len(lines))):
        if wide := full_width_hint(lines[number]):
            hint = f"line {number + 1}: {wide}"
    return Problem.at(place, f"YAML: {message}", hint)


def full_width_hint(text: str) -> str:
    """What to do about the first Chinese full-width sign in `text` that was meant as YAML; empty when there is none."""
    if found := _FULL_WIDTH.search(text):
        return f'"{found[0]}" is a full-width sign; YAML needs the plain "{found[0].translate(_PLAIN)}"'
    return ""


def full_width_value_hint(text: str) -> str:
    """What to do about full-width digits and letters in a value that is not free text; empty when there are none."""
    if found := _WIDE_VALUE.search(text):
        plain = found[0].translate(_PLAIN)
        return f'"{found[0]}" is a full-width sign; write the plain {unicodedata.normalize("NFKC", plain)}'
    return ""


def _in_words(problem: str, character: str, *, above: bool) -> tuple[str, str]:
    """Message and hint; `above`: what is not finished at `character` began on a line before."""
    if "mapping values are not allowed" in problem:
        return "a key cannot stand here", 'put a value that holds ": " in quotes, or correct the indentation'
    if "cannot start any token" in problem:
        return f"an unquoted value cannot begin with {character!r}", "put the value in quotes"
    if "',' or '}'" in problem and character == "{" and not above:
        return 'expected "," or "}"', 'put a value that holds braces in quotes, such as "holding {base+4}"'
    if "',' or '}'" in problem:
        return 'expected "," or "}"', 'close the "{" group, or put a value that holds a special character in quotes'
    if "',' or ']'" in problem:
        return 'expected "," or "]"', 'close the "[" list, or put a value that holds a special character in quotes'
    if "could not find expected ':'" in problem:
        return 'expected ":" after a key', "write `key: value`, with a space after the colon"
    if "expected <block end>" in problem or "did not find expected key" in problem or "'-' indicator" in problem:
        return "the indentation does not fit what is above", "indent the keys of one group equally, with spaces"
    return problem, ""
