"""Pre-encoded DataChangeNotifications: templates whose values and times are patched by numpy. Pure.

A server that encodes value by value is slower than the gateway that it is to load, so everything that does not change
from tick to tick is encoded once. Binary layout: OPC UA Part 6, 5.2.2.16 (Variant), 5.2.2.17 (DataValue); Part 4,
7.25.2 (MonitoredItemNotification). What the values are: see `kinds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.load.kinds import KINDS, ORDERS, PATTERNS, STATUSES, WITHOUT_VALUE, Kind, encoded, kind_of, states

VALUE: Final = 0x01
STATUS: Final = 0x02
SOURCE: Final = 0x04
SERVER: Final = 0x08

_EPOCH_TICKS: Final = 116_444_736_000_000_000
_DATA_CHANGE: Final = b"\x01\x00\x2b\x03\x01"  # NodeId i=811, body is a ByteString
_NO_DIAGNOSTICS: Final = b"\xff\xff\xff\xff"
_HEAD: Final = 5
"""bytes of an item before its value: client handle and mask"""


def filetime(time_ns: int) -> int:
    """100 ns ticks since 1601 of ns since 1970 (Part 6, 5.2.2.5)."""
    return time_ns // 100 + _EPOCH_TICKS


class Part:
    """One notification's items: encodes them for any tick, of a plant for every ORDERS-th.

    `handles[k]` is the client handle of item `items[k]`; `mask` says which times the client wants; `tick` is one of
    those that it is for.
    """

    def __init__(self, handles: Sequence[int], items: Sequence[int], type: str, mask: int, tick: int = 0) -> None:
        self.count = len(items)
        self._tick = tick % ORDERS if type == "plant" else None
        self._times = mask.bit_count() - 1
        everything = np.array(items, np.int64)
        # Nothing has to be looked for where all items are equally wide: then assignments are copies
        self._content, self._groups, self._stamps = (
            _mixed(np.array(handles, "<u4"), everything, type, mask, tick)
            if type in PATTERNS
            else _uniform(np.array(handles, "<u4"), everything, KINDS[type], mask)
        )

    def encode(self, tick: int, time: int) -> bytes:
        """A NotificationData extension object with every item's value at `tick`; `time` is in 100 ns since 1601."""
        return notification([self.items(tick, time)], self.count)

    def items(self, tick: int, time: int) -> bytes:
        """The items alone: see `encode` and `notification`."""
        assert self._tick is None or tick % ORDERS == self._tick
        for kind, items, place in self._groups:
            self._content[place] = encoded(kind, tick, items)
        self._content[self._stamps] = np.frombuffer(time.to_bytes(8, "little") * self._times, np.uint8)
        return self._content.tobytes()


def notification(items: Sequence[bytes], count: int) -> bytes:
    """A NotificationData extension object of `count` items, encoded one behind the other."""
    head = (4 + sum(map(len, items)) + 4).to_bytes(4, "little") + count.to_bytes(4, "little")
    return b"".join((_DATA_CHANGE, head, *items, _NO_DIAGNOSTICS))


_Template = tuple[npt.NDArray[np.uint8], list[tuple[Kind, npt.NDArray[np.int64], Any]], Any]
"""bytes of the items; each kind with its items, and where their values lie in them; where the times lie"""


def _uniform(handles: npt.NDArray[np.uint32], items: npt.NDArray[np.int64], kind: Kind, mask: int) -> _Template:
    """Items as rows."""
    value = _HEAD + 1
    times = value + kind.width
    content = np.zeros((len(items), times + 8 * (mask.bit_count() - 1)), np.uint8)
    content[:, :4] = handles.view(np.uint8).reshape(-1, 4)
    content[:, 4] = mask
    content[:, 5] = kind.variant
    return content, [(kind, items, np.s_[:, value:times])], np.s_[:, times:]


def _mixed(handles: npt.NDArray[np.uint32], items: npt.NDArray[np.int64], type: str, mask: int, tick: int) -> _Template:
    """Items one behind the other, with statuses where they are not Good."""
    kinds = [kind_of(item, type) for item in items.tolist()]
    state = states(tick, items) if type == "plant" else np.zeros(len(items), np.uint8)
    valued, marked = state != WITHOUT_VALUE, STATUSES[state] != 0
    widths = np.where(valued, 1 + np.array([kind.width for kind in kinds]), 0)
    sizes = _HEAD + widths + 4 * marked + 8 * (mask.bit_count() - 1)
    starts = np.cumsum(sizes) - sizes
    statuses = starts + _HEAD + widths
    content = np.zeros(int(sizes.sum()), np.uint8)
    content[_places(starts, 4)] = handles.view(np.uint8).reshape(-1, 4)
    content[starts + 4] = mask & ~(VALUE | STATUS) | VALUE * valued | STATUS * marked
    content[starts[valued] + _HEAD] = np.array([kind.variant for kind in kinds], np.uint8)[valued]
    content[_places(statuses[marked], 4)] = STATUSES[state[marked]].astype("<u4").view(np.uint8).reshape(-1, 4)
    names = np.array([kind.name for kind in kinds])
    groups = []
    for name in dict.fromkeys(names[valued].tolist()):
        rows = np.flatnonzero(valued & (names == name))
        groups.append((KINDS[name], items[rows], _places(starts[rows] + _HEAD + 1, KINDS[name].width)))
    return content, groups, _places(statuses + 4 * marked, 8 * (mask.bit_count() - 1))


def _places(starts: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.int64]:
    """int64[n, width]: of the bytes from `starts` on."""
    return starts[:, None] + np.arange(width)


def parts(handles: Sequence[int], items: Sequence[int], type: str, mask: int, most: int, tick: int = 0) -> list[Part]:
    """Notifications of at most `most` items that cover all of `items` in order; `tick`: see `Part`."""
    return [Part(handles[k : k + most], items[k : k + most], type, mask, tick) for k in range(0, len(items), most)]
