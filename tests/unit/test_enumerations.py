"""Texts of enumerations: in point entries, in the log, in the catalogue; ten thousand points may share them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from gateway.contract import ValueType
from gateway.log import codec
from gateway.log.pieces import merged, pieces
from gateway.log.preamble import Preamble, definition_key
from gateway.log.records import Labels, PointRecord, Segment
from gateway.points.registry import ENUMERATION_BYTES
from gateway.publishing import documents
from tests.support.logs import crash, open_log
from tests.support.subscriber import check
from tests.unit.test_normaliser import Bench, batch, define

VALVE = {0: "Closed", 1: "Open", 2: "Moving", -1: "故障"}
POINTS = 10_000


def entry(bench: Bench, index: int) -> PointRecord:
    return bench.table.points("d")[index]


def test_one_call_is_one_catalogue_version_under_the_same_indexes() -> None:
    bench = Bench()
    bench.bind(define("a"), define("b"), define("c"))
    bench.written.clear()
    bench.registry.describe("d", {0: VALVE, 1: dict(VALVE)})
    assert bench.table.version("d") == 2
    assert [(r.index, r.catalogue, r.enumeration) for r in bench.written if isinstance(r, PointRecord)] == [
        (0, 2, VALVE),
        (1, 2, VALVE),
    ]
    assert entry(bench, 0).enumeration is entry(bench, 1).enumeration
    assert entry(bench, 2).enumeration is None
    bench.registry.describe("d", {0: VALVE, 1: VALVE})
    assert bench.table.version("d") == 2, "nothing new"
    bench.registry.describe("d", {0: {}})
    assert entry(bench, 0).enumeration is None


def test_texts_stay_over_a_restart_and_go_with_a_new_entry() -> None:
    bench = Bench()
    bench.bind(define("a"))
    bench.registry.describe("d", {0: VALVE})
    again = Bench(bench.table)
    assert again.bind(define("a")) == [0]
    assert again.table.version("d") == 2
    normaliser = again.normaliser()
    normaliser.records([batch(ValueType.INT64, [0], [1])])
    normaliser.records([batch(ValueType.FLOAT64, [0], [1.5])])
    assert entry(again, 1).enumeration == VALVE
    again.registry.describe("d", {0: {0: "Other"}})
    assert entry(again, 1).enumeration == {0: "Other"}, "the adapter knows the index that it was given"
    assert entry(again, 0).enumeration == VALVE, "a retired entry says what was true then"


def test_texts_that_no_catalogue_can_hold(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    bench = Bench()
    bench.bind(define("a"), define("b"), define("c"))
    book = dict.fromkeys(range(ENUMERATION_BYTES // 100), "x" * 100)
    bench.registry.describe("d", {0: {0: "half \ud800 a pair"}, 1: book, 2: book})
    assert entry(bench, 0).enumeration == {0: "half ? a pair"}
    assert entry(bench, 1).enumeration is None
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("d: b: its enumeration of 160 texts takes 17")


def test_texts_are_in_the_log_and_shared_when_they_are_read(tmp_path: Path) -> None:
    records = [PointRecord("d", n, f"p{n}", "S", 1, 0, enumeration=VALVE) for n in range(3)]
    store, _ = open_log(tmp_path / "log", rotate_bytes=1)
    store.append([Segment(0, list(records))], store.bounds().end)
    crash(store)
    for rotated in (False, True):
        store, recovery = open_log(tmp_path / "log", rotate_bytes=1)
        found = [record for record in recovery.records if isinstance(record, PointRecord)]
        assert found == records, rotated
        assert len({id(record.enumeration) for record in found[:3]}) == 1
        store.append([Segment(0, [PointRecord("e", 0, "p", "S", 1, 0)])], store.bounds().end)
        store.append([Segment(0, [PointRecord("e", 0, "p", "S", 1, 0)])], store.bounds().end)
        records = [*records[:3], PointRecord("e", 0, "p", "S", 1, 0)]
        store.close()


def many(enumeration: dict[int, str] | None) -> list[PointRecord]:
    return [
        PointRecord("d", n, f"valve_{n}", "01KAAAAAAAAAAAAAAAAAAAAAAA", 2, 0, ValueType.INT64, f"88.118.8/d.valve_{n}",
                    enumeration=enumeration)
        for n in range(POINTS)
    ]  # fmt: skip


STATES = {number: f"state number {number}" for number in range(20)}


def test_a_shared_enumeration_hardly_grows_the_preamble() -> None:
    def size(enumeration: dict[int, str] | None) -> int:
        records = {definition_key(record): record for record in many(enumeration)}
        return len(Preamble("log", "box", 1, 0, None, records=dict(records)).encode()[1])

    plain, described = size(None), size(STATES)
    assert described < plain + 10 * POINTS, (plain, described)


def test_many_entries_are_few_segments_below_the_limit() -> None:
    segments = merged(pieces(many(STATES)))
    sizes = [len(codec.encode_segment(one.records, 1, 0, one.packed)[1]) for one in segments]
    assert sum(len(one.records) for one in segments) == POINTS
    assert max(sizes) <= codec.SEGMENT_BYTES
    assert len(segments) < 25


def test_the_catalogue_tells_them_in_parts_below_the_limit() -> None:
    origin = documents.Origin("91370200MA3C00000K", "gw-1")
    labels = Labels("production", 1, "general")
    records = many(STATES)[:500]
    records[7] = PointRecord("d", 7, "plain", "01KAAAAAAAAAAAAAAAAAAAAAAA", 2, 0)
    parts = documents.catalogue(origin, "d", None, 7, [(r, labels) for r in records], 0, 20_000)
    assert len(parts) > 5
    assert all(len(part) <= 20_000 for part in parts)
    points = []
    for part in parts:
        document = json.loads(part)
        check(document)
        points += document["points"]
    assert points[0]["enum"] == {str(number): text for number, text in STATES.items()}
    assert "enum" not in points[7]
