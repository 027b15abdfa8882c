"""Checks of decoded values against what the load servers sent. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks import modbus_load, notifications

Ints = npt.NDArray[np.int64]
_MOST_ITEMS: Final = notifications.SPAN


class ValueCheck:
    """Counts readings whose value is not their item's and, with doubles, ticks that an item skipped or repeated.

    `source` is "modbus" or an OPC UA load's type. Ticks are only followed while every reading is passed in.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._last = np.full(_MOST_ITEMS, -1, np.int64)
        self.checked = self.wrong = self.skipped = self.repeated = 0

    def check(self, items: Ints, values: Sequence[Any], follow: bool) -> None:
        """Check `values[k]` of item `items[k]`; `follow`: no reading was left out since the last call."""
        self.checked += len(items)
        if self._source == "mix":
            self.wrong += sum(not _fits(item, value) for item, value in zip(items.tolist(), values, strict=True))
            return
        numbers = np.array(values, np.float64)
        if self._source == "modbus":
            slots = np.rint(numbers * modbus_load.FRACTION).astype(np.int64) % modbus_load.SLOT_SPAN
            self.wrong += int((slots != items).sum())
            return
        fraction = notifications.FRACTION if self._source in ("double", "float") else 1.0
        ticks, carried = np.divmod(np.rint(numbers * fraction).astype(np.int64), notifications.SPAN)
        self.wrong += int((carried != items).sum())
        if follow and self._source == "double":
            self._follow(items, ticks)

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


def _fits(item: int, value: Any) -> bool:
    """Whether a value of the mix can be its item's at some tick."""
    match notifications.kind_of(item, "mix").name:
        case "bool":
            return isinstance(value, bool)
        case "int16":
            return type(value) is int and 0 <= value < 0x8000
        case "string":
            return isinstance(value, str) and int(value) % notifications.SPAN == item
        case "double" | "float" if isinstance(value, float):
            return int(value * notifications.FRACTION) % notifications.SPAN == item
        case _:
            return type(value) is int and value % notifications.SPAN == item
