"""A Modbus TCP device: fixed or changing tables behind a small asyncio server.

Written from the Modbus application protocol V1.1b3 and independent of any Modbus library, so that a misunderstanding
shared with the gateway cannot hide.

    async with ModbusDevice({"holding": {0: 17, 1: 4711}, "discrete": {0: 1}}) as device:
        device.url                      # tcp://127.0.0.1:port
        device.write("holding", 0, encode(20.1, "float32", "CDAB"))
        await device.set_fault(Fault.DELAY, 0.5)
        device.requests                 # every request as it came: what a gateway does on the wire
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from simulators.plant.faults import Fault
from simulators.plant.link import Link

TABLES = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
"""Function code -> table"""

MAX_BITS = 2000
MAX_REGISTERS = 125
KEPT_REQUESTS = 100_000

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
DEVICE_FAILURE = 4
NO_RESPONSE = 0x0B


class Request(NamedTuple):
    """One request as it arrived; address and quantity are None where the function has none that we know."""

    connection: int
    station: int
    function: int
    address: int | None
    quantity: int | None


class ModbusDevice(Link):
    """One device, one listening port.

    An address that no table entry names answers exception 2, as a real device with holes does.
    """

    def __init__(
        self,
        registers: Mapping[str, Mapping[int, int]] | None = None,
        *,
        station: int | None = 1,
        host: str = "127.0.0.1",
        port: int = 0,
        max_registers: int = MAX_REGISTERS,
    ) -> None:
        """`station` None answers every station; another than ours gets exception 0x0B, as from a serial gateway."""
        super().__init__(host, port)
        self.tables: dict[str, dict[int, int]] = {
            name: dict((registers or {}).get(name, {})) for name in TABLES.values()
        }
        self.requests: deque[Request] = deque(maxlen=KEPT_REQUESTS)
        self._station = station
        self._max_registers = max_registers
        self._released = asyncio.Event()

    @property
    def url(self) -> str:
        """tcp://host:port"""
        return f"tcp://{self.host}:{self.port}"

    @property
    def functions(self) -> set[int]:
        """Function codes seen so far (of the last 100,000 requests)."""
        return {request.function for request in self.requests}

    def write(self, table: str, address: int, content: int | Iterable[int]) -> None:
        """Put registers or bits at `address` and the following ones, at once."""
        values = [content] if isinstance(content, int) else list(content)
        self.tables[table].update(zip(range(address, address + len(values)), values, strict=True))

    async def set_fault(self, fault: Fault, delay_s: float = 0.0) -> None:
        """Turn the fault switch; `Fault.NONE` heals the device."""
        await super().set_fault(fault, delay_s)
        if fault is not Fault.STOP:
            self._released.set()  # what hung is answered or thrown away now
            self._released = asyncio.Event()

    async def serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after the other, until the client leaves."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await self._serve_one(number, reader, writer)

    async def _serve_one(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        header = await reader.readexactly(7)
        transaction, protocol, length = (int.from_bytes(header[i : i + 2], "big") for i in (0, 2, 4))
        station = header[6]
        if protocol != 0 or not 2 <= length <= 254:
            raise ConnectionError("not Modbus TCP")
        pdu = await reader.readexactly(length - 1)
        address = int.from_bytes(pdu[1:3], "big") if len(pdu) >= 5 else None
        quantity = int.from_bytes(pdu[3:5], "big") if len(pdu) >= 5 else None
        self.requests.append(Request(number, station, pdu[0], address, quantity))
        if self.faults.fault is Fault.STOP:
            await self._released.wait()
        if self.faults.fault is Fault.DELAY:
            await asyncio.sleep(self.faults.delay_s)
        answer = self._answer(station, pdu)
        if self.faults.fault is Fault.GARBAGE:
            transaction ^= 0x5555
        writer.write(
            transaction.to_bytes(2, "big") + bytes(2) + (len(answer) + 1).to_bytes(2, "big") + bytes([station]) + answer
        )
        await writer.drain()

    def _answer(self, station: int, pdu: bytes) -> bytes:
        function = pdu[0]
        if self._station is not None and station != self._station:
            return _exception(function, NO_RESPONSE)
        if self.faults.fault is Fault.EXCEPTION:
            return _exception(function, DEVICE_FAILURE)
        if function not in TABLES:
            return _exception(function, ILLEGAL_FUNCTION)
        if len(pdu) != 5:
            return _exception(function, ILLEGAL_VALUE)
        start, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        bits = function in (1, 2)
        if not 1 <= count <= (MAX_BITS if bits else self._max_registers):
            return _exception(function, ILLEGAL_VALUE)
        table = self.tables[TABLES[function]]
        try:
            content = [table[address] for address in range(start, start + count)]
        except KeyError:
            return _exception(function, ILLEGAL_ADDRESS)
        if self.faults.fault is Fault.BAD:
            content = [1 if bits else 0xFFFF] * count
        body = _pack_bits(content) if bits else b"".join(value.to_bytes(2, "big") for value in content)
        return bytes([function, len(body)]) + body


def _exception(function: int, code: int) -> bytes:
    return bytes([function | 0x80, code])


def _pack_bits(bits: list[int]) -> bytes:
    packed = bytearray((len(bits) + 7) // 8)
    for i, bit in enumerate(bits):
        if bit:
            packed[i // 8] |= 1 << (i % 8)
    return bytes(packed)
