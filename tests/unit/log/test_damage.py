"""One test per damage: what is left is read, what is lost is said, and nothing refuses to start."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from gateway.log import LogError, LogFormatError, LogFullError, LogIOError, LogStore, StateStore, datafile
from gateway.log.records import Segment
from gateway.log.recovery import HOLE
from tests.support.logs import (
    T0,
    SetClock,
    crash,
    definitions,
    offsets,
    open_log,
    read_only,
    reading,
    same_records,
    segment,
    small_disk,
)


def filled(folder: Path, commits: int = 20, *, clock: SetClock | None = None, rotate_bytes: int = 10**9) -> LogStore:
    clock = clock or SetClock()
    store, _ = open_log(folder, clock, rotate_bytes=rotate_bytes)
    store.append([segment(*definitions())], 1)
    for k in range(commits):
        store.append([segment(reading(10 * k))], k + 2)
    return store


def everything(store: LogStore) -> list[Segment]:
    return store.read(0, 10**9)


def data_paths(folder: Path) -> list[Path]:
    return [path for _, path in datafile.data_files(folder)]


def torn_copy(folder: Path, wal_bytes: int) -> None:
    """What a power cut leaves: the files as they were while the writer had them open, the write-ahead log cut."""
    (path,) = data_paths(folder)
    wal = datafile.side_files(path)[0]
    database, log = path.read_bytes(), wal.read_bytes()
    crashed.append((path, database, wal, log[:wal_bytes] if wal_bytes >= 0 else log[: len(log) + wal_bytes]))


crashed: list[tuple[Path, bytes, Path, bytes]] = []


def put_back() -> None:
    path, database, wal, log = crashed.pop()
    for file, content in ((path, database), (wal, log)):
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(handle, content)
        os.close(handle)


def test_an_unfinished_commit_of_a_killed_process_breaks_nothing(folder: Path) -> None:
    """The machine did not go down, so whatever was committed is there; the rest was never acknowledged."""
    store = filled(folder)
    torn_copy(folder, -2000)
    crash(store)
    put_back()
    store, recovery = open_log(folder)
    assert (recovery.continuity, recovery.damage, recovery.cut_readings) == (None, [], 0)
    assert offsets(everything(store)) == list(range(190))
    store.close()


def test_torn_tail_in_the_write_ahead_log(folder: Path) -> None:
    store = filled(folder)
    torn_copy(folder, -2000)
    crash(store)
    put_back()
    store, recovery = open_log(folder, boot="the machine was off in between")
    assert recovery.continuity == "torn-tail"
    assert recovery.damage
    kept = offsets(everything(store))
    assert kept == list(range(190))
    assert store.bounds().end >= 22 + HOLE - 1
    store.close()


def test_a_whole_commit_cut_from_the_write_ahead_log_is_seen_by_the_witness(folder: Path) -> None:
    clock = SetClock()
    store = filled(folder, clock=clock)
    path = data_paths(folder)[0]
    before = datafile.side_files(path)[0].stat().st_size
    clock.advance(5)
    store.append([segment(reading(200))], 22)
    torn_copy(folder, before)
    crash(store)
    put_back()
    store, recovery = open_log(folder, clock)
    assert recovery.continuity in ("restored", "torn-tail")
    assert recovery.cut_readings == 10
    assert offsets(everything(store)) == list(range(200))
    assert store.bounds().end == 23 + HOLE
    store.close()


def test_an_uncut_write_ahead_log_goes_on(folder: Path) -> None:
    store = filled(folder)
    torn_copy(folder, 10**9)
    crash(store)
    put_back()
    store, recovery = open_log(folder)
    assert (recovery.continuity, recovery.damage) == (None, [])
    assert offsets(everything(store)) == list(range(200))
    store.close()


def test_truncated_data_file(folder: Path) -> None:
    store = filled(folder, 200)
    store.close()
    (path,) = data_paths(folder)
    os.truncate(path, path.stat().st_size // 2)
    store, recovery = open_log(folder)
    assert recovery.continuity == "torn-tail"
    assert recovery.damage
    kept = offsets(everything(store))
    assert kept == list(range(len(kept)))
    assert recovery.cut_readings == 2000 - len(kept)
    store.append([segment(reading(0, stream="01KNEW"))], store.bounds().end)
    assert len(offsets(everything(store))) == len(kept) + 10
    store.close()


def test_data_file_cut_to_its_first_page(folder: Path) -> None:
    filled(folder).close()
    (path,) = data_paths(folder)
    os.truncate(path, 4096)
    store, recovery = open_log(folder)
    assert recovery.continuity is not None
    assert not recovery.created
    assert recovery.cut_readings == 200
    assert everything(store) == []
    assert store.bounds().end > 22
    assert path.with_name(path.name + ".damaged").exists()
    store.close()


def flip_in_row(path: Path, position: int, column: str, at: int) -> None:
    with sqlite3.connect(path) as connection:
        (data,) = connection.execute(f"SELECT {column} FROM segment WHERE position = ?", (position,)).fetchone()
        data = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        connection.execute(f"UPDATE segment SET {column} = ? WHERE position = ?", (data, position))
    connection.close()


@pytest.mark.parametrize(("column", "lost_is_known"), [("head", False), ("body", True)])
def test_flipped_byte_in_a_segment(folder: Path, column: str, lost_is_known: bool) -> None:
    filled(folder).close()
    flip_in_row(data_paths(folder)[0], 7, column, 60)
    store, recovery = open_log(folder)
    assert recovery.continuity == "corrupt"
    assert "position 7" in recovery.damage[0]
    assert recovery.cut_readings == (10 if lost_is_known else 0)
    (damaged,) = [s for s in everything(store) if s.damage]
    assert damaged.position == 7
    assert damaged.records == []
    assert bool(damaged.heads) == lost_is_known
    assert offsets(everything(store)) == [n for n in range(200) if not 50 <= n < 60]
    store.close()


def test_flipped_byte_found_while_reading_is_passed_over(folder: Path) -> None:
    store = filled(folder)
    flip_in_row(data_paths(folder)[0], 7, "head", 60)
    assert [s.position for s in everything(store) if s.damage] == [7]
    assert 7 not in [position for position, _ in store.heads(0, 100)]
    store.close()


def test_missing_row(folder: Path) -> None:
    filled(folder).close()
    with sqlite3.connect(data_paths(folder)[0]) as connection:
        connection.execute("DELETE FROM segment WHERE position = 9")
    connection.close()
    store, recovery = open_log(folder)
    assert recovery.continuity == "corrupt"
    assert "positions 9 to 9 are missing" in recovery.damage[0]
    store.close()


def test_zero_length_newest_file(folder: Path) -> None:
    filled(folder, rotate_bytes=20_000).close()
    newest = data_paths(folder)[-1]
    first = datafile.data_files(folder)[-1][0]
    os.truncate(newest, 0)
    store, recovery = open_log(folder)
    assert recovery.continuity is not None
    assert "empty" in recovery.damage[0]
    assert max(s.position for s in everything(store)) == first - 1
    assert store.bounds().end == 22 + HOLE
    assert len(recovery.records) == 2
    store.close()


def test_older_file_that_cannot_be_opened_is_set_aside(folder: Path) -> None:
    filled(folder, 60, rotate_bytes=20_000).close()
    paths = data_paths(folder)
    assert len(paths) >= 3
    paths[0].write_bytes(b"no database" * 1000)
    store, recovery = open_log(folder)
    assert recovery.continuity == "corrupt"
    assert recovery.cut_readings == 0  # nothing tells an oldest file that is damaged from one that was trimmed
    assert everything(store)[0].position == datafile.data_files(folder)[0][0]
    store.trim(store.bounds().end)
    assert not list(folder.glob("*.damaged"))
    store.close()
    store, recovery = open_log(folder)
    assert recovery.continuity is None
    store.close()


def test_half_made_file_is_removed(folder: Path) -> None:
    filled(folder).close()
    (folder / datafile.NEW_NAME).write_bytes(b"half")
    store, recovery = open_log(folder)
    assert recovery.continuity is None
    assert not (folder / datafile.NEW_NAME).exists()
    store.close()


def test_unknown_format_version(folder: Path) -> None:
    filled(folder).close()
    with sqlite3.connect(data_paths(folder)[0]) as connection:
        connection.execute("PRAGMA user_version=4")
    connection.close()
    with pytest.raises(LogFormatError, match="log format 4 found, this version reads 1 to 3"):
        open_log(folder)
    assert data_paths(folder)


def test_a_version_that_was_never_written_is_damage_and_no_refusal(folder: Path) -> None:
    """A disk that lies about syncs may have kept a part of the first page alone."""
    filled(folder).close()
    with sqlite3.connect(data_paths(folder)[0]) as connection:
        connection.execute("PRAGMA user_version=0")
    connection.close()
    store, recovery = open_log(folder)
    assert recovery.continuity == "torn-tail"
    assert recovery.cut_readings == 200
    store.close()


def test_missing_state_costs_nothing_else(folder: Path) -> None:
    filled(folder).close()
    state = StateStore(folder / "state.db")
    state.put("destination/centre", {"position": 5}, 0)
    state.close()
    (folder / "state.db").unlink()
    store, recovery = open_log(folder)
    assert recovery.continuity is None
    state = StateStore(folder / "state.db")
    assert state.get("destination/centre") is None
    assert state.damage is None
    state.close()
    store.close()


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    with pytest.raises(LogError, match=r"cannot be written.*write access") as caught:
        open_log(tmp_path / "log")
    assert not caught.value.retry


def test_folder_in_use(folder: Path) -> None:
    store = filled(folder)
    with pytest.raises(LogError, match=f"in use by process {os.getpid()}"):
        open_log(folder)
    store.close()


def test_undamaged_log_reads_back(folder: Path) -> None:
    store = filled(folder, 3)
    crash(store)
    store, recovery = open_log(folder)
    assert (recovery.continuity, recovery.cut_readings, recovery.damage) == (None, 0, [])
    assert same_records(recovery.records, definitions())
    assert all(
        same_records(s.records, [reading(10 * k)]) for k, s in enumerate(s for s in everything(store) if s.heads)
    )
    store.close()


def middle(folder: Path) -> tuple[Path, set[int]]:
    """Close a log of several files; the path of one in the middle and the offsets in it."""
    store = filled(folder, 60, rotate_bytes=20_000)
    files = store.files()
    assert len(files) >= 4
    lost = set(offsets(store.read(files[1].first, 10**9))) - set(offsets(store.read(files[2].first, 10**9)))
    store.close()
    return files[1].path, lost


def test_missing_file_in_the_middle(folder: Path) -> None:
    """What it held is counted and the streams go on: the newest file knows every offset that was given."""
    path, lost = middle(folder)
    path.unlink()
    store, recovery = open_log(folder)
    assert recovery.continuity is None
    assert recovery.cut_readings == len(lost) > 0
    assert "a file that is missing" in recovery.damage[0]
    assert set(offsets(everything(store))) == set(range(600)) - lost
    store.append([segment(reading(600))], store.bounds().end)
    store.close()


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_empty_or_foreign_file_in_the_middle(folder: Path, content: bytes) -> None:
    path, lost = middle(folder)
    path.write_bytes(content)
    store, recovery = open_log(folder)
    assert recovery.continuity == "corrupt"
    assert recovery.cut_readings == len(lost) > 0
    assert set(offsets(everything(store))) == set(range(600)) - lost
    store.close()
    store, recovery = open_log(folder)  # it is still lost, and no reason to begin anew at every start
    assert recovery.continuity is None
    assert recovery.cut_readings == len(lost)
    store.close()


def test_flipped_byte_in_an_old_file(folder: Path) -> None:
    """A start reads bodies of the newest file alone; an old file's damage is told by whoever reads it."""
    path, _ = middle(folder)
    with sqlite3.connect(path) as connection:
        (position,) = connection.execute("SELECT min(position) FROM segment").fetchone()
    connection.close()
    flip_in_row(path, position, "body", 60)
    store, recovery = open_log(folder)
    assert (recovery.continuity, recovery.cut_readings) == (None, 0)
    (damaged,) = [one for one in everything(store) if one.damage]
    assert damaged.position == position
    assert sum(head.readings for head in damaged.heads) == 10
    assert len(offsets(everything(store))) == 590
    store.close()


class SteppedClock(SetClock):
    """A wall clock that somebody sets; the monotonic one knows nothing of it."""

    def __init__(self, wall_ns: int) -> None:
        super().__init__()
        self.wall_ns = wall_ns

    def time_ns(self) -> int:
        return self.wall_ns


@pytest.mark.parametrize("wall_ns", [0, 2**31 * 10**9, 2**62])
def test_clock_in_1970_or_2038_at_start(folder: Path, wall_ns: int) -> None:
    filled(folder).close()
    clock = SteppedClock(wall_ns)
    store, recovery = open_log(folder, clock)
    assert (recovery.continuity, recovery.damage) == (None, [])
    for k in range(20, 25):
        store.append([segment(reading(10 * k))], store.bounds().end)
    assert offsets(everything(store)) == list(range(250))
    store.close()
    store, recovery = open_log(folder)  # and it is right again
    assert recovery.continuity is None
    assert offsets(everything(store)) == list(range(250))
    store.close()


def test_stepped_clock(folder: Path) -> None:
    """Positions are the only order; a step neither cuts a file nor hides what was written."""
    clock = SteppedClock(T0)
    store = filled(folder, clock=clock)
    for k, step_s in enumerate((-(10**9), 3 * 10**9, -86_400, 0), 20):
        clock.wall_ns = T0 + step_s * 10**9
        store.append([segment(reading(10 * k))], store.bounds().end)
    assert len(store.files()) == 1
    assert [one.position for one in everything(store)] == list(range(1, 26))
    crash(store)
    store, recovery = open_log(folder, clock)
    assert recovery.continuity is None
    assert offsets(everything(store)) == list(range(240))
    store.close()


def test_read_only_while_running(folder: Path) -> None:
    """Tried again like a full disk: nothing was written, and nothing is used up."""
    store = filled(folder)
    store._commits.connection.execute("PRAGMA query_only=ON")
    with pytest.raises(LogIOError, match="a failing disk turns read-only") as caught:
        store.append([segment(reading(200))], 22)
    assert caught.value.retry
    assert len(everything(store)) == 21
    store._commits.connection.execute("PRAGMA query_only=OFF")
    assert store.append([segment(reading(200))], 22) == 23
    assert offsets(everything(store)) == list(range(210))
    store.close()


def test_read_only_at_start(folder: Path) -> None:
    """It fails in a way that says what to do and that another attempt can help; once it can be written, it goes on."""
    with small_disk(folder.parent) as disk:
        log = disk.folder / "log"
        filled(log).close()
        with read_only(disk), pytest.raises(LogIOError, match=r"cannot be written") as caught:
            open_log(log)
        assert caught.value.retry
        store, recovery = open_log(log)
        assert recovery.continuity is None
        assert offsets(everything(store)) == list(range(200))
        store.close()


def test_full_disk_at_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start writes a little. A failed attempt leaves nothing locked: the next one of this process goes on."""
    filled(folder).close()

    def full(file: int, content: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(LogFullError, match="free space") as caught:
            open_log(folder)
    assert caught.value.retry
    store, recovery = open_log(folder)
    assert recovery.continuity is None
    assert offsets(everything(store)) == list(range(200))
    store.close()
