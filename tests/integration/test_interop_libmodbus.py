"""The adapter against libmodbus, a stack that shares nothing with ours: over TCP, three units on an RTU line, and one
behind socat.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import pytest

from adapters.modbus import links
from gateway.contract import LinkLost
from gateway.contract.status import BAD_CONFIGURATION_ERROR, GOOD
from simulators.plant.encoding import encode, encode_bcd, encode_text
from tests.integration.test_modbus_lines import device_file
from tests.support.libmodbus import Server, libmodbus_line, libmodbus_socat, libmodbus_tcp
from tests.support.modbus_sink import CollectingSink, build, cycles, running

UNITS = (1, 2, 17)
CELLS = 2000
"""of each of the server's tables"""
HEARS_S = 0.5
"""how long libmodbus, as a unit, listens for the reply to a request that was another's: its response timeout. What is
asked of it in that time it takes for that reply, and does not answer"""
both = pytest.mark.parametrize("kind", ["tcp", "rtu"])


class Typed(NamedTuple):
    keys: dict[str, Any]
    registers: list[int]
    value: Any


def typed() -> Iterator[Typed]:
    """Every type in every order that it knows."""
    numbers: dict[str, float | int] = {
        "int16": -12345, "uint16": 54321, "int32": -1234567890, "uint32": 3456789012, "int64": -1234567890123456789,
        "uint64": 12345678901234567890, "float16": 1.5, "float32": 1234.5, "float64": 3.141592653589793,
    }  # fmt: skip
    for type, value in numbers.items():
        for order in ("ABCD", "CDAB", "BADC", "DCBA"):
            if not (type.endswith("16") and order in ("CDAB", "DCBA")):
                yield Typed({"type": type, "order": order}, encode(value, type, order), value)
    yield Typed({"type": "int8"}, [0xFB], -5)
    yield Typed({"type": "bool", "bit": 9}, [1 << 9], True)
    yield Typed({"type": "bcd", "length": 2}, encode_bcd(12345678, 2), 12345678)
    yield Typed({"type": "int16", "sign": "magnitude"}, [0x8007], -7)
    yield Typed({"type": "string", "length": 10}, encode_text("泵-7 ok", 5), "泵-7 ok")
    yield Typed({"type": "bytes", "length": 4}, [0xDEAD, 0xBEEF], b"\xde\xad\xbe\xef")
    yield Typed({"type": "uint16", "count": 3}, [1, 2, 3], [1, 2, 3])
    yield Typed(
        {"type": "timestamp", "format": "unix"}, encode(1_763_712_000, "uint32", "ABCD"), "2025-11-21T08:00:00Z"
    )


TYPED_FROM = 300


def memory() -> dict[int, dict[str, dict[int, int]]]:
    """Registers hold 1000 x unit + address, those of the other table as much below 65,535; bits differ by unit."""
    found: dict[int, dict[str, dict[int, int]]] = {}
    for unit in UNITS:
        cells = [*range(200), CELLS - 2, CELLS - 1]
        found[unit] = {
            "holding": {a: 1000 * unit + a for a in cells},
            "input": {a: 65535 - 1000 * unit - a for a in cells},
            "coil": {a: int((unit + a) % 3 == 0) for a in cells},
            "discrete": {a: int((unit + a) % 2 == 0) for a in cells},
        }
    address = TYPED_FROM
    for case in typed():
        for table in ("holding", "input"):
            found[1][table].update(dict(enumerate(case.registers, address)))
        address += len(case.registers)
    return found


@asynccontextmanager
async def served(kind: str) -> AsyncIterator[tuple[str, list[Server]]]:
    links.LATE.clear()
    async with libmodbus_tcp(memory()) if kind == "tcp" else libmodbus_line(memory()) as both:
        yield both


def points(*addresses: str, **keys: Any) -> list[dict[str, Any]]:
    types = {"holding": {"type": "uint16"}, "input": {"type": "uint16"}}
    return [
        {"point": f"p{i}", "address": address, **types.get(address.split()[0], {}), **keys}
        for i, address in enumerate(addresses)
    ]


def content(url: str, unit: int, found: list[dict[str, Any]], **keys: Any) -> dict[str, Any]:
    file = device_file(url, unit, (), **keys)
    # A unit whose process was paused while another was asked may take the next request for that one's reply.
    return {**file, "points": found, "connection": {**file["connection"], "timeout": "2s", "retries": 5}}


@both
async def test_all_tables_of_several_units(kind: str) -> None:
    cells = [f"{table} {a}" for table in ("holding", "input", "coil", "discrete") for a in (0, 1, 7, 60, 199, 1999)]
    sinks = {unit: CollectingSink() for unit in UNITS}
    async with served(kind) as (url, servers), AsyncExitStack() as stack:
        for unit, sink in sinks.items():
            task = await stack.enter_async_context(running(build(content(url, unit, points(*cells))), sink))
            await cycles(sink, 100 + len(cells) - 1, 1, task)
        for sink in sinks.values():
            await cycles(sink, 100 + len(cells) - 1, 5, task)
    image = memory()
    for unit, sink in sinks.items():
        for i, cell in enumerate(cells):
            table, address = cell.split()
            expected = image[unit][table][int(address)]
            assert {(r.value, r.status) for r in sink.readings[100 + i]} == {(expected, GOOD)}, (unit, cell)
    asked = {function for server in servers for function in server.functions}
    assert asked == {1, 2, 3, 4}


async def test_a_line_that_is_not_ours_either() -> None:
    """A unit of libmodbus on the other end of a pair of terminals that socat joins."""
    cells = [f"{table} {a}" for table in ("holding", "input", "coil", "discrete") for a in (0, 1, 60, 199, 1999)]
    sink = CollectingSink()
    links.LATE.clear()
    async with (
        libmodbus_socat(memory()) as (url, (server,)),
        running(build(content(url, 1, points(*cells))), sink) as task,
    ):
        await cycles(sink, 100 + len(cells) - 1, 5, task)
    image = memory()[1]
    for i, cell in enumerate(cells):
        table, address = cell.split()
        assert {(r.value, r.status) for r in sink.readings[100 + i]} == {(image[table][int(address)], GOOD)}, cell
    assert set(server.functions) == {1, 2, 3, 4}


@both
@pytest.mark.parametrize("table", ["holding", "input"])
async def test_every_type_in_every_order(kind: str, table: str) -> None:
    cases = list(typed())
    found, address = [], TYPED_FROM
    for i, case in enumerate(cases):
        found.append({"point": f"p{i}", "address": f"{table} {address}", **case.keys})
        address += len(case.registers)
    sink = CollectingSink()
    async with served(kind) as (url, _), running(build(content(url, 1, found)), sink) as task:
        for i in range(len(cases)):
            await cycles(sink, 100 + i, 2, task)
    for i, case in enumerate(cases):
        reading = sink.last(100 + i)
        assert (reading.value, reading.status) == (case.value, GOOD), case.keys


@both
async def test_a_whole_table_in_the_largest_requests(kind: str) -> None:
    """125 registers and 2000 bits, which libmodbus serves as the standard allows."""
    cells = [*(f"holding {a}" for a in range(200)), *(f"coil {a}" for a in range(0, CELLS, 9))]
    sink = CollectingSink()
    async with served(kind) as (url, servers):
        file = content(url, 2, points(*cells), every="60s")
        file["connection"]["timeout"] = "60s"
        async with running(build(file), sink) as task:
            await cycles(sink, 100 + len(cells) - 1, 1, task)
    assert sum(len(server.functions) for server in servers) == 3
    assert [sink.last(100 + a).value for a in range(200)] == [2000 + a for a in range(200)]


@both
async def test_an_address_beyond_the_table_is_alone(kind: str) -> None:
    """libmodbus refuses the whole block with exception 2; what is around the address goes on."""
    sink = CollectingSink()
    cells = [f"holding {a}" for a in (CELLS - 2, CELLS - 1, CELLS)]
    async with served(kind) as (url, _), running(build(content(url, 2, points(*cells, "input 5"))), sink) as task:
        await cycles(sink, 103, 5, task)
    assert {r.status for r in sink.readings[102]} == {BAD_CONFIGURATION_ERROR}
    for i, expected in ((0, 2000 + CELLS - 2), (1, 2000 + CELLS - 1), (3, 65535 - 2005)):
        assert {(r.value, r.status) for r in sink.readings[100 + i]} == {(expected, GOOD)}


@both
async def test_a_unit_that_is_not_there(kind: str) -> None:
    """Over TCP the server answers as a gateway does, on the line nobody answers; the neighbour goes on."""
    sink = CollectingSink()
    says = r"does not answer \(exception 11\)" if kind == "tcp" else "no reply came within"
    async with served(kind) as (url, _), running(build(content(url, 2, points("holding 3"))), sink) as task:
        await cycles(sink, 100, 2, task)
        absent = {**content(url, 99, points("holding 3"))}
        # Over TCP somebody answers, on the line nobody.
        absent["connection"] |= {"timeout": "60s" if kind == "tcp" else f"{HEARS_S + 0.1}s", "retries": 1}
        with pytest.raises(LinkLost, match=says):
            await build(absent).run(CollectingSink())
        await cycles(sink, 100, len(sink.readings[100]) + 3, task)
    assert {(r.value, r.status) for r in sink.readings[100]} == {(2003, GOOD)}
