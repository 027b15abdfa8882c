"""What a plant of 1,000 readings a second writes to flash in a day: bounds from sizes of files, not from time."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from benchmarks.log_figures import COMMIT_S, DAY_S, NOMINAL, Feed
from gateway.log import LogStore, StateStore, datafile, storage
from gateway.log.datafile import side_files
from gateway.log.records import BatchRecord, Record, Segment
from tests.support.logs import SetClock, crash, open_log, reading, same_records, segment

COMMITS = 20
MOST_LOGGED_MB = 640
"""into SQLite's write-ahead log; 554 measured"""
MOST_KEPT_MB = 540
"""the data file itself; 463 measured"""


@pytest.fixture(scope="module")
def feed() -> Feed:
    return Feed(COMMITS * COMMIT_S)


def page_bytes(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        (found,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    return int(found)


def newest(store: LogStore) -> Path:
    return store.files()[-1].path


def test_bytes_of_a_day_on_flash_stay_in_their_bounds(tmp_path: Path, feed: Feed) -> None:
    store, _ = open_log(tmp_path / "log", flash=True)
    path = newest(store)
    wal, began = side_files(path)[0], path.stat().st_size
    readings = 0
    for index in range(COMMITS):
        records: list[Record] = list(feed.commit(index, COMMIT_S))
        readings += sum(len(record.batch) for record in records if isinstance(record, BatchRecord))
        store.append([Segment(0, records)], store.bounds().end)
    logged = wal.stat().st_size
    assert path.stat().st_size == began, "the log went round, so its size is not what was written"
    store.close()
    day = NOMINAL * DAY_S / readings / 1e6
    assert logged * day < MOST_LOGGED_MB
    assert (path.stat().st_size - began) * day < MOST_KEPT_MB


def test_what_is_sparing_on_flash_reads_the_same(tmp_path: Path, feed: Feed) -> None:
    records: list[Record] = list(feed.commit(0, COMMIT_S))
    found = []
    for flash in (False, True):
        store, _ = open_log(tmp_path / str(flash), flash=flash)
        store.append([Segment(0, records)], 1)
        found += store.read(1, 10**9)
        store.close()
    plain, sparing = found
    assert same_records(plain.records, records)
    assert same_records(sparing.records, records)
    assert sparing.nbytes < 0.93 * plain.nbytes


@pytest.mark.parametrize(("kind", "expected"), [("emmc", 1024), ("sd", 1024), ("ssd", 4096), ("unknown", 4096)])
def test_the_kind_of_storage_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: storage.Kind, expected: int
) -> None:
    monkeypatch.setattr(storage, "kind_of", lambda _: kind)
    store, _ = open_log(tmp_path / "log", rotate_bytes=1)
    store.append([segment(reading(0))], 1)
    store.append([segment(reading(10))], 2)
    assert [page_bytes(file.path) for file in store.files()] == [expected, expected]
    store.close()


def test_a_file_with_the_other_pages_goes_on(tmp_path: Path) -> None:
    """The disk was copied to another kind of storage, or an older version wrote the file."""
    clock = SetClock()
    store, _ = open_log(tmp_path / "log", clock, flash=False)
    store.append([segment(reading(0))], 1)
    store.close()
    store, recovery = open_log(tmp_path / "log", clock, flash=True)
    assert recovery.continuity is None
    store.append([segment(reading(10))], 2)
    assert page_bytes(newest(store)) == datafile.PAGE_BYTES
    crash(store)
    store, recovery = open_log(tmp_path / "log", clock, flash=False)
    assert (recovery.continuity, recovery.damage) == (None, [])
    assert len(store.read(0, 10**9)) == 2
    store.close()


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
