"""The store's promises beside the model: conflicts, offsets, rotation, readers beside the writer, a full disk."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.log import LogConflictError, LogError, LogFullError, LogStore
from tests.support.logs import STREAM, SetClock, definitions, offsets, open_log, reading, segment, small_disk


@pytest.fixture
def store(tmp_path: Path, clock: SetClock) -> Iterator[LogStore]:
    store, _ = open_log(tmp_path / "log", clock, rotate_bytes=40_000)
    yield store
    store.close()


def test_append_at_another_place_is_a_conflict(store: LogStore) -> None:
    store.append([segment(reading(0))], 1)
    with pytest.raises(LogConflictError, match="position 1 expected, the end is 2"):
        store.append([segment(reading(10))], 1)
    assert store.bounds() == (1, 2)


def test_an_offset_is_never_given_twice(store: LogStore) -> None:
    store.append([segment(reading(0))], 1)
    with pytest.raises(LogError, match="offset 5 of boiler-1"):
        store.append([segment(reading(5))], 2)
    with pytest.raises(LogError, match="offset 15 of boiler-1"):
        store.append([segment(reading(10)), segment(reading(15))], 2)
    assert offsets(store.read(1, 10**9)) == list(range(10))


def test_files_turn_over_by_age_whatever_the_wall_clock_does(tmp_path: Path, clock: SetClock) -> None:
    store, _ = open_log(tmp_path / "old", clock)
    store.append([segment(reading(0))], 1)
    clock.advance(86401)
    store.append([segment(reading(10))], 2)
    assert [(f.first, f.end) for f in store.files()] == [(1, 2), (2, 3)]
    store.close()


def test_each_file_explains_itself(tmp_path: Path, store: LogStore) -> None:
    store.append([segment(*definitions())], 1)
    for k in range(60):
        store.append([segment(reading(10 * k))], k + 2)
    paths = [file.path for file in store.files()]
    assert len(paths) >= 3
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy2(paths[-2], alone)
    other, recovery = open_log(alone)
    assert recovery.records == definitions()
    assert recovery.next_n[reading(0).series] == 10 * (store.files()[-2].end - 2)
    assert recovery.continuity == "copied"
    other.close()


def test_trim_keeps_the_newest_file_and_what_is_not_wholly_below(store: LogStore) -> None:
    for k in range(60):
        store.append([segment(reading(10 * k))], k + 1)
    second = store.files()[1]
    assert store.trim(second.end - 1) == second.first
    assert store.read(1, 1)[0].position == second.first
    before = store.size()
    assert store.trim(10**9) == store.files()[0].first
    assert len(store.files()) == 1
    assert store.size() < before


def test_readers_beside_the_writer_see_whole_commits_in_order(store: LogStore) -> None:
    done = threading.Event()
    failures: list[str] = []

    def follow() -> None:
        seen: list[int] = []
        position = 1
        while not (done.wait(0.002) and position == store.bounds().end):
            for found in store.read(position, 5_000):
                seen += offsets([found])
                position = found.position + 1
        if seen != list(range(2000)):
            failures.append(f"{len(seen)} offsets out of order")

    readers = [threading.Thread(target=follow) for _ in range(2)]
    for reader in readers:
        reader.start()
    for k in range(100):
        store.append([segment(reading(20 * k)), segment(reading(20 * k + 10))], 2 * k + 1)
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []


def test_heads_survive_a_trim_under_way(store: LogStore) -> None:
    for k in range(60):
        store.append([segment(reading(10 * k))], k + 1)
    walk = store.heads(1, 100)
    next(walk)
    store.trim(store.bounds().end)
    assert [position for position, _ in walk][-1] == 60


def test_a_full_disk_takes_nothing_and_loses_nothing(tmp_path: Path, clock: SetClock) -> None:
    with small_disk(tmp_path) as disk:
        store, _ = open_log(disk.folder / "log", clock)
        disk.fill(store)
        k = 0
        full = None
        while full is None:
            try:
                store.append([segment(reading(2000 * k, 2000, base=0.1 * k))], k + 1)
                k += 1
            except LogFullError as error:
                full = error
        assert full.retry
        assert "disk" in str(full)
        assert store.bounds().end == k + 1
        disk.free(store)
        store.append([segment(reading(2000 * k, 2000))], k + 1)
        assert offsets(store.read(1, 10**9)) == list(range(2000 * (k + 1)))
        store.close()


def test_stream_names_are_kept_apart(store: LogStore) -> None:
    store.append([segment(reading(0), reading(0, stream="01KOTHER"), reading(10))], 1)
    ((_, heads),) = store.heads(1, 2)
    assert [(h.series.stream, h.n, h.readings) for h in heads] == [(STREAM, 0, 20), ("01KOTHER", 0, 10)]
    assert len(store.read(1, 1)[0].records) == 3
