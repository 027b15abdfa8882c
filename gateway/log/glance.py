"""What a start needs of a block, without decoding its readings. Pure: no I/O.

A start reads the newest file wholly. On flash it is in blocks from the beginning and up to a day long: a column that
nobody asks for is passed over by its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from gateway.contract.batch import ValueType
from gateway.log import blocks, codec, columns
from gateway.log.batches import decode_values
from gateway.log.blocks import BlockHead, Key
from gateway.log.columns import Reader
from gateway.log.errors import LogFormatError
from gateway.log.origins import Newest, newest_origins
from gateway.log.records import NoteRecord, Record

_U8, _U32, _U64 = np.dtype(np.uint8), np.dtype(np.uint32), np.dtype(np.uint64)
_I32, _I64, _BOOL = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.bool_)
_COLUMNS: Final = (_I32, _I64, _U32, _U8, _U8, _BOOL)
"""of every reading, before its value: point, source time, status, basis, flags, valid"""


class Glance(NamedTuple):
    """Everything in a block but its readings."""

    records: list[Record]
    """in the order of the log"""
    newest: Newest
    """see `newest_origins`"""


def glance(head: BlockHead, body: bytes) -> Glance:
    """What is in a block beside readings; all of it is checked against the checksum.

    Raises LogCorruptError or LogFormatError.
    """
    blocks.check_block(head, body)
    reader = Reader(codec.decompress(body, head.raw_bytes))
    keys, order = blocks.read_keys(reader)
    groups: list[Iterator[Record]] = []
    origins: list[_Origins] = []
    for index, key in enumerate(keys):
        if key.kind == blocks.BATCH:
            groups.append(iter(()))
            found = _pass_batches(key, reader)
            origins += [_Origins(index, key.device or "", *found)] if found else []
        else:
            groups.append(blocks.read_payloads(key, reader))
    batches = [key.kind == blocks.BATCH for key in keys]
    records = [next(groups[index]) for index in order if not batches[index]]
    if origins and any(isinstance(record, NoteRecord) for record in records):
        # A note counts from its place in the log on, which only all records in their order tell. Notes are rare.
        segments = blocks.decode_block(head, body)
        whole = [record for segment in segments for record in segment.records]
        return Glance(records, newest_origins(whole))
    return Glance(records, _newest(origins, order))


class _Origins(NamedTuple):
    """Of the batches of one key, in the order of the log."""

    key: int
    device: str
    servers: list[str]
    server: list[int]
    subscription: list[int]
    sequence: list[int]


def _newest(origins: Sequence[_Origins], order: Sequence[int]) -> Newest:
    """The last origin in the log of each subscription, of the keys of all types of value."""
    places: dict[int, list[int]] = {one.key: [] for one in origins}
    for place, key in enumerate(order):
        if key in places:
            places[key].append(place)
    last: dict[tuple[str, str, int], tuple[int, int]] = {}
    for one in origins:
        rows = zip(places[one.key], one.server, one.subscription, one.sequence, strict=True)
        for place, server, subscription, sequence in rows:
            subject = (one.device, one.servers[server], subscription)
            if place >= last.get(subject, (-1, 0))[0]:
                last[subject] = (place, sequence)
    return {subject: sequence for subject, (_, sequence) in last.items()}


def _pass_batches(key: Key, reader: Reader) -> tuple[list[str], list[int], list[int], list[int]] | None:
    """Go past the batches of a key; their origins."""
    number, counts = blocks.read_counts(reader)
    columns.pass_over(reader, number, _I64)
    columns.pass_over(reader, number, _I64)
    found = blocks.read_origins(reader, number) if key.origins else None
    total = int(counts.sum())
    for dtype in _COLUMNS:
        columns.pass_over(reader, total, dtype)
    try:
        type = ValueType(key.type)
    except ValueError:
        raise LogFormatError(f"value type {key.type} is not known to this version; a newer version wrote it") from None
    if type.dtype == object:
        decode_values(reader, type, total)
    else:
        columns.pass_over(reader, total, type.dtype)
    if key.original_times:
        columns.pass_over(reader, total, _I64)
    return found
