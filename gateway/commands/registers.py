"""`edge-gateway read` for equipment with registers: one address in all types and byte orders, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.commands.equipment import FAILED, OK, PARTLY, ask, finite, value_text, write_json
from gateway.contract.registers import HasRegisterTools, Hint, Looked, Meaning, Wire

_MOST_FITS = 5
_WIDTH = 120
"""where there is no terminal that says how wide it is"""


def main(
    adapter: HasRegisterTools, wire: Wire, station: int, addresses: Sequence[str], hint: Hint, *, as_json: bool = False
) -> int:
    """Read and report; returns 0, 3 when some addresses cannot be read, 1 when none can."""
    looked = ask(adapter.register_tools().look(wire, station, addresses, hint))
    if as_json:
        write_json({"url": wire.url, "station": station, "addresses": [_report(one) for one in looked]})
    else:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=_WIDTH)
        for i, one in enumerate(looked):
            if i:
                console.print()
            _show(console, one, hint)
    failed = sum(not one.raw for one in looked)
    return OK if not failed else FAILED if failed == len(looked) else PARTLY


def point_text(keys: Mapping[str, Any]) -> str:
    """Keys of a point as a device file writes them, with a name to be replaced."""
    parts = ["point: NAME", *(f"{key}: {value}" for key, value in keys.items())]
    return "- {" + ", ".join(parts) + "}"


def _report(one: Looked) -> dict[str, Any]:
    return {
        "address": one.address,
        "raw": one.raw.hex(),
        "problem": one.problem,
        "meanings": [
            {
                "type": meaning.type,
                "order": meaning.order or None,
                "value": finite(meaning.value),
                "scale": meaning.scale,
                "fits": meaning.rank is not None,
                "point": meaning.keys,
            }
            for meaning in one.meanings
        ],
    }


def _show(console: Console, one: Looked, hint: Hint) -> None:
    console.print(Text(one.address, style="bold"))
    if not one.raw:
        console.print(Text(f"  {one.problem}", style="red"))
        return
    console.print(Text(f"  as sent  {one.raw.hex(' ', 2)}", style="dim"))
    fits = [meaning for meaning in one.meanings if meaning.rank is not None]
    for meaning in fits[:_MOST_FITS]:
        scaled = "" if meaning.scale == 1 else f" x {meaning.scale:g} = {_number(meaning.value * meaning.scale)}"
        line = Text.assemble(("  fits     ", "dim"), (f"{_number(meaning.value)}{scaled}", "green"))
        console.print(line.append(f"   {point_text(meaning.keys)}"), soft_wrap=True)
    if any(each is not None for each in hint) and not fits and len(one.meanings) > 1:
        console.print(Text("  nothing here fits what was expected; the value may be elsewhere", style="yellow"))
    console.print(_table(one.meanings))


def _table(meanings: Sequence[Meaning]) -> Table:
    """A row for each type, a column for each order; what fits in green."""
    orders = list(dict.fromkeys(meaning.order for meaning in meanings if meaning.order))
    orders.sort(key=("ABCD", "CDAB", "BADC", "DCBA").index)
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("  type", style="dim")
    for order in orders or ["value"]:
        table.add_column(order, justify="right", overflow="fold")
    rows: dict[tuple[str, Any], dict[str, Meaning]] = {}
    for meaning in meanings:
        rows.setdefault((meaning.type, meaning.keys.get("length")), {})[meaning.order] = meaning
    names = list(dict.fromkeys((meaning.type, meaning.keys.get("length")) for meaning in _as_listed(meanings)))
    for name in names:
        label = f"  {name[0]}" + (f", {name[1]} {'bytes' if name[0] == 'string' else 'registers'}" if name[1] else "")
        row = rows[name]
        table.add_row(label, *(_cell(row.get(order)) for order in orders or [""]))
    return table


def _as_listed(meanings: Sequence[Meaning]) -> list[Meaning]:
    """Narrow types first, whatever fits."""
    widths = {"bool": 0, "int16": 1, "uint16": 1, "float16": 1, "int32": 2, "uint32": 2, "float32": 2, "timestamp": 2}
    return sorted(meanings, key=lambda one: widths.get(one.type.split()[0], one.keys.get("length", 4)))


def _cell(meaning: Meaning | None) -> Text:
    if meaning is None:
        return Text("")
    return Text(_number(meaning.value), style="green" if meaning.rank is not None else "")


def _number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.7g}"
    return repr(value) if isinstance(value, str) else value_text(value)
