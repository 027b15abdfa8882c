"""Checks of decoded values against what the load servers sent. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.load import kinds, measured, modbus_devices
from benchmarks.receive import plant

Ints = npt.NDArray[np.int64]
Marks = Callable[[], tuple[Ints, npt.NDArray[np.uint32]]]
"""gives the times (ns since the epoch) and the status codes of readings"""
_MOST_ITEMS: Final = kinds.SPAN


class ValueCheck:
    """Counts readings whose value is not their item's, and ticks that an item skipped or repeated: with doubles, and
    rounds of changes with a plant, of which type, value, status and time are checked.

    `source` is "modbus", "modbus-apart" (what device m<d> must show is not what the others show), "modbus-measured"
    (apart, and values as of a plant's transmitters) or an OPC UA load's type. Ticks are only followed while every
    reading is passed in.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._last = np.full(_MOST_ITEMS, -1, np.int64)
        self.checked = self.wrong = self.skipped = self.repeated = 0
        self.marked = 0
        """readings of a plant with another status than Good"""

    def item(self, device: str, number: int) -> int:
        """What `check` is to be given for the point of that number of a device."""
        if self._source not in ("modbus-apart", "modbus-measured"):
            return number
        return (number + modbus_devices.shift_of(int(device[1:]))) % modbus_devices.SLOTS

    def check(self, items: Ints, values: Sequence[Any], follow: bool, marks: Marks | None = None) -> None:
        """Check `values[k]` of item `items[k]`; `follow`: no reading was left out since the last call.

        `marks` is needed for a plant, and only asked then.
        """
        self.checked += len(items)
        if self._source == "plant":
            assert marks is not None
            times, statuses = marks()
            self.wrong += int(plant.wrong_readings(items, times, values, statuses).sum())
            self.marked += int(np.count_nonzero(statuses))
            if follow:
                self._follow(items, plant.rounds_of(times), plant.ROUNDS)
            return
        numbers = np.array(values, np.float64)
        if self._source in ("modbus", "modbus-apart"):
            self.wrong += int((modbus_devices.slots_of(numbers) != items).sum())
            return
        if self._source in ("measured", "modbus-measured"):
            points = items if self._source == "modbus-measured" else measured.DOUBLES + items
            self.wrong += int(measured.wrong_readings(points, numbers).sum())
            return
        ticks, carried = kinds.ticks_and_items(self._source, numbers)
        self.wrong += int((carried != items).sum())
        if follow and self._source == "double":
            self._follow(items, ticks)

    def _follow(self, items: Ints, ticks: Ints, cycle: int = 0) -> None:
        """`cycle`: ticks after which they begin anew, 0 = never."""
        if len(items) > 1 and not (items[1:] > items[:-1]).all():
            order = np.argsort(items, kind="stable")
            items, ticks = items[order], ticks[order]
        first = np.ones(len(items), np.bool_)
        first[1:] = items[1:] != items[:-1]
        before = np.empty_like(ticks)
        before[1:] = ticks[:-1]
        before[first] = self._last[items[first]]
        step = (ticks - before)[before >= 0]
        if cycle:
            step = (step + cycle // 2) % cycle - cycle // 2
        self.skipped += int((step[step > 1] - 1).sum())
        self.repeated += int((step < 1).sum())
        last = np.append(first[1:], True)
        self._last[items[last]] = ticks[last]
