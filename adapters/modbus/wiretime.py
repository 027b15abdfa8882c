"""What a config asks of its wires, computed before anything is sent. Pure; loads no protocol library.

A character on a serial line has 11 bits (Serial Line V1.02, 2.5.1). A request for registers has 8 characters in RTU,
its reply 5 and two for each register; between them and behind them there is silence of 3.5 characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from adapters.modbus.address import Table
from adapters.modbus.config import ModbusDeviceConfig
from adapters.modbus.planner import Block, Limits, Span, plan
from adapters.modbus.url import Place
from gateway.contract.plan import LoadPlan, Remark

_FULL: Final = 0.9
"""share of a line's time above which it is called full: retries need some"""
_THINKING_S: Final = 0.01
"""what a device usually takes to answer; a guess, used for nothing but the estimate"""
_TCP_BYTES: Final = 40 * 4
"""headers of a request and its reply over TCP, and of an acknowledgement for each"""
_MONTH_S: Final = 30 * 86_400
_FAST_BAUD: Final = 19_200
_FAST_QUIET_S: Final = 0.00175
_QUIET_CHARACTERS: Final = 3.5
"""silence between frames: 3.5 characters, fixed above 19,200 baud (Serial Line V1.02, 2.5.1.1)"""


def quiet_s(place: Place) -> float:
    """Silence that ends a frame on this wire, seconds; a serial server keeps it on its own side."""
    if place.serial is None or place.framing != "rtu":
        return 0.0
    return _FAST_QUIET_S if place.serial.baud > _FAST_BAUD else place.serial.seconds(_QUIET_CHARACTERS)


def blocks_by_period(config: ModbusDeviceConfig) -> dict[int, list[Block]]:
    """The device's block reads per period (ns), shortest period first; a span's key is the point's place."""
    load = config.load
    limits = Limits(load.max_registers, load.max_bits, load.max_gap)
    spans: dict[int, dict[Table, list[Span]]] = {}
    for key, point in enumerate(config.points):
        period_ns = int((point.every or config.every) * 1e9)
        tables = spans.setdefault(period_ns, {})
        tables.setdefault(point.address.table, []).append(Span(point.address.offset, point.cells, key))
    return {
        period_ns: [
            block for table in sorted(tables) for block in plan(table, tables[table], limits, config.unreadable)
        ]
        for period_ns, tables in sorted(spans.items())
    }


def data_bytes(block: Block) -> int:
    """Bytes of data in the reply."""
    return (block.cells + 7) // 8 if block.table.is_bits else 2 * block.cells


def characters(framing: str, block: Block) -> tuple[int, int]:
    """Characters of the request and of the reply on a line."""
    if framing == "ascii":
        return 17, 11 + 2 * data_bytes(block)
    return 8, 5 + data_bytes(block)


def exchange_s(place: Place, block: Block, turnaround_s: float) -> float:
    """How long one request takes on a serial line, from its first bit to when the next may be sent, seconds."""
    assert place.serial is not None
    silence = quiet_s(place)
    wire = place.serial.seconds(sum(characters(place.framing, block)))
    return wire + silence + max(silence, turnaround_s) + _THINKING_S


@dataclass
class _Wire:
    """All devices on one wire."""

    place: Place
    users: list[int] = field(default_factory=list)
    """places in the list of devices"""
    share: float = 0.0
    """of the line's time that is asked for: 1 = all of it"""
    longest: list[tuple[float, int]] = field(default_factory=list)
    """each device's longest request, seconds, with its place in the list"""
    requests_per_s: float = 0.0
    bytes_per_s: float = 0.0


def load_plan(devices: Sequence[ModbusDeviceConfig]) -> LoadPlan:
    """What is asked of each wire and device, and what cannot be met; see `gateway.contract.plan.HasPlan`."""
    wires: dict[tuple[str, str, int], _Wire] = {}
    text: list[str] = []
    remarks: list[Remark] = []
    for number, config in enumerate(devices):
        place = config.connection.place
        wire = wires.setdefault(place.wire, _Wire(place))
        remarks += _disagreements(devices, wire, number)
        wire.users.append(number)
        text.append(f"{config.device}: {place} station {config.connection.station}")
        for period_ns, blocks in blocks_by_period(config).items():
            text += _add(wire, config, period_ns / 1e9, blocks)
        remarks += (*_over_budget(config, number), *_same_cells(config, number))
    for wire in wires.values():
        remarks += _overload(wire, devices)
        text.append(_in_words(wire, devices))
    narrow = [wire for wire in wires.values() if wire.place.serial or wire.place.dial_in or len(wire.users) > 1]
    return LoadPlan(tuple(text), tuple(remarks), tuple(_in_words(wire, devices) for wire in narrow))


def _add(wire: _Wire, config: ModbusDeviceConfig, period_s: float, blocks: Sequence[Block]) -> list[str]:
    framing = wire.place.framing
    takes = ""
    if wire.place.serial is not None:
        times_s = [exchange_s(wire.place, block, config.connection.turnaround) for block in blocks]
        cycle_s = sum(times_s)
        wire.longest.append((max(times_s), wire.users[-1]))
        wire.share += cycle_s / period_s
        takes = f", {_seconds(cycle_s)} on the wire"
    wire.requests_per_s += len(blocks) / period_s
    wire.bytes_per_s += sum(sum(characters(framing, block)) + _TCP_BYTES for block in blocks) / period_s
    points = sum(len(block.spans) for block in blocks)
    lines = [f"  every {_seconds(period_s)}: {_count(points, 'point')} in {_count(len(blocks), 'request')}{takes}"]
    return lines + [f"    {block} ({_count(len(block.spans), 'point')})" for block in blocks]


def _in_words(wire: _Wire, devices: Sequence[ModbusDeviceConfig]) -> str:
    names = ", ".join(devices[number].device for number in wire.users)
    line = f"{wire.place} ({names}): {wire.requests_per_s:.3g} requests/s"
    if wire.place.serial is not None:
        line += f", {wire.share:.0%} of the line's time at {wire.place.serial.baud} baud"
    if wire.place.dial_in is not None:
        line += f", about {wire.bytes_per_s * _MONTH_S / 1e6:,.0f} MB/month over the mobile network"
    return line


def _overload(wire: _Wire, devices: Sequence[ModbusDeviceConfig]) -> list[Remark]:
    serial = wire.place.serial
    if serial is None:
        return []
    found = []
    if wire.share > _FULL:
        last = wire.users[-1]
        message = (
            f"the line {serial.path} is asked for {wire.share:.0%} of its time at {serial.baud} baud: "
            f"{wire.requests_per_s:.3g} requests/s for {_count(len(wire.users), 'device')}"
        )
        hint = (
            f"give its devices a longer `every`: {_seconds(devices[last].every * wire.share / _FULL)} instead of "
            f"{_seconds(devices[last].every)} would do; or a faster line, or fewer points"
        )
        found.append(Remark(last, ("every",), message, hint))
    longest_s, whose = max(wire.longest)
    for number in wire.users:
        shortest_s = min(blocks_by_period(devices[number])) / 1e9
        if shortest_s < longest_s:
            message = (
                f"one request of {devices[whose].device} takes {_seconds(longest_s)} on the line, longer than points "
                f"that are read every {_seconds(shortest_s)} can wait"
            )
            hint = "a longer period, a smaller load.max_registers for that device, or a faster line"
            found.append(Remark(number, ("every",), message, hint))
    return found


def _over_budget(config: ModbusDeviceConfig, number: int) -> list[Remark]:
    allowed = config.load.requests_per_s
    if allowed is None:
        return []
    asked = sum(len(blocks) / (period_ns / 1e9) for period_ns, blocks in blocks_by_period(config).items())
    if asked <= allowed:
        return []
    return [
        Remark(
            number,
            ("load", "requests_per_s"),
            f"the points ask for {asked:.3g} requests/s, the budget allows {allowed:.3g}",
            f"a longer `every` ({_seconds(config.every * asked / allowed)}), a larger budget or a larger max_gap",
        )
    ]


def _same_cells(config: ModbusDeviceConfig, number: int) -> list[Remark]:
    """Points that are another point once more: the same cells taken for the same."""
    first: dict[object, str] = {}
    found = []
    for place, point in enumerate(config.points):
        order, sizes = (point.type, point.order, point.sign, point.format), (point.length, point.count, point.bit)
        other = first.setdefault((point.address, order, sizes), point.point)
        if other != point.point:
            # Without the address: many devices of one template are then told of once.
            message = f"point {other} reads the same cells as the same type"
            hint = "correct the address, or remove one of them"
            found.append(Remark(number, ("points", place, "address"), message, hint))
    return found


def _disagreements(devices: Sequence[ModbusDeviceConfig], wire: _Wire, number: int) -> list[Remark]:
    """What cannot be true of one wire at the same time."""
    config, found = devices[number], []
    place, station = config.connection.place, config.connection.station
    for other in (devices[user] for user in wire.users):
        if other.connection.place != place:
            found.append(
                Remark(
                    number,
                    ("connection", "url"),
                    f"{other.device} is on the same wire with other settings: {other.connection.url}",
                    "a wire has one speed, parity and framing: write the same url in both files",
                    "error",
                )
            )
        elif other.load.outstanding != config.load.outstanding:
            found.append(
                Remark(
                    number,
                    ("load", "outstanding"),
                    f"{other.device} is on the same wire with outstanding: {other.load.outstanding}, and the one that "
                    "connects first decides",
                    "write the same number in both files",
                )
            )
        elif other.connection.station == station:
            found.append(
                Remark(
                    number,
                    ("connection", "station"),
                    f"{other.device} asks station {station} on the same wire",
                    "two stations with one number answer at the same time; if it is one device, one file is better",
                )
            )
    return found[:1]


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.3g}ms"
    return f"{seconds:.3g}s"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
