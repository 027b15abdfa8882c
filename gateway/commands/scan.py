"""`edge-gateway scan URL`: which stations answer, and which registers they let be read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from gateway.commands.equipment import FAILED, OK, ask, find_register_tools, write_json
from gateway.contract import ConfigError
from gateway.contract.registers import Answering, Range, Scanned, ScanQuery, Wire

_MOST_STATIONS = 256


def main(wire: Wire, query: ScanQuery, *, as_json: bool = False) -> int:
    """Scan and report; returns 0, or 1 when no station answers."""
    adapter = find_register_tools(wire.url)
    if adapter is None:
        raise ConfigError(f"{wire.url}: scan is for Modbus, e.g. tcp://192.168.1.20:502; for OPC UA there is browse")
    live = sys.stderr.isatty() and not as_json

    def progress(station: int, requests: int) -> None:
        sys.stderr.write(f"\rstation {station}, {requests} requests ")
        sys.stderr.flush()

    found = ask(adapter.register_tools().scan(wire, query, progress if live else None))
    if live:
        sys.stderr.write("\r\x1b[K")
    if as_json:
        write_json({"url": wire.url, **_report(found)})
    else:
        _show(found)
    return OK if found.stations else FAILED


def stations_of(text: str) -> tuple[int, ...]:
    """ "1-5,12" as numbers. Raises ConfigError."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()) or int(last or first) >= _MOST_STATIONS:
            raise ConfigError(f"--stations: expected numbers up to 255 such as 1-10,17, found {text!r}")
        found += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(found))


def _report(found: Scanned) -> dict[str, Any]:
    return {
        "stations": [
            {
                "station": one.station,
                "readable": _texts(one.readable),
                "refused": _texts(one.refused),
                "unknown": _texts(one.unknown),
            }
            for one in found.stations
        ],
        "silent": found.silent,
        "requests": found.requests,
    }


def _show(found: Scanned) -> None:
    console = Console(highlight=False)
    for one in found.stations:
        console.print(Text(f"station {one.station}", style="bold"))
        for name, ranges, style in _rows(one):
            if ranges:
                console.print(
                    Text.assemble((f"  {name:<9}", "dim"), (", ".join(_texts(ranges)), style)), soft_wrap=True
                )
    if found.silent:
        console.print(Text(f"no answer: {', '.join(map(str, found.silent))}", style="dim"), soft_wrap=True)
    console.print(Text(f"{found.requests} requests, all of them reads", style="dim"))


def _rows(one: Answering) -> list[tuple[str, Sequence[Range], str]]:
    return [("readable", one.readable, "green"), ("refused", one.refused, ""), ("unknown", one.unknown, "yellow")]


def _texts(ranges: Sequence[Range]) -> list[str]:
    return [
        f"{one.table} {one.first}" if one.first == one.last else f"{one.table} {one.first}-{one.last}" for one in ranges
    ]
