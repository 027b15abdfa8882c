"""Segments from what is queued: what is offered together stays together, and no segment grows beyond its limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.log import codec
from gateway.log.records import Record, Segment

_HEAD_ROOM: Final = 12_000
"""what a head and the compressor's worst case may add to the payloads"""


def pieces(records: Sequence[Record]) -> list[Segment]:
    """One call's records as one segment, or as one each where they are too large together."""
    if not records:
        return []
    packed = [codec.pack_record(record) for record in records]
    segment = Segment(0, list(records), packed=packed)
    if _size(segment) <= codec.SEGMENT_BYTES or len(records) == 1 or _compresses(segment):
        return [segment]
    return [Segment(0, [record], packed=[payload]) for record, payload in zip(records, packed, strict=True)]


def merged(parts: list[Segment]) -> list[Segment]:
    """Fewer, fuller segments, each below the limit."""
    full: list[Segment] = []
    room = 0
    for piece in parts:
        size = _size(piece)
        if full and size <= room:
            last = full[-1]
            assert last.packed is not None
            assert piece.packed is not None
            last.records += piece.records
            last.packed += piece.packed
            room -= size - _HEAD_ROOM  # which the first has left for the whole segment
        else:
            full.append(piece)
            room = codec.SEGMENT_BYTES - size
    return full


def _size(segment: Segment) -> int:
    """An upper bound of the segment's encoded size: payloads as they are, with their frames."""
    assert segment.packed is not None
    return sum(map(len, segment.packed)) + 160 * len(segment.packed) + _HEAD_ROOM


def _compresses(segment: Segment) -> bool:
    assert segment.packed is not None
    raw = b"".join(segment.packed)
    return len(codec.compress(raw)) + 160 * len(segment.packed) + _HEAD_ROOM <= codec.SEGMENT_BYTES
