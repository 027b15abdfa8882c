"""Compaction: the same segments at the same positions before, meanwhile and after; one valid file at any moment."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.contract.adapter import Origin
from gateway.contract.batch import NO_TIME, Batch, ValueType
from gateway.log import LogFullError, LogStore, datafile, storage
from gateway.log import store as store_module
from gateway.log.compaction import compact
from gateway.log.records import BatchRecord, DeviceRecord, EventRecord, NoteRecord, Segment, Series
from gateway.log.recovery import HOLE
from tests.support.logs import STREAM, T0, SetClock, crash, definitions, event, open_log, reading, same_records, segment

VALUES = {
    ValueType.BOOL: [True, False, True],
    ValueType.INT64: [-(2**63), 0, 2**63 - 1],
    ValueType.UINT64: [0, 2**64 - 1, 7],
    ValueType.FLOAT32: [0.1, float("nan"), -0.0],
    ValueType.FLOAT64: [20.1, float("inf"), 1e-300],
    ValueType.STRING: ["釜内温度", "", "\ud800"],
    ValueType.BYTES: [b"\0\xff", b"", b"x" * 300],
    ValueType.JSON: [[1, 2.5, None], {"a": [float("nan")]}, "text"],
}
OPENED = {"schema": "gap/1", "id": "g1", "from": "then", "to": None}


def go_on(_: int) -> bool:
    return True


def rotated(folder: Path, *content: Segment, clock: SetClock | None = None) -> LogStore:
    """A log whose first file is closed and holds `content`; in the second is one reading of another device."""
    clock = clock or SetClock()
    store, _ = open_log(folder, clock)
    for one in content:
        store.append([one], store.bounds().end)
    clock.advance(86_400)
    store.append([segment(reading(0, device="other"))], store.bounds().end)
    assert len(store.files()) == 2
    return store


def readings() -> list[Segment]:
    return [segment(reading(10 * k)) for k in range(30)]


def everything_there_is() -> list[Segment]:
    """Every kind of record and type of value, two devices interleaved, points in no order."""
    segments = [
        segment(
            *definitions(),
            DeviceRecord("boiler-1", "Boiler 1", "opcua"),
            NoteRecord("boiler-1", {"subscription": 7, "items": [1, 2]}),
            event(0, **{k: v for k, v in OPENED.items() if k != "schema"}),
        )
    ]
    counted: dict[str, int] = {}
    chance = np.random.default_rng(3)
    for step in range(40):
        found = Segment(0, [])
        for type, values in VALUES.items():
            device = ("boiler-1", "meter-2")[(step + type) % 2]
            column = np.empty(3, type.dtype)
            column[:] = values
            made = Batch.of(
                device,
                type,
                chance.permutation(3) + 10 * int(type),
                column,
                received_time=T0 + step * 10**9 + int(type),
                monotonic=step * 10**9 + int(type),
                source_time=T0 + chance.integers(0, 10**9, 3),
                status=np.array([0, 0x80000000, 0], np.uint32),
                valid=np.array([True, False, True]),
            )
            if type is ValueType.INT64 and step % 3 == 0:
                made = replace(made, original_time=np.array([NO_TIME, 5, -7]))
            origin = Origin(f"urn:plant:{step % 2}", 7, step) if device == "boiler-1" else None
            found.records.append(BatchRecord(STREAM, made, origin, counted.get(device, 0)))
            counted[device] = counted.get(device, 0) + 3
        found.records.append(event(step + 1, value=float("nan")))
        segments.append(found)
    return segments


def described(segments: list[Segment]) -> list[tuple[int, object, int]]:
    return [(one.position, one.heads, one.nbytes) for one in segments]


def assert_same(found: list[Segment], expected: list[Segment]) -> None:
    assert described(found) == described(expected)
    for left, right in zip(found, expected, strict=True):
        assert [type(record) for record in left.records] == [type(record) for record in right.records]
        for one, other in zip(left.records, right.records, strict=True):
            if isinstance(one, EventRecord):
                assert repr(one) == repr(other)
            else:
                assert same_records([one], [other])


def test_every_kind_of_record_comes_back_at_its_position(folder: Path) -> None:
    store = rotated(folder, *everything_there_is())
    before, heads = store.read(0, 10**9), list(store.heads(0, 100))
    made = store.compact(go_on)
    assert made is not None
    assert made.in_blocks
    assert not (folder / datafile.COMPACT_NAME).exists()
    assert_same(store.read(0, 10**9), before)
    assert list(store.heads(0, 100)) == heads
    assert store.compact(go_on) is None
    store.close()
    store, recovery = open_log(folder)
    assert (recovery.continuity, recovery.damage) == (None, [])
    assert_same(store.read(0, 10**9), before)
    store.close()


def test_a_limit_in_bytes_means_the_same_before_and_after(folder: Path) -> None:
    store = rotated(folder, *readings())
    limits = [(position, limit) for position in range(34) for limit in (1, 700, 2000, 10**9)]
    before = [described(store.read(*one)) for one in limits]
    some = [list(store.heads(start, start + 5)) for start in range(33)]
    assert store.compact(go_on)
    assert [described(store.read(*one)) for one in limits] == before
    assert [list(store.heads(start, start + 5)) for start in range(33)] == some
    store.close()


def test_several_blocks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.log.blocks.BLOCK_BYTES", 2000)
    store = rotated(folder, *readings())
    before = store.read(0, 10**9)
    pauses: list[int] = []

    def pause(taken: int) -> bool:
        pauses.append(taken)
        assert_same(store.read(0, 10**9), before)  # while it is being made
        return True

    assert store.compact(pause)
    assert len(pauses) > 3
    assert max(pauses) <= 2000
    for position in range(1, 32):
        assert_same(store.read(position, 1), before[position - 1 : position])
    store.close()


def test_the_newest_closed_file_goes_first_and_the_open_one_never(folder: Path) -> None:
    clock = SetClock()
    store, _ = open_log(folder, clock)
    for k in range(60):
        clock.advance(86_400 / 20)
        store.append([segment(reading(10 * k))], k + 1)
    files = store.files()
    assert len(files) >= 3
    done = []
    while (made := store.compact(go_on)) is not None:
        done.append(made.first)
    assert done == [file.first for file in reversed(files[:-1])]
    assert [file.in_blocks for file in store.files()] == [True] * (len(files) - 1) + [False]
    store.close()


def test_stopped_halfway_nothing_has_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.log.blocks.BLOCK_BYTES", 2000)
    store = rotated(folder, *readings())
    before = store.read(0, 10**9)
    assert store.compact(lambda _: False) is None
    assert not list(folder.glob(datafile.COMPACT_NAME + "*"))
    assert_same(store.read(0, 10**9), before)
    assert store.compact(go_on)
    store.close()


def test_trimmed_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.log.blocks.BLOCK_BYTES", 2000)
    store = rotated(folder, *readings())

    def pause(_: int) -> bool:
        store.trim(31)
        return True

    assert store.compact(pause) is None
    assert [file.first for file in store.files()] == [31]
    assert sorted(path.name for path in folder.glob("*.db*")) == sorted(
        part.name for path in folder.glob("data-*31.db") for part in (path, *datafile.side_files(path))
    )
    store.close()


def test_skipped_while_the_disk_is_short(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = rotated(folder, *readings())
    size = store.files()[0].bytes
    monkeypatch.setattr(store_module, "space", lambda _: storage.Space(10**6, size + 49_000))
    assert store.compact(go_on) is None
    monkeypatch.setattr(store_module, "space", lambda _: storage.Space(10**6, size + 51_000))
    assert store.compact(go_on) is not None
    store.close()


def test_a_disk_that_fills_up_leaves_the_old_file_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own limit stands in for the disk's: not a page beyond the tables."""
    store = rotated(folder, *everything_there_is())
    before = store.read(0, 10**9)
    create = datafile.create_in_blocks

    def small(path: Path) -> sqlite3.Connection:
        connection = create(path)
        connection.execute("PRAGMA max_page_count=1")
        return connection

    monkeypatch.setattr(datafile, "create_in_blocks", small)
    with pytest.raises(LogFullError, match="the disk is full"):
        store.compact(go_on)
    assert not list(folder.glob(datafile.COMPACT_NAME + "*"))
    assert_same(store.read(0, 10**9), before)
    monkeypatch.setattr(datafile, "create_in_blocks", create)
    assert store.compact(go_on)
    assert_same(store.read(0, 10**9), before)
    store.close()


def test_what_does_not_become_smaller_stays_as_it_is(folder: Path) -> None:
    clock = SetClock()
    store, _ = open_log(folder, clock)
    store.append([segment(reading(0))], 1)
    clock.advance(86_400)
    store.append([segment(reading(10))], 2)
    assert store.compact(go_on) is None
    assert not store.files()[0].in_blocks
    assert not list(folder.glob(datafile.COMPACT_NAME + "*"))
    store.close()


@pytest.mark.parametrize("column", ["head", "body"])
def test_a_damaged_segment_goes_over_with_its_damage(folder: Path, column: str) -> None:
    store = rotated(folder, *readings())
    flip(store.files()[0].path, "segment", 7, column)
    before = store.read(0, 10**9)
    assert [one.position for one in before if one.damage] == [7]
    assert store.compact(go_on)
    after = store.read(0, 10**9)
    assert_same(after, before)
    assert [(one.position, one.damage) for one in after if one.damage] == [(7, before[6].damage)]
    store.close()


def test_flipped_byte_in_a_block(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its segments are lost; which readings those were is known."""
    monkeypatch.setattr("gateway.log.blocks.BLOCK_BYTES", 2000)
    store = rotated(folder, *readings())
    before = store.read(0, 10**9)
    made = store.compact(go_on)
    assert made is not None
    with contextlib.closing(sqlite3.connect(made.path)) as connection:
        (first, last) = connection.execute("SELECT position, last FROM block LIMIT 1 OFFSET 1").fetchone()
    store.close()
    flip(made.path, "block", first, "body")
    store, recovery = open_log(folder)
    assert recovery.continuity is None
    after = store.read(0, 10**9)
    assert described(after) == described(before)
    assert [one.position for one in after if one.damage] == list(range(first, last + 1))
    assert all(not one.records for one in after if one.damage)
    store.close()


def test_flipped_byte_in_the_head_of_a_block(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it held is not known; the damage is shown once, wherever in the block reading begins."""
    monkeypatch.setattr("gateway.log.blocks.BLOCK_BYTES", 2000)
    store = rotated(folder, *readings())
    made = store.compact(go_on)
    assert made is not None
    with contextlib.closing(sqlite3.connect(made.path)) as connection:
        (first, last) = connection.execute("SELECT position, last FROM block LIMIT 1 OFFSET 1").fetchone()
    store.close()
    flip(made.path, "block", first, "head")
    store, _ = open_log(folder)
    assert [one.position for one in store.read(0, 10**9)] == [*range(1, first + 1), *range(last + 1, 32)]
    assert [(one.position, bool(one.damage)) for one in store.read(first + 2, 1)] == [(first + 2, True)]
    assert [position for position, _ in store.heads(0, 99)] == [*range(1, first), *range(last + 1, 32)]
    store.close()


def test_a_crash_at_any_moment_leaves_one_valid_file(folder: Path, tmp_path: Path) -> None:
    store = rotated(folder, *readings())
    before = store.read(0, 10**9)
    made = compact(store.files()[0], go_on)
    assert made is not None
    crash(store)
    store, recovery = open_log(folder)  # before the rename
    assert (recovery.continuity, recovery.damage) == (None, [])
    assert not made.path.exists()
    assert_same(store.read(0, 10**9), before)
    made = compact(store.files()[0], go_on)
    assert made is not None
    crash(store)
    for part in datafile.side_files(made.file.path):  # what a reader beside may leave
        part.touch()
    made.path.replace(made.file.path)  # after it, before the rest
    store, recovery = open_log(folder)
    assert (recovery.continuity, recovery.damage) == (None, [])
    assert store.files()[0].in_blocks
    assert_same(store.read(0, 10**9), before)
    store.close()


def test_a_reader_beside_reads_on_in_the_old_file(folder: Path) -> None:
    store = rotated(folder, *readings())
    path = store.files()[0].path
    with contextlib.closing(datafile.connect_watching(path)) as beside:
        first = datafile.fetch(beside, 1, 5, 10)
        assert store.compact(go_on)
        assert [row.position for row in first + datafile.fetch(beside, 5, 99, 99)] == list(range(1, 31))
    assert len(store.read(0, 10**9)) == 31
    store.close()


def test_a_file_in_blocks_that_became_the_newest_goes_on_in_new_streams(folder: Path) -> None:
    """The file that followed was lost: what it held cannot be known from here, so no offset is given again."""
    store = rotated(folder, *everything_there_is())
    assert store.compact(go_on)
    newest, end = store.files()[-1].path, store.bounds().end
    next_n = {Series(STREAM, "boiler-1"): 480, Series(STREAM, "meter-2"): 480, Series(STREAM, "_events"): 41}
    store.close()
    newest.unlink()
    (folder.with_name("log.witness")).unlink()
    store, recovery = open_log(folder)
    assert recovery.continuity is not None
    assert recovery.next_n == next_n
    assert recovery.open_gaps == [OPENED]
    assert len(recovery.records) == 3
    assert store.bounds().end == end - 1 + HOLE
    assert len(store.read(0, 10**9)) == 41
    store.close()


def test_released_format_2_is_still_read(tmp_path: Path) -> None:
    """tests/cases/log/format-2: a file in blocks as version 2 wrote it, and one that follows."""
    folder = tmp_path / "log"
    shutil.copytree(Path(__file__).parents[2] / "cases/log/format-2", folder)
    store, recovery = open_log(folder)
    assert recovery.continuity == "copied"
    assert store.files()[0].in_blocks
    expected = everything_there_is()
    found = store.read(0, 10**9)
    assert [one.position for one in found] == list(range(1, 43))
    for left, right in zip(found[:41], expected, strict=True):
        assert repr([one for one in left.records if not isinstance(one, BatchRecord)]) == repr(
            [one for one in right.records if not isinstance(one, BatchRecord)]
        )
        assert same_records(*([one for one in each.records if isinstance(one, BatchRecord)] for each in (left, right)))
    store.close()


def flip(path: Path, table: str, position: int, column: str) -> None:
    with sqlite3.connect(path) as connection:
        query = f"SELECT {column} FROM {table} WHERE position = ?"
        data = bytearray(connection.execute(query, (position,)).fetchone()[0])
        data[len(data) // 2] ^= 1
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE position = ?", (bytes(data), position))
    connection.close()


if __name__ == "__main__":  # makes the fixture; only ever for a new format
    made = rotated(Path(os.environ["FIXTURE"]), *everything_there_is())
    made.compact(go_on)
    made.close()


def test_a_file_that_turns_into_blocks_while_it_is_read_gives_no_segment_twice(folder: Path) -> None:
    store = rotated(folder, *readings())
    end = store.bounds().end
    by_body, by_outline = store._reading.segments(1), store._reading.segments(1, end, lambda _: True)
    found = [[next(walk).position for _ in range(7)] for walk in (by_body, by_outline)]
    assert store.compact(go_on) is not None
    for positions, walk in zip(found, (by_body, by_outline), strict=True):
        positions += [segment.position for segment in walk]
        assert positions == list(range(1, end))
    store.close()


def test_a_file_that_turns_into_blocks_while_its_heads_are_read_gives_none_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.log.reading._HEADS_AT_ONCE", 4)
    store = rotated(folder, *readings())
    end = store.bounds().end
    walk = store.heads(1, end)
    positions = [next(walk)[0] for _ in range(6)]
    assert store.compact(go_on) is not None
    positions += [position for position, _ in walk]
    assert positions == list(range(1, end))
    store.close()
