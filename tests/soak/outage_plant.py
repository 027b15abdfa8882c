"""The plant of the long outage: exactly 1,000 readings a second, and a log that is filled with hours of them.

Six Modbus devices (40 float32 that drift with noise and 60 scaled 16-bit values, one time per cycle of 1 s) and two
OPC UA servers (200 doubles with three digits that change each second, with their own times in 100 ns).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from gateway.contract.adapter import Origin
from gateway.contract.batch import Batch, ValueType
from gateway.log import LogStore, Writer, machine_id
from gateway.log.records import BatchRecord, DeviceRecord, Labels, PointRecord, Record, Segment, StreamRecord
from gateway.runtime.opening import FILE_MOST_BYTES, file_bytes

ENTERPRISE: Final = "91370200MA3C00000K"
GATEWAY: Final = "gw-1"
STREAM: Final = "01KAAAAAAAAAAAAAAAAAAAAAAA"
RATE: Final = 1_000
SECOND: Final = 1_000_000_000
_PLCS: Final = 6
_SERVERS: Final = 2
_POOL: Final = 997
"""noise is drawn once for so many seconds: a prime, so that devices do not repeat each other"""


class FillClock:
    """The plant's time, which the filler moves; wall and monotonic clock together."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns

    def time_ns(self) -> int:
        return self.now_ns

    def monotonic_ns(self) -> int:
        return self.now_ns


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
            found += _device(f"plc-{number}", "modbus", types, at)
        for number in range(_SERVERS):
            found += _device(f"dcs-{number}", "opcua", [ValueType.FLOAT64] * 200, at)
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


class Filled(NamedTuple):
    """What a fill left behind."""

    readings: int
    seconds: float
    """it took"""
    commits: int
    segment_bytes: int
    disk_bytes: int


def open_store(folder: Path, clock: Any, budget: int | None = None) -> tuple[LogStore, Any]:
    """The log as the gateway of the rig on this machine would open it."""
    box = machine_id(folder.with_name(folder.name + ".machine-id"))
    identity = f"{ENTERPRISE}/{GATEWAY}@{box}"
    return LogStore.open(
        folder, identity=identity, clock=clock, rotate_bytes=FILE_MOST_BYTES if budget is None else file_bytes(budget)
    )


async def fill(
    store: LogStore,
    clock: FillClock,
    hours: float,
    commit_s: float,
    *,
    on_commit: Callable[[list[Segment]], None] = lambda segments: None,
    tidy: Callable[[], Awaitable[None]] | None = None,
) -> Filled:
    """Write the plant's readings of so many hours from the clock's time on, one commit for each `commit_s` of them.

    `tidy` is awaited between commits, once for each minute of the plant's time.
    """
    began = time.monotonic()
    last = None
    async with Writer(store, next_n={}, commit_s=0, clock=clock, on_commit=on_commit) as writer:
        await writer.write_now(OutagePlant.entries(clock.now_ns)).durable()
        tidied = clock.now_ns
        for end, records in _commits(clock.now_ns, round(hours * 3600), commit_s):
            if last is not None:
                await last.durable()
            clock.now_ns = end
            last = await writer.write(records, sum(record.batch.nbytes for record in records), "plant")
            if tidy is not None and end - tidied >= 60 * SECOND:
                tidied = end
                await last.durable()
                await tidy()
        await writer.flush()
    figures = writer.statistics()
    return Filled(
        figures.readings_total,
        time.monotonic() - began,
        figures.commits,
        figures.bytes_total,
        sum(file.bytes for file in store.files()),
    )


def _commits(start: int, seconds: int, commit_s: float) -> Iterator[tuple[int, list[BatchRecord]]]:
    """When each commit ends, and what it takes; commits below a second split the devices over them."""
    plant = OutagePlant()
    parts = max(1, round(1 / commit_s))
    together = max(1, round(commit_s))
    gathered: list[BatchRecord] = []
    for index in range(seconds):
        at = start + index * SECOND
        records = list(plant.second(index, at))
        for part in range(parts):
            gathered += records[part::parts]
            if (index + 1) % together == 0:
                yield at + (part + 1) * SECOND // parts, gathered
                gathered = []
    if gathered:
        yield start + seconds * SECOND, gathered


def _device(name: str, adapter: str, types: list[ValueType], at: int) -> list[Record]:
    points: list[Record] = [
        PointRecord(name, index, f"p{index}", STREAM, 1, at, type=type) for index, type in enumerate(types)
    ]
    return [DeviceRecord(name, None, adapter), *points]


def _record(
    device: str, type: ValueType, points: Any, values: Any, times: Any, received: int, origin: Origin | None = None
) -> BatchRecord:
    batch = Batch.of(device, type, points, values, source_time=times, received_time=received, monotonic=received)
    return BatchRecord(STREAM, batch, origin)
