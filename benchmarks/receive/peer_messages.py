"""What other programs send, and the exact account of it by value. Pure.

Others do not count their readings, but every value of the load carries its item and its tick: so what came, what came
twice and what is missing is known whatever the message looks like. Doubles tell every tick. Registers tell it modulo
`modbus_devices.TICKS`, which is 20 s: enough to see a value come twice, not to see one missing; how many registers
were read the devices count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from benchmarks.load import kinds, modbus_devices
from benchmarks.load.scramble import unscramble
from benchmarks.receive.ticks import Found

Ints = npt.NDArray[np.int64]
THINGSBOARD_TOPIC: Final = "v1/gateway/telemetry"
NODE_RED_TOPIC: Final = "node-red/values"
DELAY_EVERY: Final = 50
MOST_TICKS: Final = 100_000
"""a value that carries a later one is not the load's"""
_MS: Final = 1_000_000


class Readings(NamedTuple):
    """Readings of one device in one message."""

    device: str
    points: Sequence[int]
    """numbers of the points p0, p1 ..."""
    values: Sequence[float]
    times: Sequence[int]
    """ns since the epoch"""


def parse(topic: str, payload: bytes | memoryview) -> list[Readings] | None:
    """The readings of a message; None when the topic holds none. Raises ValueError, KeyError, TypeError if they cannot
    be read.
    """
    if topic == THINGSBOARD_TOPIC:
        return [_thingsboard(device, entries) for device, entries in orjson.loads(payload).items()]
    if topic == NODE_RED_TOPIC:
        return [_node_red(body) for body in orjson.loads(payload)]
    return None


def _thingsboard(device: str, entries: Iterable[Any]) -> Readings:
    """`{device: [{"ts": ms, "values": {name: value}}]}`, the gateway's telemetry API. Names are p and the point, or r
    and the register with which the point begins.
    """
    points: list[int] = []
    values: list[float] = []
    times: list[int] = []
    for entry in entries:
        points += [int(name[1:]) // (2 if name[0] == "r" else 1) for name in entry["values"]]
        values += entry["values"].values()
        times += [int(entry["ts"] * _MS)] * len(entry["values"])
    return Readings(device, points, values, times)


def _node_red(body: Any) -> Readings:
    """`{"device", "p": [], "t": [ms], "v": []}`, as our flows send it."""
    return Readings(body["device"], body["p"], body["v"], [int(time * _MS) for time in body["t"]])


def _ticks_and_slots(values: npt.NDArray[np.float64]) -> tuple[Ints, Ints]:
    """What `modbus_devices.slot_values` was given, the tick modulo `modbus_devices.TICKS`."""
    noise = np.rint(values * modbus_devices.FRACTION).astype(np.int64)
    ticks, slots = np.divmod(unscramble(noise, modbus_devices.BITS), modbus_devices.SLOT_SPAN)
    return ticks, slots


def values_of(topic: str, payload: bytes) -> Found | None:
    """Values and times alone; a `benchmarks.receive.ticks.Reader`."""
    if (parts := parse(topic, payload)) is None:
        return None
    return Found([value for part in parts for value in part.values], [time for part in parts for time in part.times])


class Ticks:
    """Which ticks of which items came."""

    def __init__(self) -> None:
        self._seen = np.zeros((0, 0), np.bool_)
        self.distinct = self.duplicates = 0

    @property
    def missing(self) -> int:
        """Ticks between an item's first and last one that did not come."""
        rows = self._seen[self._seen.any(axis=1)]
        if not len(rows):
            return 0
        first = rows.argmax(axis=1)
        last = rows.shape[1] - 1 - rows[:, ::-1].argmax(axis=1)
        return int((last - first + 1).sum()) - self.distinct

    def add(self, items: Ints, ticks: Ints) -> None:
        """Account for one reading per element."""
        self._grow(int(items.max()) + 1, int(ticks.max()) + 1)
        places = np.unique(items * self._seen.shape[1] + ticks)
        seen = self._seen.reshape(-1)
        fresh = len(places) - int(seen[places].sum())
        seen[places] = True
        self.distinct += fresh
        self.duplicates += len(items) - fresh

    def _grow(self, items: int, ticks: int) -> None:
        rows, columns = self._seen.shape
        if items <= rows and ticks <= columns:
            return
        larger = np.zeros((max(items, rows), columns if ticks <= columns else 2 * ticks), np.bool_)
        larger[:rows, :columns] = self._seen
        self._seen = larger


class Cycles:
    """Registers of one device: whether each value is newer than the one before."""

    def __init__(self) -> None:
        self._last = np.full(modbus_devices.SLOT_SPAN, -1, np.int64)
        self.distinct = self.duplicates = 0

    def add(self, slots: Ints, ticks: Ints) -> None:
        """Account for one reading per element; slots that come more than once, in the order of the message."""
        while len(slots):
            _, first = np.unique(slots, return_index=True)
            self._add_each_once(slots[first], ticks[first])
            slots, ticks = np.delete(slots, first), np.delete(ticks, first)

    def _add_each_once(self, slots: Ints, ticks: Ints) -> None:
        last = self._last[slots]
        ahead = (ticks - last) % modbus_devices.TICKS
        newer = (last < 0) | ((ahead > 0) & (ahead <= modbus_devices.TICKS // 2))
        self._last[slots[newer]] = ticks[newer]
        self.distinct += int(newer.sum())
        self.duplicates += int((~newer).sum())


class PeerAccount:
    """Everything that is known about what a peer sent; `source` is "double" or "modbus"."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._ticks = Ticks()
        self._cycles: dict[str, Cycles] = {}
        self.delays: list[Ints] = []
        """ns, of every 50th reading"""
        self.messages = self.readings = self.bytes = self.wrong = self.unreadable = 0

    @property
    def distinct(self) -> int:
        """Readings that came, each counted once."""
        return self._ticks.distinct + sum(cycles.distinct for cycles in self._cycles.values())

    @property
    def duplicates(self) -> int:
        """Readings that had come before; of registers also those that are older than what had come before."""
        return self._ticks.duplicates + sum(cycles.duplicates for cycles in self._cycles.values())

    @property
    def missing(self) -> int:
        """See `Ticks.missing`; 0 with registers."""
        return self._ticks.missing

    def take(self, topic: str, payload: bytes | memoryview, size: int, arrival: int) -> bool:
        """Account for a message that arrived at `arrival` (ns since the epoch); False when it is not a peer's."""
        try:
            if (parts := parse(topic, payload)) is None:
                return False
            for part in parts:
                self._take_readings(part, arrival)
        except (ValueError, KeyError, TypeError, AttributeError):
            self.unreadable += 1
        self.messages += 1
        self.bytes += size
        return True

    def _take_readings(self, part: Readings, arrival: int) -> None:
        points, values = np.array(part.points, np.int64), np.array(part.values, np.float64)
        times = np.array(part.times[::DELAY_EVERY], np.int64)
        self.readings += len(values)
        self.delays.append(arrival - times)
        if self._source == "modbus":
            ticks, items = _ticks_and_slots(values)
        else:
            ticks, items = kinds.ticks_and_items(self._source, values)
        right = (items == points) & (ticks < MOST_TICKS)
        self.wrong += int((~right).sum())
        if not right.any():
            return
        account = self._cycles.setdefault(part.device, Cycles()) if self._source == "modbus" else self._ticks
        account.add(items[right], ticks[right])
