"""Format readings/1: one JSON object per reading, joined from prepared pieces. Pure.

Nothing is done per reading in Python: each piece of a reading comes from a column at once, and the pieces are joined
by one call. What the pieces mean is in docs/schemas/readings-1.schema.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np

from gateway.contract.batch import Basis, Batch, Flag
from gateway.contract.status import quality, reason
from gateway.log.records import PointRecord, Series
from gateway.publishing.fragments import NULL, original_fragments, text_fragment, time_fragments, value_fragments
from gateway.publishing.runs import Run, Slice
from gateway.rfc3339 import time_text

_BASES = {basis.value: basis.name.lower().encode() for basis in Basis}
_FLAGS = tuple((flag.value, b'"%s"' % flag.name.lower().encode()) for flag in Flag if flag.name)
_MIDDLE = b'Z","v":'


class Header(NamedTuple):
    """What a readings message says once."""

    enterprise: str
    gateway: str
    lane: str
    """live, backlog, replay or image"""
    catalogue: int


class PointPrefixes(dict[int, bytes]):
    """How each point's readings begin, by index. An index that the log never explained is named by its number."""

    def __init__(self, points: Mapping[int, PointRecord]) -> None:
        super().__init__((index, _prefix(record.point, record.id)) for index, record in points.items())

    def __missing__(self, index: int) -> bytes:
        return _prefix(f"point-{index}", None)


def encode_readings(header: Header, run: Run, prefixes: PointPrefixes) -> bytes:
    """One readings/1 message, UTF-8 JSON."""
    return _message(b"readings/1", envelope(header, run), run.slices, prefixes)


def encode_image(header: Header, run: Run, prefixes: PointPrefixes, time: int) -> bytes:
    """One image/1 message, UTF-8 JSON: readings that have no place in the counting. `time` in ns: when it was taken."""
    return _message(b"image/1", image_envelope(header, run, time), run.slices, prefixes)


def _message(schema: bytes, head: bytes, slices: Sequence[Slice], prefixes: PointPrefixes) -> bytes:
    basis = _common_basis(slices)
    body = b",".join(_slice_text(part, prefixes, basis) for part in slices)
    extra = b"" if basis == Basis.SOURCE else b'"basis":"%s",' % _BASES[basis]
    return b'{"schema":"%s",%s,%s"readings":[%s]}' % (schema, head, extra, body)


def envelope(header: Header, run: Run) -> bytes:
    """The keys that readings/1 and columns/1 share, without braces."""
    before, after = _frame(header, run.series, run.count)
    return b'%s,"n":%d,%s' % (before, run.n, after)


def image_envelope(header: Header, run: Run, time: int) -> bytes:
    """The keys that image/1 and image-columns/1 share, without braces."""
    before, after = _frame(header, run.series, run.count)
    return b'%s,"time":"%s",%s' % (before, time_text(time), after)


@lru_cache(10_000)
def _frame(header: Header, series: Series, count: int) -> tuple[bytes, bytes]:
    """What a small device's messages say each time, before and behind what they do not."""
    place = zip(
        (b"enterprise", b"gateway", b"stream", b"device"),
        map(text_fragment, (header.enterprise, header.gateway, *series)),
        strict=True,
    )
    before = b",".join([b'"%s":%s' % pair for pair in place])
    return before, b'"count":%d,"lane":%s,"catalogue":%d' % (count, text_fragment(header.lane), header.catalogue)


def _prefix(point: str, id: str | None) -> bytes:
    return b'{"p":%s,"id":%s,"t":"' % (text_fragment(point), text_fragment(id))


def _common_basis(slices: Iterable[Slice]) -> int:
    """The basis of all readings where they share one; else source, which then goes without saying."""
    seen: set[int] = set()
    for part in slices:
        basis = part.record.batch.basis[part.start : part.stop]
        low, high = int(basis.min()), int(basis.max())
        seen |= {low, high}
        if len(seen) > 1:
            return Basis.SOURCE.value
    return seen.pop()


def _slice_text(part: Slice, prefixes: PointPrefixes, common_basis: int) -> bytes:
    batch = part.record.batch
    cut = slice(part.start, part.stop)
    pieces = zip(
        map(prefixes.__getitem__, batch.points[cut].tolist()),
        time_fragments(batch.source_time[cut]),
        repeat(_MIDDLE),
        value_fragments(batch.type, batch.values[cut], batch.valid[cut]),
        _suffixes(batch, cut, common_basis)
        if batch.original_time is None
        else _with_originals(batch, cut, common_basis),
        strict=False,  # two of the columns are endless
    )
    return b"".join(chain.from_iterable(pieces))[:-1]


def _suffixes(batch: Batch, cut: slice, common_basis: int) -> Iterable[bytes]:
    """How each reading ends, with the comma towards the next: one text per distinct status, basis and flags."""
    status, basis, flags = batch.status[cut], batch.basis[cut], batch.flags[cut]
    if not (status.any() or flags.any() or (basis != common_basis).any()):
        return repeat(b',"q":"good"},')
    keys = status.astype(np.uint64) << np.uint64(16) | basis.astype(np.uint64) << np.uint64(8) | flags
    texts = {key: _suffix(key >> 16, key >> 8 & 0xFF, key & 0xFF, common_basis) for key in set(keys.tolist())}
    return map(texts.__getitem__, keys.tolist())


def _with_originals(batch: Batch, cut: slice, common_basis: int) -> Iterable[bytes]:
    """The same with the times that came with the readings and are not theirs."""
    assert batch.original_time is not None
    originals = original_fragments(batch.original_time[cut])
    for suffix, original in zip(_suffixes(batch, cut, common_basis), originals, strict=False):
        yield suffix if original is NULL else b'%s,"ot":%s},' % (suffix[:-2], original)


def _suffix(status: int, basis: int, flags: int, common_basis: int) -> bytes:
    severity = quality(status)
    text = b',"q":"%s"' % severity.encode()
    if status:
        text += b',"s":"0x%08X"' % status
    if severity != "good":
        text += b',"reason":"%s"' % reason(status).encode()
    if basis != common_basis:
        text += b',"basis":"%s"' % _BASES.get(basis, b"gateway")
    if words := [word for bit, word in _FLAGS if flags & bit]:
        text += b',"flags":[%s]' % b",".join(words)
    return text + b"},"
