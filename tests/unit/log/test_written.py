"""What a plant of 1,000 readings a second writes to flash in a day: bounds from sizes of files, not from time."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from benchmarks.log.figures import COMMIT_S, DAY_S, NOMINAL, Feed
from gateway.log import LogStore, LogView, StateStore, datafile, frames, ring, storage
from gateway.log.datafile import side_files
from gateway.log.records import BatchRecord, Record, Segment
from tests.support.logs import SetClock, crash, offsets, open_log, reading, same_records, segment

COMMITS = 20
MOST_STAGED_MB = 410
"""into the ring, in whole pages; 385 measured, of which a part is the chain beginning"""
MOST_KEPT_MB = 290
"""the data file itself; 266 measured"""


@pytest.fixture(scope="module")
def feed() -> Feed:
    return Feed(COMMITS * COMMIT_S)


def newest(store: LogStore) -> Path:
    return store.files()[-1].path


def test_bytes_of_a_day_on_flash_stay_in_their_bounds(tmp_path: Path, feed: Feed) -> None:
    folder = tmp_path / "log"
    store, _ = open_log(folder, flash=True)
    path = newest(store)
    began = path.stat().st_size
    readings = 0
    for index in range(COMMITS):
        records: list[Record] = list(feed.commit(index, COMMIT_S))
        readings += sum(len(record.batch) for record in records if isinstance(record, BatchRecord))
        store.append([Segment(0, records)], store.bounds().end)
    assert path.stat().st_size == began, "the ring was emptied, so what is in it is not what was written"
    content = (folder / "ring").read_bytes()
    pages = sum(any(content[at : at + frames.PAGE]) for at in range(0, len(content), frames.PAGE))
    assert len(content) == ring.PAGES * frames.PAGE, "no commit changes its size"
    store.close()
    day = NOMINAL * DAY_S / readings / 1e6
    assert pages * frames.PAGE * day < MOST_STAGED_MB
    assert (path.stat().st_size - began) * day < MOST_KEPT_MB


def test_what_goes_by_way_of_the_ring_reads_the_same(tmp_path: Path, feed: Feed) -> None:
    """Before it is in the data file, beside the process, after a crash, in the data file."""
    records: list[Record] = list(feed.commit(0, COMMIT_S))
    clock = SetClock()
    store, _ = open_log(tmp_path / "log", clock, flash=True)
    one = Segment(0, records)
    store.append([one], 1)
    found = store.read(1, 10**9)
    with LogView(tmp_path / "log") as view:
        found += view.segments(lambda _: True)
    crash(store)
    for _ in range(2):
        store, _ = open_log(tmp_path / "log", clock, flash=True)
        found += store.read(1, 10**9)
        store.close()
    assert len(found) == 4
    for again in found:
        assert same_records(again.records, records)
        assert (again.position, again.heads, again.nbytes) == (1, one.heads, one.nbytes)


@pytest.mark.parametrize(("kind", "expected"), [("emmc", 3), ("sd", 3), ("ssd", 1), ("unknown", 1)])
def test_the_kind_of_storage_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: storage.Kind, expected: int
) -> None:
    monkeypatch.setattr(storage, "kind_of", lambda _: kind)
    store, _ = open_log(tmp_path / "log", rotate_bytes=1)
    store.append([segment(reading(0))], 1)
    store.append([segment(reading(10))], 2)
    assert [datafile.format_of(file.path) for file in store.files()] == [expected, expected]
    assert (tmp_path / "log" / "ring").exists() == (expected == 3)
    store.close()


def test_a_log_goes_on_on_the_other_kind_of_storage(tmp_path: Path) -> None:
    """The disk was copied to another kind of storage, or an older version wrote the file."""
    clock = SetClock()
    folder = tmp_path / "log"
    for k, (flash, expected) in enumerate(((False, 1), (True, 3), (False, 3), (True, 3))):
        store, recovery = open_log(folder, clock, flash=flash)
        assert (recovery.continuity, recovery.damage) == ("created" if k == 0 else None, [])
        store.append([segment(reading(20 * k))], store.bounds().end)
        crash(store)
        store, recovery = open_log(folder, clock, flash=flash)
        assert (recovery.continuity, recovery.damage) == (None, [])
        store.append([segment(reading(20 * k + 10))], store.bounds().end)
        assert offsets(store.read(0, 10**9)) == list(range(20 * k + 20))
        crash(store)
        assert (folder / "ring").exists() == flash
        with sqlite3.connect(newest(store)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (expected,)
        connection.close()


def test_a_large_segment_costs_no_more_processor_on_flash(tmp_path: Path) -> None:
    """Strong compression is for what a slow plant commits, not for a flood."""
    sizes = []
    for flash in (False, True):
        store, _ = open_log(tmp_path / str(flash), flash=flash)
        one = segment(reading(0, count=60_000))
        store.append([one], 1)
        sizes.append(one.nbytes)
        store.close()
    assert sizes[0] == sizes[1]


def test_the_positions_log_goes_round(tmp_path: Path) -> None:
    """While it grows, every save costs the file system's journal as well: three times as many bytes."""
    path = tmp_path / "state.db"
    state = StateStore(path)
    version = 0
    largest = []
    for _ in range(4):
        for number in range(100):
            version = state.put("destination/centre", {"number": number, "text": "x" * 1500}, version)
        largest.append(side_files(path)[0].stat().st_size)
    state.close()
    assert largest[0] < 500_000
    assert len(set(largest)) == 1
