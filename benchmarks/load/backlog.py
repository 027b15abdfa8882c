"""A plant whose readings are a log's backlog: 100 devices of 100 points, every one of which changes each second.

Values carry item and second as those of the OPC UA load do (`notifications`), so that a receiver can tell what is
missing, repeated or mixed up, and the log compresses them no better than measurements.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.load.filling import SECOND, FillClock, Filled, device_entries, fill, open_store
from benchmarks.load.kinds import numbers
from benchmarks.rig.gateway_config import ENTERPRISE, GATEWAY_ID
from gateway.contract.batch import Batch, ValueType
from gateway.log.records import BatchRecord, Labels, Record, StreamRecord

DEVICES: Final = 100
POINTS: Final = 100
"""of each device"""
RATE: Final = DEVICES * POINTS
"""readings/s"""
PREFIX: Final = "old-"
"""of the devices' names"""
COMMIT_S: Final = 0.2
"""the default of the gateway on disks"""
_STREAM: Final = "01KAAAAAAAAAAAAAAAAAAAAAAA"


class BacklogPlant:
    """See `filling.Plant`. Point p<k> of any device is item k."""

    def __init__(self) -> None:
        self._items = np.arange(RATE).reshape(DEVICES, POINTS)
        self._points = np.arange(POINTS)

    def entries(self, at: int) -> list[Record]:
        """What explains the readings; `at` in ns."""
        found: list[Record] = [StreamRecord(_STREAM, Labels("production", 1, "general"), at)]
        types = [ValueType.FLOAT64] * POINTS
        for number, items in enumerate(self._items):
            names = [f"p{item}" for item in items]
            found += device_entries(f"{PREFIX}{number}", "modbus", _STREAM, names, types, at)
        return found

    def second(self, index: int, at: int) -> Iterator[BatchRecord]:
        """One batch of each device, spread over the second that begins at `at`, ns."""
        for number, items in enumerate(self._items):
            moment = at + number * SECOND // DEVICES
            values = numbers("double", index, items)
            batch = Batch.of(
                f"{PREFIX}{number}", ValueType.FLOAT64, self._points, values,
                source_time=moment, received_time=moment, monotonic=moment,
            )  # fmt: skip
            yield BatchRecord(_STREAM, batch)


@cache
def filled_log(seconds: int) -> tuple[Path, Filled]:
    """A folder with a log of so many seconds up to now, made into blocks as a gateway does; kept until this ends."""
    folder = Path(tempfile.mkdtemp(prefix="edge-gateway-backlog-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    clock = FillClock(time.time_ns() - seconds * SECOND)
    store, _ = open_store(folder / "log", clock, enterprise=ENTERPRISE, gateway=GATEWAY_ID)
    with contextlib.closing(store):
        filled = asyncio.run(fill(store, clock, BacklogPlant(), seconds, COMMIT_S))
        while store.compact(lambda _: True) is not None:
            pass
    return folder, filled
