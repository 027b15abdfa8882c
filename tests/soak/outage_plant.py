"""The plant of the long outage: exactly 1,000 readings a second.

Six Modbus devices (40 float32 that drift with noise and 60 scaled 16-bit values, one time per cycle of 1 s) and two
OPC UA servers (200 doubles with three digits that change each second, with their own times in 100 ns).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from benchmarks.load.filling import device_entries
from gateway.contract.adapter import Origin
from gateway.contract.batch import Batch, ValueType
from gateway.log.records import BatchRecord, Labels, Record, StreamRecord

ENTERPRISE: Final = "91370200MA3C00000K"
GATEWAY: Final = "gw-1"
STREAM: Final = "01KAAAAAAAAAAAAAAAAAAAAAAA"
RATE: Final = 1_000
_PLCS: Final = 6
_SERVERS: Final = 2
_POOL: Final = 997
"""noise is drawn once for so many seconds: a prime, so that devices do not repeat each other"""


class OutagePlant:
    """Readings second by second, the same for a seed."""

    def __init__(self, seed: int = 7) -> None:
        draw = np.random.default_rng(seed)
        self._floats = [draw.normal(50, 20, 40).astype(np.float32) for _ in range(_PLCS)]
        self._raw = [draw.integers(1000, 4000, 60) for _ in range(_PLCS)]
        self._doubles = [draw.normal(80, 30, 200) for _ in range(_SERVERS)]
        self._drift = draw.normal(0, 0.02, (_POOL, 40)).astype(np.float32)
        self._steps = draw.integers(-1, 2, (_POOL, 60))
        self._walk = draw.normal(0, 0.05, (_POOL, 200))
        self._late = draw.integers(10**6, 3 * 10**7, (_POOL, 8))
        self._ticks = draw.integers(0, 10**7, (_POOL, 200)) * 100

    @staticmethod
    def entries(at: int) -> list[Record]:
        """What explains the readings."""
        found: list[Record] = [StreamRecord(STREAM, Labels("production", 1, "general"), at)]
        for number in range(_PLCS):
            types = [ValueType.FLOAT32] * 40 + [ValueType.FLOAT64] * 60
            found += device_entries(f"plc-{number}", "modbus", STREAM, _names(types), types, at)
        for number in range(_SERVERS):
            types = [ValueType.FLOAT64] * 200
            found += device_entries(f"dcs-{number}", "opcua", STREAM, _names(types), types, at)
        return found

    def second(self, index: int, at: int) -> Iterator[BatchRecord]:
        """All batches of the second that begins at `at`: 1,000 readings."""
        row = index % _POOL
        late = self._late[row]
        for number in range(_PLCS):
            received = at + int(late[number])
            device = f"plc-{number}"
            self._floats[number] = self._floats[number] + self._drift[row - number]
            yield _record(device, ValueType.FLOAT32, np.arange(40), self._floats[number], received, received)
            self._raw[number] = self._raw[number] + self._steps[row - number]
            yield _record(device, ValueType.FLOAT64, np.arange(40, 100), self._raw[number] * 0.1, received, received)
        for number in range(_SERVERS):
            received = at + int(late[_PLCS + number])
            self._doubles[number] = self._doubles[number] + self._walk[row - number]
            values = np.rint(self._doubles[number] * 1000) / 1000
            origin = Origin("urn:plant:dcs", number + 1, index + 1)
            times = received - self._ticks[row - number]
            yield _record(f"dcs-{number}", ValueType.FLOAT64, np.arange(200), values, times, received, origin)


def _names(types: Sequence[ValueType]) -> list[str]:
    return [f"p{index}" for index in range(len(types))]


def _record(
    device: str, type: ValueType, points: Any, values: Any, times: Any, received: int, origin: Origin | None = None
) -> BatchRecord:
    batch = Batch.of(device, type, points, values, source_time=times, received_time=received, monotonic=received)
    return BatchRecord(STREAM, batch, origin)
