"""`edge-gateway read URL NODE...`: values as they are now, and each node as a point of a device file."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from gateway.commands.equipment import (
    FAILED,
    OK,
    PARTLY,
    ask,
    find_tools,
    item_report,
    value_text,
    write_json,
)
from gateway.config.device_file import point_lines, point_names, usable
from gateway.contract.status import quality
from gateway.contract.tools import Item, Target
from gateway.rfc3339 import rfc3339

_WIDTH = 84
"""of long texts, which stand beside the words in front: fits a terminal of 100 columns"""
_COLOURS = {"good": "green", "uncertain": "yellow", "bad": "red"}


def main(target: Target, nodes: Sequence[str], *, as_json: bool = False) -> int:
    """Read and report; returns 0, 3 when some values are bad or missing, 1 when all are."""
    _, tools = find_tools(target.url)
    items = ask(tools.read(target, nodes))
    names = point_names(items)
    lines = [point_lines(name, item, _WIDTH) if usable(item) else [] for name, item in zip(names, items, strict=True)]
    if as_json:
        reports = [
            item_report(item) | {"point_line": "\n".join(line) or None} for item, line in zip(items, lines, strict=True)
        ]
        write_json({"url": target.url, "nodes": reports})
    else:
        console = Console(highlight=False)
        for i, (item, line) in enumerate(zip(items, lines, strict=True)):
            if i:
                console.print()
            _show(console, item, line)
    failed = sum(not _has_value(item) for item in items)
    return OK if not failed else FAILED if failed == len(items) else PARTLY


def _has_value(item: Item) -> bool:
    return quality(item.status) != "bad" and item.type is not None


def _show(console: Console, item: Item, line: Sequence[str]) -> None:
    title = Text(item.short, style="bold")
    if item.name:
        title.append(f"  {item.name}", style="not bold")
    rows = [title]
    if item.type is None:
        rows.append(_row("value", "none: this node is no variable; browse shows what is below it", "yellow"))
    else:
        rows.append(_row("value", _value(item)))
        ours = item.point.get("type") if item.point else None
        rows.append(_row("type", item.type + (f" ({ours})" if ours else "")))
        status, _, meaning = item.status_text.partition(": ")
        rows.append(_row("status", status, _COLOURS[quality(item.status)]))
        rows += [_row("", line) for line in textwrap.wrap(meaning, _WIDTH)]
        rows.append(_row("source time", _time(item.source_ns)))
        rows.append(_row("server time", _time(item.server_ns)))
    if item.low is not None and item.high is not None:
        rows.append(_row("range", f"{item.low:g} to {item.high:g}"))
    if item.description:
        rows.append(_row("description", item.description))
    rows += [_row("point" if not i else "", part.removeprefix("  ")) for i, part in enumerate(line)]
    for row in rows:
        console.print(row, soft_wrap=True)


def _value(item: Item) -> str:
    if item.value is None:
        return "none"
    return value_text(item.value, exact=True) + (f" {item.unit}" if item.unit else "")


def _row(name: str, text: str, style: str = "") -> Text:
    return Text.assemble((f"  {name:<13}", "dim"), (text, style))


def _time(ns: int | None) -> str:
    """The time, and how far it is from this machine's clock: a wrong clock shows here first."""
    if ns is None:
        return "none"
    behind = (time.time_ns() - ns) / 1e9
    return f"{rfc3339(ns)}  ({abs(behind):,.1f} s {'ago' if behind >= 0 else 'ahead of this clock'})"
