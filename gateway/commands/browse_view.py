"""What `browse` shows to people: the tree with values beside it, and the ways in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from gateway.commands.equipment import value_text
from gateway.contract.status import quality
from gateway.contract.tools import Access, Browsed, Endpoint, Item, Kind

_COLOURS = {"good": "", "uncertain": "yellow", "bad": "red"}
_MOST = 44
"""cells of the widest name, value and unit; what is longer is cut, on a terminal only"""
_GAP = "  "


def show(console: Console, found: Browsed) -> None:
    """The tree, then what its abbreviations mean, then what was not seen."""
    console.print(Text(" · ".join(found.device.values()) or "a server without a name", style="bold"), soft_wrap=True)
    rows = list(_rows(found.items))
    widths = _widths(rows, console.width if console.is_terminal else None)
    for item, guide, cells in rows:
        console.print(_line(item, guide, cells, widths), soft_wrap=not console.is_terminal, no_wrap=True, crop=False)
    for short, meaning in found.legend.items():
        console.print(Text(f"{short}  {meaning}", style="dim"), soft_wrap=True)
    console.print(Text(_summary(found), style="dim"), soft_wrap=True)


def show_endpoints(console: Console, endpoints: Sequence[Endpoint]) -> None:
    """One block for each way in."""
    for i, each in enumerate(endpoints):
        if i:
            console.print()
        console.print(Text(each.security, style="bold"), soft_wrap=True)
        console.print(f"  server       {each.server}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"  url          {each.url}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"  login        {', '.join(each.logins)}", markup=False, highlight=False, soft_wrap=True)
        if each.certificate:
            console.print(f"  certificate  SHA-256 {each.certificate}", markup=False, highlight=False, soft_wrap=True)


def _summary(found: Browsed) -> str:
    values = sum(item.kind is Kind.VALUE for item in found.items)
    bad = sum(quality(item.status) != "good" for item in found.items if item.kind is Kind.VALUE)
    text = f"{values:,} value{'s' * (values != 1)} in {len(found.items):,} nodes, {found.requests:,} requests"
    return text + (f"; {bad:,} not good" if bad else "")


def _rows(items: Sequence[Item]) -> Iterator[tuple[Item, str, tuple[str, str, str]]]:
    """Each item with its guide, and what stands beside it: value with unit, type, node."""
    last = _last_children(items)
    open: list[bool] = []
    base = len(items[0].path) if items else 0
    for place, item in enumerate(items):
        depth = len(item.path) - base
        del open[max(depth - 1, 0) :]
        guide = ""
        if depth:
            guide = "".join("│  " if each else "   " for each in open) + ("└─ " if last[place] else "├─ ")
            open.append(not last[place])
        yield item, guide, (_value(item), _type(item), item.short)


def _last_children(items: Sequence[Item]) -> Mapping[int, bool]:
    """By place: whether no sibling follows."""
    last: dict[int, bool] = {}
    followed: set[int] = set()
    for place in range(len(items) - 1, -1, -1):
        depth = len(items[place].path)
        followed = {each for each in followed if each <= depth}
        last[place] = depth not in followed
        followed.add(depth)
    return last


def _value(item: Item) -> str:
    if item.kind is Kind.GROUP:
        return ""
    if quality(item.status) == "bad":
        return item.status_text.partition(":")[0]
    text = value_text(item.value) + (f" {item.unit}" if item.unit and item.value is not None else "")
    return text + (f" ({item.low:g} … {item.high:g})" if item.low is not None and item.high is not None else "")


def _type(item: Item) -> str:
    return "" if item.kind is Kind.GROUP else f"{item.type or ''} {_access(item.access)}".strip()


def _access(access: Access) -> str:
    return {(True, True): "rw", (True, False): "r", (False, True): "w"}.get(access, "no access")


def _widths(rows: Sequence[tuple[Item, str, tuple[str, str, str]]], screen: int | None) -> tuple[int, int, int]:
    """Cells for name, value and type: as wide as needed; on a screen that is too narrow, values give way first."""
    name = max((cell_len(guide + item.name) for item, guide, _ in rows if item.kind is not Kind.GROUP), default=0)
    value = max((cell_len(cells[0]) for _, _, cells in rows), default=0)
    type = max((cell_len(cells[1]) for _, _, cells in rows), default=0)
    if screen is None:
        return name, value, type
    name, value = min(name, _MOST), min(value, _MOST)
    node = min(max((cell_len(cells[2]) for _, _, cells in rows), default=0), screen // 3)
    over = name + value + type + node + 3 * len(_GAP) - screen
    if over > 0:
        cut = min(over, max(value - 16, 0))
        return max(name - (over - cut), 20), value - cut, type
    return name, value, type


def _line(item: Item, guide: str, cells: tuple[str, str, str], widths: tuple[int, int, int]) -> Text:
    line = Text(guide, style="dim")
    if item.kind is Kind.GROUP:
        line.append(item.name, style="bold not dim")
        return line.append(_GAP + item.short, style="dim")
    line = Text()
    line.append(guide, style="dim")
    line.append(_fit(item.name, widths[0] - cell_len(guide)), style="dim" if item.kind is Kind.PROPERTY else "")
    line.append(_GAP + _fit(cells[0], widths[1]), style=_COLOURS[quality(item.status)])
    line.append(_GAP + _fit(cells[1], widths[2]), style="cyan")
    line.append(_GAP + cells[2], style="dim")
    return line


def _fit(text: str, width: int) -> str:
    """`text` in exactly `width` cells, with "…" where it was cut."""
    width = max(width, 1)
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"
