"""Format columns/1: the same readings as parallel arrays with point indexes. Pure.

Its schema is docs/schemas/columns-1.schema.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.contract.batch import NO_TIME, Batch
from gateway.publishing.encode_json import Header, envelope, image_envelope
from gateway.publishing.fragments import NULL, integer_block, original_fragments, value_block
from gateway.publishing.runs import Run, Slice
from gateway.rfc3339 import time_text

Column = npt.NDArray[Any]

_SHORT: Final = 64
"""readings of a small device: what is said of them is mostly what was said the last time, and is looked up"""
_KNOWN: Final = 2_000
"""texts that are kept for that: devices of one kind have theirs in common"""


class _Columns(NamedTuple):
    """What readings say beside their values, of one record or of several together."""

    points: Column
    source_time: Column
    status: Column
    basis: Column
    flags: Column


def encode_columns(header: Header, run: Run) -> bytes:
    """One columns/1 message, UTF-8 JSON."""
    return _message(b"columns/1", envelope(header, run), run.slices)


def encode_image_columns(header: Header, run: Run, time: int) -> bytes:
    """One image-columns/1 message, UTF-8 JSON: what image/1 says, as columns. `time` in ns: when it was taken."""
    return _message(b"image-columns/1", image_envelope(header, run, time), run.slices)


def _message(schema: bytes, head: bytes, slices: Sequence[Slice]) -> bytes:
    points, times, *circumstances = _columns(slices)
    first = int(times[0])
    raw = times.tobytes()
    points_text, circumstances_text = (_points, _circumstances) if len(points) > _SHORT else (_known_points, _known)
    return b'{"schema":"%s",%s,"points":[%s],"t0":"%s","dt":%s,"v":[%s]%s%s}' % (
        schema,
        head,
        points_text(points.tobytes()),
        time_text(first),
        b"0" if raw[8:] == raw[:-8] else b"[%s]" % integer_block(times - first),
        _values(slices[0]) if len(slices) == 1 else b",".join(map(_values, slices)),
        circumstances_text(*[column.tobytes() for column in circumstances]),
        _originals(slices),
    )


def _columns(slices: Sequence[Slice]) -> _Columns:
    if len(slices) == 1:
        return _cut(slices[0])
    return _Columns(*map(np.concatenate, zip(*map(_cut, slices), strict=True)))


def _cut(part: Slice) -> _Columns:
    batch = part.record.batch
    columns = _Columns(batch.points, batch.source_time, batch.status, batch.basis, batch.flags)
    if part.stop - part.start == len(batch.points):
        return columns
    return _Columns(*[column[part.start : part.stop] for column in columns])


def _points(raw: bytes) -> bytes:
    """Of the column `points`."""
    return integer_block(np.frombuffer(raw, np.int32))


def _circumstances(status: bytes, basis: bytes, flags: bytes) -> bytes:
    """The keys `s`, `basis` and `flags`, from the columns of these names; nothing of one that is zero throughout."""
    named = ((b"s", status, np.uint32), (b"basis", basis, np.uint8), (b"flags", flags, np.uint8))
    return b"".join(
        b',"%s":%s' % (key, _scalar_or_list(np.frombuffer(raw, kind)))
        for key, raw, kind in named
        if raw.count(0) != len(raw)
    )


_known_points = lru_cache(_KNOWN)(_points)
_known = lru_cache(_KNOWN)(_circumstances)


def _originals(slices: Sequence[Slice]) -> bytes:
    """The key `ot`, or nothing where no reading has an original time."""
    for part in slices:
        if part.record.batch.original_time is not None:
            break
    else:
        return b""
    texts = original_fragments(
        np.concatenate([_original_times(part.record.batch)[part.start : part.stop] for part in slices])
    )
    if set(texts) == {NULL}:
        return b""
    return b',"ot":%s' % texts[0] if len(set(texts)) == 1 else b',"ot":[%s]' % b",".join(texts)


def _original_times(batch: Batch) -> Column:
    return np.full(len(batch), NO_TIME) if batch.original_time is None else batch.original_time


def _values(part: Slice) -> bytes:
    batch = part.record.batch
    if part.stop - part.start == len(batch.points):
        return value_block(batch.type, batch.values, batch.valid)
    return value_block(batch.type, batch.values[part.start : part.stop], batch.valid[part.start : part.stop])


def _scalar_or_list(column: Column) -> bytes:
    """Compared as bytes: numpy's calls take longer than ten readings do."""
    raw = column.tobytes()
    if raw[column.itemsize :] == raw[: -column.itemsize]:
        return b"%d" % int(column[0])
    return b"[%s]" % integer_block(column)
