"""Segments as they were committed into blocks, each checked before it takes their place."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from gateway.contract.batch import Batch
from gateway.log import blocks, codec
from gateway.log.blocks import Source
from gateway.log.datafile import Row
from gateway.log.errors import LogCorruptError, LogFormatError
from gateway.log.records import BatchRecord, Record

_COLUMNS: Final = ("points", "values", "valid", "status", "source_time", "basis", "flags", "original_time")
_SCALARS: Final = ("device", "type", "received_time", "monotonic")

logger = logging.getLogger(__name__)


def source_of(row: Row) -> Source | None:
    """The segment for a block; None for one that stays as it is: damaged, or holding what this version cannot read."""
    try:
        head = codec.decode_head(row.head, row.position)
        records = codec.decode_body(head, row.body)
    except (LogCorruptError, LogFormatError):
        return None
    return Source(head, len(row.head) + len(row.body), records)


def block_of(sources: list[Source]) -> Row:
    """The block of these segments, read back and compared: it is about to be the only copy there is.

    Raises LogCorruptError when it does not give back what went in.
    """
    first, last = sources[0].head.position, sources[-1].head.position
    head, body = blocks.encode_block(sources)
    back = blocks.decode_block(blocks.decode_block_head(head, first), body)
    for source, segment in zip(sources, back, strict=True):
        if source.head.series != segment.heads or not _same(source.records, segment.records):
            raise LogCorruptError(f"position {source.head.position}: a block does not give back what went in")
    return Row(first, head, body, last)


def in_blocks(rows: Sequence[Row]) -> list[Row]:
    """The same segments as blocks; what cannot go into one stays as it is."""
    packed: list[Row] = []
    gathered: list[tuple[Row, Source]] = []
    taken = 0
    for row in rows:
        size = len(row.head) + len(row.body)
        source = source_of(row)
        if source is None or taken + size > blocks.BLOCK_BYTES:
            packed += _packed(gathered)
            gathered, taken = [], 0
        if source is None:
            packed.append(row)
        else:
            gathered.append((row, source))
            taken += size
    return packed + _packed(gathered)


def _packed(gathered: list[tuple[Row, Source]]) -> list[Row]:
    if not gathered:
        return []
    try:
        return [block_of([source for _, source in gathered])]
    except LogCorruptError as error:
        logger.error("not made into a block: %s", error)
        return [row for row, _ in gathered]


def _same(left: list[Record], right: list[Record]) -> bool:
    return len(left) == len(right) and all(map(_same_record, left, right))


def _same_record(left: Record, right: Record) -> bool:
    if not isinstance(left, BatchRecord):
        return repr(left) == repr(right)  # NaN in an event is not equal to itself
    return (
        isinstance(right, BatchRecord)
        and (left.stream, left.n, left.origin) == (right.stream, right.n, right.origin)
        and _same_batch(left.batch, right.batch)
    )


def _same_batch(left: Batch, right: Batch) -> bool:
    return all(getattr(left, name) == getattr(right, name) for name in _SCALARS) and all(
        _content(getattr(left, name)) == _content(getattr(right, name)) for name in _COLUMNS
    )


def _content(column: Any) -> Any:
    """Something equal only for the same bits."""
    if column is None:
        return None
    return repr(column.tolist()) if column.dtype == object else (column.dtype, column.tobytes())
