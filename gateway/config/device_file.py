"""Writes a device file from what was found at the equipment. Pure.

Texts come from the equipment, so that each is quoted as needed, and none can become a reference to a secret.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.contract.tools import Item

MOST_LETTERS = 64
"""length of a name: `gateway.contract.config.Name`"""
_WIDTH = 118
_OTHER = re.compile(r"[^A-Za-z0-9_-]+")
_BARE = re.compile(r"(?:[^\W\d_]|[℃°])(?:[\w./°%²³·()-]| (?=\S))*")
"""scalars that need no quotes, inside braces either"""
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""what readers of one or the other YAML version take for something else than text"""


def point_names(items: Sequence[Item]) -> list[str]:
    """A name for each item, made of its tag: letters, digits, "-" and "_", unique, whatever the case.

    Equal ones get the names of their groups in front, as many as it takes, and a number where that does not help.
    """
    words = [_words(item) for item in items]
    lengths = [1] * len(items)
    for _ in range(max((len(each) for each in words), default=0)):
        names = [_joined(each, length) for each, length in zip(words, lengths, strict=True)]
        count = Counter(name.casefold() for name in names)
        twice = [i for i, name in enumerate(names) if count[name.casefold()] > 1 and lengths[i] < len(words[i])]
        if not twice:
            break
        for i in twice:
            lengths[i] += 1
    return _numbered([_joined(each, length) for each, length in zip(words, lengths, strict=True)])


def safe_name(text: str) -> str:
    """`text` with every run of other characters as one "_"; empty when nothing is left."""
    return _OTHER.sub("_", text).strip("_")


def _words(item: Item) -> list[str]:
    """The item's own name, then its groups' from the inside out."""
    own = safe_name(item.tag) or safe_name(item.name) or safe_name(item.address.rpartition("=")[2]) or "point"
    return [own, *(name for name in map(safe_name, reversed(item.path[:-1])) if name)]


def _joined(words: Sequence[str], length: int) -> str:
    return "_".join(reversed(words[:length]))[-MOST_LETTERS:].lstrip("_")


def _numbered(names: Iterable[str]) -> list[str]:
    taken: set[str] = set()
    made = []
    for name in names:
        unique, number = name, 1
        while unique.casefold() in taken:
            number += 1
            unique = f"{name[: MOST_LETTERS - len(str(number)) - 1]}_{number}"
        taken.add(unique.casefold())
        made.append(unique)
    return made


def point_keys(name: str, item: Item) -> dict[str, Any]:
    """An item as a point of a device file, in the order in which people read it."""
    keys: dict[str, Any] = {"point": name}
    texts = {"name": item.name, "tag": item.tag}
    keys |= {key: _harmless(text) for key, text in texts.items() if text}
    keys |= item.point or {}
    if item.unit:
        keys["unit"] = _harmless(item.unit)
    if item.description:
        keys["description"] = _harmless(item.description)
    return keys


def usable(item: Item) -> bool:
    """Whether an item can be a point: it holds a readable value, and its address is no reference to a secret."""
    return item.point is not None and "${" not in item.address


def device_file(
    device: str, adapter: str, connection: Mapping[str, Any], items: Sequence[Item], header: Iterable[str] = ()
) -> str:
    """The text of a device file with all usable items; `header` are lines of comment at its top."""
    chosen = [item for item in items if usable(item)]
    lines = [f"# {_one_line(line)}" for line in header]
    lines += [f"device: {scalar(device)}", f"adapter: {scalar(adapter)}", "connection:"]
    lines += [f"  {key}: {_flow(value)}" for key, value in connection.items()]
    lines.append("points:")
    for name, item in zip(point_names(chosen), chosen, strict=True):
        lines += point_lines(name, item)
    return "\n".join(lines) + "\n"


def point_lines(name: str, item: Item, width: int = _WIDTH) -> list[str]:
    """One point of a device file, on more than one line where it is wider; its range is a comment."""
    has_range = item.low is not None and item.high is not None
    after = f"  # {item.low:g} to {item.high:g}" if has_range else ""
    return flow_lines("  - ", point_keys(name, item), after, width)


def scalar(value: Any) -> str:
    """One value as YAML that reads back as the same."""
    if isinstance(value, bool) or not isinstance(value, str):
        return json.dumps(value)
    if _BARE.fullmatch(value) and value.casefold() not in _WORDS and value.isprintable():
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    # JSON leaves these as they are; YAML takes some for line ends and forbids others.
    return "".join(each if each.isprintable() else _escaped(each) for each in quoted)


def _escaped(character: str) -> str:
    return f"\\U{ord(character):08x}"


def flow_lines(before: str, value: Any, after: str = "", width: int = _WIDTH) -> list[str]:
    """`before`, `value` between braces, brackets or quotes as it needs, `after`; long groups go on over lines."""
    if not isinstance(value, Mapping) or not value:
        return [f"{before}{_flow(value)}{after}"]
    parts = [f"{key}: {_flow(each)}" for key, each in value.items()]
    lines = [before + "{" + parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) > width:
            lines[-1] += ","
            lines.append(" " * (len(before) + 1) + part)
        else:
            lines[-1] += f", {part}"
    lines[-1] += "}" + after
    return lines


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return scalar(value)


def _harmless(text: str) -> str:
    """The loader takes "${" for a reference to a secret, wherever it stands."""
    return text.replace("${", "$ {")


def _one_line(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)
