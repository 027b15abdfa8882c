"""The reference of every key, docs/config.md and docs/config.zh.md: `python -m gateway.config.reference --write`.

Made of the same schemas that editors use, in one language each. What stands above the mark in a page is written by
hand and stays.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gateway.config.descriptions import Language
from gateway.config.schema import groups

FOLDER = Path("docs")
PAGES: dict[str, Language] = {"config.md": "en", "config.zh.md": "zh"}
MARK = "<!-- From here on made by `python -m gateway.config.reference --write` -->"


class _Words(NamedTuple):
    """One language."""

    head: str
    devices: str
    required: str
    text: str
    number: str
    whole: str
    truth: str
    duration: str
    size: str
    rate: str
    listing: str
    group: str
    either: str
    span: tuple[str, str, str]


_WORDS: dict[Language, _Words] = {
    "en": _Words(
        "| key | may be | default | |", "devices/*.yaml, adapter: {}", "**required**", "text", "number", "whole number",
        "true, false", "duration", "size", "rate", "list of {}", "[group](#{})", " or ",
        ("{} to {}", "from {}", "up to {}"),
    ),
    "zh": _Words(
        "| 键 | 可写 | 默认 | 含义 |", "devices/*.yaml，adapter: {}", "**必填**", "文本", "数", "整数", "true、false",
        "时长", "大小", "速率", "列表：{}", "[一组键](#{})", " 或 ", ("{} 到 {}", "不小于 {}", "不大于 {}"),
    ),
}  # fmt: skip


def tables(language: Language) -> str:
    """All tables of a page."""
    words = _WORDS[language]
    known: dict[str, str] = {}
    lines: list[str] = []
    for group in groups(language):
        if group.name.startswith("template-"):
            continue
        kind, _, adapter = group.name.partition("-")
        lines += ["", f"## {words.devices.format(adapter) if adapter else f'{kind}.yaml'}"]
        lines += _Page(group.schema, adapter or kind, words, known).lines()
    return "\n".join(lines[1:]) + "\n"


class _Page:
    """The tables of one kind of file."""

    def __init__(self, schema: dict[str, Any], title: str, words: _Words, known: dict[str, str]) -> None:
        self._defs = schema.get("$defs", {})
        self._schema = schema
        self._title = title
        self._words = words
        self._known = known  # anchors of groups that stand on the page already, by their content
        self._waiting: list[tuple[str, dict[str, Any]]] = []

    def lines(self) -> Iterator[str]:
        """Root first, then each group where it is used first."""
        root = self._schema
        full = root.get("else", {})
        keys = root["properties"] | full.get("properties", {})
        yield from self._table(keys, full.get("required", root.get("required", ())), "")
        while self._waiting:
            path, group = self._waiting.pop(0)
            yield from ("", f"### {self._title} {path}", "")
            if "description" in group:
                yield from (group["description"], "")
            yield from self._table(group["properties"], group.get("required", ()), path, blank=False)

    def _table(self, keys: dict[str, Any], required: Any, path: str, *, blank: bool = True) -> Iterator[str]:
        if blank:
            yield ""
        yield from (self._words.head, "|---|---|---|---|")
        for key, value in keys.items():
            default = value.get("default")
            shown = self._words.required if key in required else "" if default is None else f"`{_plain(default)}`"
            kind = self._kind(value, f"{path} {key}".strip())
            yield f"| `{key}` | {kind} | {shown} | {_cell(value.get('description', ''))} |"

    def _kind(self, node: dict[str, Any], path: str) -> str:
        words = self._words
        if "$ref" in node:
            return self._reference(node["$ref"].rpartition("/")[2], path)
        if "anyOf" in node:
            kinds = [self._kind(each, path) for each in node["anyOf"] if each.get("type") != "null"]
            return words.either.join(dict.fromkeys(kinds))
        if "enum" in node or "const" in node:
            return ", ".join(f"`{_plain(each)}`" for each in node.get("enum", [node.get("const")]))
        kind = node.get("type")
        if kind == "array":
            items = node.get("items", {})
            # What may stand there too is a table of its own.
            return words.listing.format(self._kind(items.get("else", items), path))
        if kind == "object":
            if "properties" in node:
                return self._group(node, path)
            return words.group.partition("]")[0].strip("[")
        return self._scalar(node)

    def _scalar(self, node: dict[str, Any]) -> str:
        words, kind = self._words, node.get("type")
        if kind == "boolean":
            return words.truth
        if kind in ("integer", "number"):
            return (words.whole if kind == "integer" else words.number) + self._bounds(node)
        return self._text(node)

    def _text(self, node: dict[str, Any]) -> str:
        pattern = node.get("pattern", "")
        if "/s" in pattern:
            return self._words.rate
        if "ms|" in pattern:
            return ("`auto`, " if "auto" in pattern else "") + self._words.duration
        if "GT]B" in pattern:
            return ("`auto`, " if "auto" in pattern else "") + self._words.size
        return self._words.text

    def _bounds(self, node: dict[str, Any]) -> str:
        low = node.get("minimum", node.get("exclusiveMinimum"))
        high = node.get("maximum", node.get("exclusiveMaximum"))
        both, least, most = self._words.span
        if low is not None and high is not None:
            return f", {both.format(low, high)}"
        return f", {least.format(low)}" if low is not None else f", {most.format(high)}" if high is not None else ""

    def _reference(self, name: str, path: str) -> str:
        node = self._defs[name]
        return self._group(node, path) if "properties" in node else self._kind(node, path)

    def _group(self, node: dict[str, Any], path: str) -> str:
        content = json.dumps(node, sort_keys=True)
        if content not in self._known:
            self._known[content] = re.sub(r"[^a-z0-9_-]+", "-", f"{self._title} {path}".lower())
            self._waiting.append((path, node))
        return self._words.group.format(self._known[content])


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def page(text: str, language: Language) -> str:
    """A page with its tables made anew."""
    above, _, _ = text.partition(MARK)
    return f"{above}{MARK}\n\n{tables(language)}"


def main(argv: list[str] | None = None) -> int:
    """Write the pages, or say whether they are current; returns 0, or 1 when they are not."""
    parser = argparse.ArgumentParser(prog="python -m gateway.config.reference", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write them; without it they are compared")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args(argv)
    stale = []
    for name, language in PAGES.items():
        file = arguments.folder / name
        text = file.read_text(encoding="utf-8")
        if (made := page(text, language)) == text:
            continue
        stale.append(file)
        if arguments.write:
            file.write_text(made, encoding="utf-8")
    for file in stale:
        sys.stdout.write(f"{'written' if arguments.write else 'not current'}: {file}\n")
    return 1 if stale and not arguments.write else 0


if __name__ == "__main__":
    sys.exit(main())
