"""Format columns/1: the same readings as parallel arrays with point indexes. Pure.

Its schema is docs/schemas/columns-1.schema.json.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.contract.batch import NO_TIME, Batch
from gateway.publishing.encode_json import Header, envelope, image_envelope
from gateway.publishing.fragments import NULL, integer_block, original_fragments, value_block
from gateway.publishing.runs import Run, Slice
from gateway.rfc3339 import rfc3339

Column = npt.NDArray[Any]


def encode_columns(header: Header, run: Run) -> bytes:
    """One columns/1 message, UTF-8 JSON."""
    return _message(b"columns/1", envelope(header, run), run.slices)


def encode_image_columns(header: Header, run: Run, time: int) -> bytes:
    """One image-columns/1 message, UTF-8 JSON: what image/1 says, as columns. `time` in ns: when it was taken."""
    return _message(b"image-columns/1", image_envelope(header, run, time), run.slices)


def _message(schema: bytes, head: bytes, slices: Sequence[Slice]) -> bytes:
    points = _column(slices, lambda batch: batch.points)
    times = _column(slices, lambda batch: batch.source_time)
    values = b",".join(_values(part) for part in slices)
    optional = b"".join(
        b',"%s":%s' % (key, _scalar_or_list(column))
        for key, column in (
            (b"s", _column(slices, lambda batch: batch.status)),
            (b"basis", _column(slices, lambda batch: batch.basis)),
            (b"flags", _column(slices, lambda batch: batch.flags)),
        )
        if _any(column)
    )
    return b'{"schema":"%s",%s,"points":[%s],"t0":"%s","dt":%s,"v":[%s]%s%s}' % (
        schema,
        head,
        integer_block(points),
        rfc3339(int(times[0])).encode(),
        _scalar_or_list(times - times[0]),
        values,
        optional,
        _originals(slices),
    )


def _originals(slices: Sequence[Slice]) -> bytes:
    """The key `ot`, or nothing where no reading has an original time."""
    if all(part.record.batch.original_time is None for part in slices):
        return b""
    texts = original_fragments(_column(slices, _original_times))
    if set(texts) == {NULL}:
        return b""
    return b',"ot":%s' % texts[0] if len(set(texts)) == 1 else b',"ot":[%s]' % b",".join(texts)


def _original_times(batch: Batch) -> Column:
    return np.full(len(batch), NO_TIME) if batch.original_time is None else batch.original_time


def _values(part: Slice) -> bytes:
    batch = part.record.batch
    return value_block(batch.type, batch.values[part.start : part.stop], batch.valid[part.start : part.stop])


def _column(slices: Sequence[Slice], of: Callable[[Batch], Column]) -> Column:
    columns = [of(part.record.batch)[part.start : part.stop] for part in slices]
    return columns[0] if len(columns) == 1 else np.concatenate(columns)


def _any(column: Column) -> bool:
    """Is something not zero? On bytes, as below: numpy's calls take longer than ten readings do."""
    return column.tobytes().count(0) != column.nbytes


def _scalar_or_list(column: Column) -> bytes:
    raw = column.tobytes()
    if raw[column.itemsize :] == raw[: -column.itemsize]:
        return b"%d" % int(column[0])
    return b"[%s]" % integer_block(column)
