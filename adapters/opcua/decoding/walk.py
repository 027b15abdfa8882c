"""Where the items of a DataChangeNotification (Part 4, 7.25.2) or the values of a ReadResponse (5.11.2) begin. Pure.

An item's length follows from its first bytes, so items can only be found one after the other. In a large message numpy
looks at every byte where an item could begin, and computes where the next one would; where these follow each other to
the byte they are a chain, and the walk takes a chain at a time. Nothing else is believed: a byte that only looks like
the beginning of an item is in no chain that the walk comes to. Long runs of equal items are not even looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from adapters.opcua.decoding.layouts import (
    BODY,
    EXTENSION_OBJECT,
    HANDLE,
    LENGTH,
    SIZES,
    STATUS,
    STEPS,
    VALUE,
)
from adapters.opcua.decoding.variant import DecodeError, read_length

_FIRST_WINDOW: Final = 1 << 12
_LARGEST_WINDOW: Final = 1 << 18
"""bytes; what numpy needs for one of these stays in a core's cache"""
_SMALLEST_WINDOW: Final = 1 << 10
"""bytes in which items are found faster one by one"""
_DIAGNOSTICS: Final = 4
"""bytes of an array of diagnostics at least: its length"""
_RUN: Final = 48
"""equal items that pay for leaving the walk"""
_STAMPS: Final = 0xFF & ~(VALUE | STATUS)
"""the bits of a mask that are nearly always the same in a message: which times there are"""
_ARRAY_OR_NOT: Final = 0x7F
_TYPE_ID: Final = np.array([2, 4, 7, 7], np.int64)
"""bytes of a node id by its encoding, of one that is text without that (Part 6, 5.2.2.9)"""
_TEXT_ID: Final = 3

Ints = npt.NDArray[np.int64]
ReadItem = Callable[[int, int], int]
"""Decodes the item at (offset, order), of a layout that is not ours to step over; returns where the next one begins.
Raises DecodeError."""


class Places(NamedTuple):
    """Where items begin."""

    offsets: Ints
    """of each item, in the order of the notification; each ends where the next one begins"""
    read: Ints
    """the orders of the items that `ReadItem` has decoded"""
    end: int
    """where the last item ends"""


def find_items(data: bytes, offset: int, end: int, count: int, read: ReadItem, shared: int = 0) -> Places:
    """Find `count` items in `data[offset:end]`, with diagnostics behind them. Raises DecodeError when they do not fit.

    `shared`: bytes that an item has in common with the one before it: 0, or HANDLE where there are no handles.
    """
    walk = _Walk(data, end, count, read, shared)
    after = walk.run(offset) + shared
    # One check for all of them: an item that crosses `end` moves the last end beyond it. Behind the last one there is
    # room for a length at least, so that the two bytes at a mask are there also where it names nothing.
    if after + _DIAGNOSTICS > end:
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
            pairs = np.ndarray((n,), "<u2", data, offset + done * size + HANDLE, (size,))
            same = pairs == key
        else:
            masks = np.ndarray((n,), "u1", data, offset + done * size + HANDLE, (size,))
            same = masks == key & 0xFF
        if not same.all():
            return done + int(same.argmin())
        done += n
        step *= 16
    return done


class _Walk:
    def __init__(self, data: bytes, end: int, count: int, read: ReadItem, shared: int) -> None:
        self._data = data
        self._bytes = np.frombuffer(data, np.uint8)
        self._shared = shared
        self._end = end
        self._count = count
        self._read = read
        self._done = 0
        self._stamps: list[int] = []
        self.offsets: list[Ints] = []
        self.read: list[int] = []

    def run(self, offset: int) -> int:
        window = _FIRST_WINDOW
        while self._done < self._count:
            if offset + LENGTH > self._end:
                raise DecodeError("the message ends inside an item")
            after = self._run(offset)
            if after > offset:
                offset, window = after, _FIRST_WINDOW
            else:
                offset = self._window(offset, window)
                window = min(8 * window, _LARGEST_WINDOW)
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
        stop = min(start + size, self._end, len(self._data) - LENGTH + 1)
        self._know(start)
        begins, nexts, chains = self._chains(start, stop)
        places, ends = begins.data, chains.data
        single: list[int] = []
        at, row, chain = start, 0, 0
        while at < stop and self._done < self._count:
            while row < len(places) and places[row] < at:
                row += 1
            if row == len(places) or places[row] > at:
                single.append(at)
                at = self._one(at)
                continue
            while ends[chain] <= row:
                chain += 1
            last = min(ends[chain], row + self._count - self._done)
            if single:
                self.offsets.append(np.array(single, np.int64))
                single = []
            self.offsets.append(begins[row:last])
            self._done += last - row
            at, row = int(nexts[last - 1]), last
        self.offsets.append(np.array(single, np.int64))
        return at

    def _one(self, at: int) -> int:
        """Where the item at `at` ends."""
        self._know(at)
        order = self._done
        self._done += 1
        step = int(STEPS[self._data[at + HANDLE] | self._data[at + HANDLE + 1] << 8])
        unit, size = step >> 8, step & 0xFF
        if not size or unit == BODY:
            self.read.append(order)
            return self._read(at, order)
        if unit:
            size += unit * max(read_length(self._data, at + LENGTH, self._end), 0)
        return at + size - self._shared

    def _know(self, at: int) -> None:
        """The item at `at` is one: others look like it."""
        stamps = self._data[at + HANDLE] & _STAMPS
        if stamps not in self._stamps:
            self._stamps.append(stamps)

    def _chains(self, start: int, stop: int) -> tuple[Ints, Ints, Ints]:
        """Where items may begin in `data[start:stop]`, where each would end, and the rows at which chains end.

        All places in the first two follow each other, but for the last one of a chain.
        """
        if stop - start < _SMALLEST_WINDOW:
            nothing = np.empty(0, np.int64)
            return nothing, nothing, nothing
        masks, types = self._bytes[start + HANDLE : stop + HANDLE], self._bytes[start + HANDLE + 1 : stop + HANDLE + 1]
        stamps = masks & np.uint8(_STAMPS)
        likely = stamps == self._stamps[0]
        for other in self._stamps[1:]:
            likely |= stamps == other
        likely &= (types & np.uint8(_ARRAY_OR_NOT) <= EXTENSION_OBJECT) | (masks & np.uint8(VALUE) == 0)
        begins = np.flatnonzero(likely) + start
        nexts = begins + self._steps(begins)
        # What no other leads to is no item. One round of this leaves few; what is left only ends chains.
        led_to = np.zeros(stop - start + 1, np.bool_)
        led_to[np.minimum(nexts, stop)[nexts > begins] - start] = True
        led_to[0] = True
        kept = np.flatnonzero(led_to[begins - start] & (nexts > begins))
        begins, nexts = begins[kept], nexts[kept]
        return begins, nexts, np.append(np.flatnonzero(nexts[:-1] != begins[1:]), len(begins) - 1) + 1

    def _steps(self, at: Ints) -> Ints:
        """How far it would be from the item at each of `at` to the next; 0 = this has to be looked at.

        Lengths that lie beyond the data are read before its end: such an item crosses the end whatever they say.
        """
        keys = np.ndarray((len(self._data) - 1,), "<u2", self._data, 0, (1,))
        lengths = np.ndarray((len(self._data) - 3,), "<i4", self._data, 0, (1,))
        shapes = STEPS.take(keys[at + HANDLE])
        steps = (shapes & 0xFF).astype(np.int64)
        long = np.flatnonzero(shapes > 0xFF)
        if len(long):
            units, places = (shapes[long] >> 8).astype(np.int64), at[long] + LENGTH
            bodies = np.flatnonzero(units == BODY)
            if len(bodies):
                heads = self._heads(places[bodies], lengths)
                places[bodies] += heads - 4
                units[bodies] = 1
                steps[long[bodies]] += heads
            steps[long] += units * np.maximum(lengths[np.minimum(places, len(lengths) - 1)], 0)
            if len(bodies):
                steps[long[bodies[heads == 0]]] = 0
        steps[steps > 0] -= self._shared
        return steps

    def _heads(self, at: Ints, lengths: npt.NDArray[np.int32]) -> Ints:
        """Bytes from a structure's type id to the end of its length (Part 6, 5.2.2.15); 0 = look at it."""
        last = len(self._bytes) - 1
        kinds = self._bytes[np.minimum(at, last)]
        sizes = _TYPE_ID[np.minimum(kinds, _TEXT_ID)]
        texts = kinds == _TEXT_ID
        sizes[texts] += np.maximum(lengths[np.minimum(at[texts] + 3, len(lengths) - 1)], 0)
        binary = self._bytes[np.minimum(at + sizes, last)] == 1
        heads: Ints = np.where((kinds <= _TEXT_ID) & binary, sizes + 5, 0)
        return heads
