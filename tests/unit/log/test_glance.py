"""A glance at a block: all that a start needs of it, the same as by decoding it whole."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from gateway.contract.adapter import Origin
from gateway.contract.batch import Batch, ValueType
from gateway.log import blocks, codec
from gateway.log.blocks import Source
from gateway.log.errors import LogCorruptError
from gateway.log.glance import glance
from gateway.log.origins import newest_origins
from gateway.log.records import BatchRecord, EventRecord, NoteRecord, Record, Segment
from tests.support.logs import STREAM, T0, definitions, event

VALUES: dict[ValueType, list[Any]] = {
    ValueType.FLOAT64: [20.1, -0.5, 3.0e200],
    ValueType.FLOAT32: [1.5, 0.0, 7.25],
    ValueType.INT64: [-3, 2**60, 0],
    ValueType.UINT64: [1, 2**63, 5],
    ValueType.BOOL: [True, False, True],
    ValueType.STRING: ["停", "running", ""],
}


def batch(draw: random.Random) -> BatchRecord:
    type = draw.choice(list(VALUES))
    count = draw.choice([1, 2, 30])
    column = np.empty(count, type.dtype)
    column[:] = [draw.choice(VALUES[type]) for _ in range(count)]
    made = Batch.of(
        f"boiler-{draw.randrange(3)}",
        type,
        [draw.randrange(5) for _ in range(count)],
        column,
        status=np.array([draw.choice([0, 0x40900000]) for _ in range(count)], np.uint32),
        received_time=T0 + draw.randrange(10**9),
        monotonic=draw.randrange(10**9),
        source_time=T0 + np.array([draw.randrange(10**12) for _ in range(count)]),
        original_time=None if draw.random() < 0.7 else T0 + np.arange(count) * draw.randrange(10**9),
    )
    servers = [None, Origin("urn:plant", draw.randrange(2), draw.randrange(2**32)), Origin("urn:other", 1, 5)]
    return BatchRecord(STREAM, made, draw.choice(servers), 0)


def block(draw: random.Random, notes: bool) -> tuple[list[Segment], blocks.BlockHead, bytes]:
    sources = []
    next_n: dict[Any, int] = {}
    for position in range(1, draw.randrange(2, 12)):
        records: list[Record] = [batch(draw) for _ in range(draw.randrange(1, 4))]
        if draw.random() < 0.3:
            records += definitions()
        if draw.random() < 0.3:
            records.append(event(-1))
        if notes and draw.random() < 0.5:
            records.insert(draw.randrange(len(records)), NoteRecord(f"boiler-{draw.randrange(3)}", {"k": position}))
        for record in records:
            if isinstance(record, BatchRecord | EventRecord):
                record.n = next_n.get(record.series, 0)
                next_n[record.series] = record.n + (len(record.batch) if isinstance(record, BatchRecord) else 1)
        head, body, _ = codec.encode_segment(records, position, T0)
        sources.append(Source(codec.decode_head(head, position), len(head) + len(body), records))
    encoded, body = blocks.encode_block(sources)
    head_of_block = blocks.decode_block_head(encoded, 1)
    return blocks.decode_block(head_of_block, body), head_of_block, body


@pytest.mark.parametrize("notes", [False, True])
def test_it_is_what_decoding_the_block_gives(notes: bool) -> None:
    for seed in range(60):
        segments, head, body = block(random.Random(seed), notes)
        records = [record for segment in segments for record in segment.records]
        seen = glance(head, body)
        assert list(map(codec.pack_record, seen.records)) == [
            codec.pack_record(record) for record in records if not isinstance(record, BatchRecord)
        ]
        assert dict(seen.newest) == dict(newest_origins(records)), seed


def test_damage_is_found_although_nothing_is_decoded() -> None:
    _, head, body = block(random.Random(1), False)
    for at in range(0, len(body), 7):
        torn = bytearray(body)
        torn[at] ^= 1
        with pytest.raises(LogCorruptError, match="checksum"):
            glance(head, bytes(torn))
