"""Where the items of a DataChangeNotification (Part 4, 7.25.2) or the values of a ReadResponse (5.11.2) begin. Pure.

An item's length follows from its first bytes, so items can only be found one after the other, and one step of that walk
is what mixed notifications cost in Python. numpy computes beforehand, for every byte of a window, how long an item
would be that began there; the walk then is an addition per item. Long runs of equal items are not walked at all.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from adapters.opcua.decoding.layouts import LONG, SIZES, STEPS, VALUE, VALUE_STEPS
from adapters.opcua.decoding.variant import DecodeError

_FIRST_WINDOW: Final = 2048
_LARGEST_WINDOW: Final = 1 << 16
"""bytes; what numpy needs for one of these stays in a core's cache"""
_LONGEST_STEP: Final = 255
_RUN: Final = 48
"""equal items that pay for leaving the walk"""
_END: Final = bytes(_LONGEST_STEP + 1)
"""follows the steps of a window, so that a step beyond it finds 0"""

ReadItem = Callable[[int, int], int]
"""Decodes the item at (offset, order), of a layout that is not ours to step over; returns where the next one begins.
Raises DecodeError."""


class Places(NamedTuple):
    """Where items begin."""

    offsets: npt.NDArray[np.int64]
    """of each item, in the order of the notification"""
    read: npt.NDArray[np.int64]
    """the orders of the items that `ReadItem` has decoded"""
    end: int
    """where the last item ends"""


def find_items(data: bytes, offset: int, end: int, count: int, read: ReadItem, shared: int = 0) -> Places:
    """Find `count` items in `data[offset:end]`. Raises DecodeError when they do not fit.

    `shared`: bytes that an item has in common with the one before it: 0, or HANDLE where there are no handles.
    """
    walk = _Walk(data, end, count, read, shared)
    after = walk.run(offset) + shared
    # One check for all of them: an item that crosses `end` moves the last end beyond it.
    if after > end:
        raise DecodeError("the message ends inside an item")
    return Places(np.concatenate(walk.offsets), np.array(walk.read, np.int64), after)


def run_length(data: bytes, offset: int, key: int, limit: int, shared: int = 0) -> int:
    """How many of the next `limit` items have the layout of `key`; they must all lie within `data`.

    Exact: the first item of another layout starts where the run ends, so its mask and type are read at the right place.
    `shared`: see `find_items`.
    """
    size, done = SIZES[key] - shared, 0
    step = 64
    while done < limit:
        n = min(step, limit - done)
        if key & VALUE:
            pairs = np.ndarray((n,), "<u2", data, offset + done * size + 4, (size,))
            same = pairs == key
        else:
            masks = np.ndarray((n,), "u1", data, offset + done * size + 4, (size,))
            same = masks == key & 0xFF
        if not same.all():
            return done + int(same.argmin())
        done += n
        step *= 16
    return done


class _Walk:
    def __init__(self, data: bytes, end: int, count: int, read: ReadItem, shared: int) -> None:
        self._data = data
        self._shared = shared
        self._table = VALUE_STEPS if shared else STEPS
        self._end = end
        self._count = count
        self._read = read
        self._done = 0
        self.offsets: list[npt.NDArray[np.int64]] = []
        self.read: list[int] = []

    def run(self, offset: int) -> int:
        window = _FIRST_WINDOW
        while self._done < self._count:
            if offset + 6 > self._end:
                raise DecodeError("the message ends inside an item")
            after = self._run(offset)
            if after > offset:
                offset, window = after, _FIRST_WINDOW
            else:
                offset = self._window(offset, window)
                window = min(4 * window, _LARGEST_WINDOW)
        return offset

    def _run(self, offset: int) -> int:
        key = self._data[offset + 4] | self._data[offset + 5] << 8
        if not SIZES[key]:
            return offset
        size = SIZES[key] - self._shared
        limit = min(self._count - self._done, (self._end - offset - self._shared) // size)
        if limit < _RUN:
            return offset
        n = run_length(self._data, offset, key, limit, self._shared)
        if n < _RUN:
            return offset
        self._done += n
        after = offset + n * size
        self.offsets.append(np.arange(offset, after, size))
        return after

    def _window(self, start: int, size: int) -> int:
        """Walk from `start` through `size` bytes at least; returns where the next item begins."""
        steps = _steps(self._data, start, min(start + size, self._end), self._table)
        inside = len(steps)
        steps += _END
        places = array("q")
        add, at, done, count = places.append, 0, self._done, self._count
        while at < inside:
            for item in range(done, count):
                step = steps[at]
                if not step:
                    done = item
                    break
                add(at)
                at += step
            else:
                done = count
                break
            if at < inside:
                add(at)
                self.read.append(done)
                at = self._read(start + at, done) - start
                done += 1
        self._done = done
        self.offsets.append(np.frombuffer(places, np.int64) + start)
        return start + at


def _steps(data: bytes, start: int, stop: int, table: npt.NDArray[np.uint8]) -> bytes:
    """How long the item would be that began at each byte of `data[start:stop]`; 0 = this has to be looked at."""
    n = min(stop, len(data) - 5) - start
    steps = table.take(np.ndarray((n,), "<u2", data, start + 4, (1,)))
    long = np.flatnonzero(steps >= LONG)
    if len(long):
        readable = int(np.searchsorted(long, len(data) - 9 - start))
        steps[long[readable:]] = 0
        long = long[:readable]
    if len(long):
        lengths = np.ndarray((len(data) - 9 - start,), "<i4", data, start + 6, (1,))
        total = np.maximum(lengths[long], 0).astype(np.int64) + (steps[long] - LONG)
        steps[long] = np.where(total <= _LONGEST_STEP, total, 0)
    return steps.tobytes()
