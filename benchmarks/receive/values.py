"""Checks of decoded values against what the load servers sent. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.load import modbus_devices, notifications

Ints = npt.NDArray[np.int64]
_MOST_ITEMS: Final = notifications.SPAN


class ValueCheck:
    """Counts readings whose value is not their item's and, with doubles, ticks that an item skipped or repeated.

    `source` is "modbus", "modbus-apart" (what device m<d> must show is not what the others show) or an OPC UA load's
    type. Ticks are only followed while every reading is passed in.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._last = np.full(_MOST_ITEMS, -1, np.int64)
        self.checked = self.wrong = self.skipped = self.repeated = 0

    def item(self, device: str, number: int) -> int:
        """What `check` is to be given for the point of that number of a device."""
        if self._source != "modbus-apart":
            return number
        return (number + modbus_devices.shift_of(int(device[1:]))) % modbus_devices.SLOTS

    def check(self, items: Ints, values: Sequence[Any], follow: bool) -> None:
        """Check `values[k]` of item `items[k]`; `follow`: no reading was left out since the last call."""
        self.checked += len(items)
        if self._source == "mix":
            self._check_mix(items, values)
            return
        numbers = np.array(values, np.float64)
        if self._source in ("modbus", "modbus-apart"):
            self.wrong += int((modbus_devices.slots_of(numbers) != items).sum())
            return
        ticks, carried = notifications.ticks_and_items(self._source, numbers)
        self.wrong += int((carried != items).sum())
        if follow and self._source == "double":
            self._follow(items, ticks)

    def _check_mix(self, items: Ints, values: Sequence[Any]) -> None:
        names = np.array(notifications.MIX)[items % len(notifications.MIX)]
        for name in set(notifications.MIX):
            rows = np.flatnonzero(names == name)
            found = [values[row] for row in rows.tolist()]
            wanted = items[rows]
            if name in ("bool", "int16"):
                type = bool if name == "bool" else int
                self.wrong += sum(not isinstance(value, type) for value in found)
            elif name == "string":
                carried = np.array([int(value) if isinstance(value, str) else -1 for value in found], np.int64)
                self.wrong += int((carried % notifications.SPAN != wanted).sum())
            else:
                numbers = np.array([value if isinstance(value, (int, float)) else -1 for value in found], np.float64)
                self.wrong += int((notifications.ticks_and_items(name, numbers)[1] != wanted).sum())

    def _follow(self, items: Ints, ticks: Ints) -> None:
        if len(items) > 1 and not (items[1:] > items[:-1]).all():
            order = np.argsort(items, kind="stable")
            items, ticks = items[order], ticks[order]
        first = np.ones(len(items), np.bool_)
        first[1:] = items[1:] != items[:-1]
        before = np.empty_like(ticks)
        before[1:] = ticks[:-1]
        before[first] = self._last[items[first]]
        step = (ticks - before)[before >= 0]
        self.skipped += int((step[step > 1] - 1).sum())
        self.repeated += int((step < 1).sum())
        last = np.append(first[1:], True)
        self._last[items[last]] = ticks[last]
