"""The ring in front of the data files: what each damage to it costs, and that nothing of it stops a start."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.log import LogStore, LogView, Recovery, datafile, ring
from gateway.log.frames import PAGE
from gateway.log.recovery import HOLE
from tests.support.logs import (
    STREAM,
    SetClock,
    crash,
    definitions,
    offsets,
    open_log,
    reading,
    same_records,
    segment,
)
from tests.support.rings import OTHER_BOOT, everything, filled, reopened

SPILLS = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode=PERSIST")
connection.execute("PRAGMA cache_size=5")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE block SET body = zeroblob(length(body))")
connection.executemany("INSERT INTO segment VALUES (?, x'00', zeroblob(9000))", ((k,) for k in range(1000, 1200)))
os.kill(os.getpid(), 9)
"""


def damage(folder: Path, change: Callable[[bytearray], None]) -> None:
    """Change the ring in place."""
    path = folder / "ring"
    content = bytearray(path.read_bytes())
    change(content)
    handle = os.open(path, os.O_WRONLY)
    os.pwrite(handle, content, 0)
    os.close(handle)


def goes_on(store: LogStore, recovery: Recovery) -> None:
    """As the gateway would: no position and no offset comes twice, and what is written is kept."""
    stream = STREAM if recovery.continuity is None else "01KNEW"
    n = max((n for series, n in recovery.next_n.items() if series.stream == stream), default=0)
    store.append([segment(reading(n, stream=stream))], store.bounds().end)
    assert store.read(store.bounds().end - 1, 10**9)[0].heads[0].n == n
    store.close()


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("boot", [None, OTHER_BOOT])
def test_a_kill_and_a_power_cut_between_commits_cost_nothing(
    folder: Path, clock: SetClock, flash: bool, boot: str | None
) -> None:
    crash(filled(folder, clock))
    store, recovery = reopened(folder, clock, boot, flash=flash)
    assert (recovery.continuity, recovery.damage, recovery.cut_readings) == (None, [], 0)
    assert everything(store) == list(range(200))
    assert (folder / "ring").exists() == flash
    goes_on(store, recovery)


def test_a_stop_leaves_everything_in_the_data_file(folder: Path, clock: SetClock) -> None:
    filled(folder, clock).close()
    (path,) = folder.glob("data-*.db")
    assert sorted(one.name for one in folder.iterdir()) == sorted([path.name, f"{path.name}-journal", "lock", "ring"])
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT max(last) FROM block").fetchone() == (21,)
    connection.close()


@pytest.mark.parametrize(
    "lose",
    [
        lambda folder: (folder / "ring").unlink(),
        lambda folder: os.truncate(folder / "ring", 0),
        lambda folder: damage(folder, lambda content: content.__setitem__(slice(None), bytes(len(content)))),
        lambda folder: damage(
            folder, lambda content: content.__setitem__(slice(None), b"not ours" * (len(content) // 8))
        ),
    ],
    ids=["missing", "empty", "zeroed", "foreign"],
)
def test_a_lost_ring_costs_what_was_in_it_and_that_is_counted(
    folder: Path, clock: SetClock, lose: Callable[[Path], None]
) -> None:
    crash(filled(folder, clock))
    lose(folder)
    store, recovery = reopened(folder, clock)
    assert recovery.continuity == "torn-tail"
    assert "the ring" in recovery.damage[0]
    assert recovery.cut_readings == 200
    assert store.bounds().end == 22 + HOLE
    goes_on(store, recovery)
    store, recovery = reopened(folder, clock)
    assert recovery.continuity is None, "once is enough"
    store.close()


def test_the_ring_of_another_log_is_set_aside(folder: Path, clock: SetClock, tmp_path: Path) -> None:
    crash(filled(folder, clock))
    crash(filled(tmp_path / "other", SetClock(), commits=30))
    theirs = (tmp_path / "other" / "ring").read_bytes()
    damage(folder, lambda content: content.__setitem__(slice(None), theirs))
    store, recovery = reopened(folder, clock)
    assert (recovery.continuity, recovery.cut_readings) == ("torn-tail", 200)
    assert (folder / "ring.damaged").read_bytes() == theirs
    goes_on(store, recovery)


def test_a_ring_that_is_a_copy_is_noticed_and_its_readings_are_kept(folder: Path, clock: SetClock) -> None:
    crash(filled(folder, clock))
    shutil.copy2(folder / "ring", folder / "copy")
    (folder / "copy").replace(folder / "ring")
    store, recovery = reopened(folder, clock)
    assert (recovery.continuity, recovery.cut_readings) == ("torn-tail", 0)
    assert everything(store) == list(range(200))
    goes_on(store, recovery)


def test_an_older_ring_put_back(folder: Path, clock: SetClock) -> None:
    """Of the same session: the witness knows better. Of the session before: its name does not fit."""
    store = filled(folder, clock)
    older = (folder / "ring").read_bytes()
    clock.advance(2)
    store.append([segment(reading(200))], store.bounds().end)
    crash(store)
    damage(folder, lambda content: content.__setitem__(slice(None), older))
    store, recovery = reopened(folder, clock)
    assert (recovery.continuity, recovery.cut_readings) == ("restored", 10)
    assert everything(store) == list(range(200))
    clock.advance(2)
    goes_on(store, recovery)
    damage(folder, lambda content: content.__setitem__(slice(None), older))
    store, recovery = reopened(folder, clock)
    assert recovery.continuity == "torn-tail"
    assert "of another session" in recovery.damage[0]
    store.close()


@pytest.mark.parametrize("boot", [None, OTHER_BOOT])
def test_a_torn_commit(folder: Path, clock: SetClock, boot: str | None) -> None:
    """Within one boot it can only be one that nobody was told of; after a power cut the disk may have lied."""
    store = filled(folder, clock)
    before = (folder / "ring").read_bytes()
    large = reading(200, 900)
    large.batch.values[:] = [random.Random(k).random() for k in range(900)]
    store.append([segment(large)], store.bounds().end)
    crash(store)
    after = (folder / "ring").read_bytes()
    pages = [at for at in range(0, len(after), PAGE) if after[at : at + PAGE] != before[at : at + PAGE]]
    assert len(pages) > 1
    damage(folder, lambda content: content.__setitem__(slice(pages[-1], pages[-1] + PAGE), bytes(PAGE)))
    # It was not acknowledged, so the witness has not seen it.
    folder.with_name("log.witness").write_bytes(
        folder.with_name("log.witness")
        .read_bytes()
        .replace(b'"position":23', b'"position":22')
        .replace(b"1100", b" 200")
    )
    store, recovery = reopened(folder, clock, boot)
    assert recovery.continuity == (None if boot is None else "torn-tail")
    assert everything(store) == list(range(200))
    goes_on(store, recovery)
    store, recovery = reopened(folder, clock, "and once more")
    assert recovery.continuity is None, "what was left of it is no part of this round"
    store.close()


@pytest.mark.parametrize("boot", [None, OTHER_BOOT])
def test_a_commit_that_is_lost_before_others(folder: Path, clock: SetClock, boot: str | None) -> None:
    crash(filled(folder, clock))
    damage(folder, lambda content: content.__setitem__(slice(11 * PAGE, 12 * PAGE), bytes(PAGE)))
    store, recovery = reopened(folder, clock, boot)
    assert recovery.continuity == "torn-tail"
    assert recovery.cut_readings == 100
    assert everything(store) == list(range(100))
    goes_on(store, recovery)


def test_a_data_file_that_lost_what_the_ring_was_emptied_for(
    folder: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that lies about syncs, or an older data file put back: what the ring holds lies beyond a hole."""
    monkeypatch.setattr(ring, "PAGES", 8)
    store, _ = open_log(folder, clock, flash=True)
    (path,) = folder.glob("data-*.db")
    store.append([segment(*definitions())], 1)
    before = path.read_bytes()
    for k in range(15):
        store.append([segment(reading(10 * k))], store.bounds().end)
    held = everything(store)
    crash(store)
    assert path.stat().st_size >= len(before)
    handle = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.write(handle, before)
    os.close(handle)
    datafile.remove_beside(path)
    store, recovery = reopened(folder, clock)
    assert recovery.continuity == "corrupt"
    assert "are missing" in recovery.damage[0]
    kept = everything(store)
    assert kept == held[-len(kept) :]
    assert 0 < len(kept) < 150
    assert recovery.cut_readings == 150 - len(kept)
    goes_on(store, recovery)


def test_a_newest_file_that_is_lost_takes_nothing_of_the_ring_with_it(folder: Path, clock: SetClock) -> None:
    """What was in the ring alone is kept in the file before it."""
    store, _ = open_log(folder, clock, flash=True)
    store.append([segment(*definitions())], 1)
    clock.advance(86_401)
    for k in range(10):
        store.append([segment(reading(10 * k))], store.bounds().end)
    newest = store.files()[-1].path
    assert len(store.files()) == 2
    crash(store)
    os.truncate(newest, 0)
    store, recovery = reopened(folder, clock)
    assert recovery.continuity is not None
    assert everything(store) == list(range(100))
    assert recovery.cut_readings == 0
    goes_on(store, recovery)


def test_a_data_file_that_takes_nothing_more(folder: Path, clock: SetClock) -> None:
    """A card lost a page of it: what the ring held is set aside and counted, and the start goes on."""
    store = filled(folder, clock)
    (file,) = store.files()
    crash(store)
    with contextlib.closing(sqlite3.connect(file.path)) as connection:
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'block'").fetchone()
    with file.path.open("r+b") as content:
        content.seek((root - 1) * page_bytes)
        content.write(b"\xff" * page_bytes)
    store, recovery = reopened(folder, clock)
    assert recovery.continuity == "torn-tail"
    assert recovery.cut_readings == 200
    assert any("set aside in ring.damaged" in line for line in recovery.damage), recovery.damage
    assert (folder / "ring.damaged").exists()
    assert recovery.next_n, "no offset comes twice"
    goes_on(store, recovery)
    store, recovery = reopened(folder, clock)
    assert recovery.continuity == "corrupt", "the file itself is set aside once it is not the newest any more"
    store.close()
    store, recovery = reopened(folder, clock)
    assert recovery.continuity is None
    store.close()


def test_killed_while_the_ring_is_emptied(folder: Path, clock: SetClock) -> None:
    """A transaction that was not finished is taken back, by a look beside as well; the ring still has everything."""
    crash(filled(folder, clock))
    (path,) = folder.glob("data-*.db")
    killed = subprocess.run([sys.executable, "-c", SPILLS, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert datafile.rollback_journal(path).stat().st_size > 1000
    with LogView(folder) as view:
        assert offsets(view.segments(lambda _: True)) == list(range(200))
        assert list(view.verify(lambda _: None)) == []
    store, recovery = reopened(folder, clock)
    assert (recovery.continuity, recovery.damage) == (None, [])
    assert everything(store) == list(range(200))
    goes_on(store, recovery)


def test_killed_after_the_ring_was_emptied(folder: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the data file already is not taken twice."""
    monkeypatch.setattr(ring, "PAGES", 8)
    store = filled(folder, clock, commits=7)
    full = (folder / "ring").read_bytes()
    store.append([segment(reading(70))], store.bounds().end)  # goes to the front of the next round
    crash(store)
    damage(folder, lambda content: content.__setitem__(slice(None), full))
    folder.with_name("log.witness").write_bytes(b"")
    folder.with_name("log.witness").unlink()
    store, recovery = reopened(folder, clock)
    assert recovery.continuity == "copied", "as always without a witness"
    assert everything(store) == list(range(70))
    goes_on(store, recovery)


def test_a_look_beside_the_process_sees_what_was_there_when_it_began(
    folder: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring, "PAGES", 8)
    store = filled(folder, clock, commits=5)
    with LogView(folder) as view:
        assert view.end == 7
        for k in range(5, 20):  # meanwhile the ring goes round
            store.append([segment(reading(10 * k))], store.bounds().end)
        assert offsets(view.segments(lambda _: True)) == list(range(50))
        assert view.readings_between(1, view.end) == 50
        assert list(view.verify(lambda _: None)) == []
    with LogView(folder) as view:
        assert offsets(view.segments(lambda _: True)) == list(range(200))
    store.close()


def test_a_look_at_a_file_that_nothing_was_written_to_yet(
    folder: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner may write it at any moment, though there is no journal beside it yet."""
    monkeypatch.setattr(ring, "PAGES", 8)
    store, _ = open_log(folder, clock, flash=True)
    store.append([segment(reading(0))], 1)
    (path,) = folder.glob("data-*.db")
    assert not datafile.rollback_journal(path).exists()
    with LogView(folder) as view:
        for k in range(1, 60):
            store.append([segment(reading(10 * k))], k + 1)
            assert offsets(view.segments(lambda _: True)) == list(range(10))
            assert list(view.verify(lambda _: None)) == []
    store.close()


def test_a_large_commit_goes_straight_into_the_data_file(folder: Path, clock: SetClock) -> None:
    store = filled(folder, clock, commits=2)
    large = reading(20, 60_000)
    large.batch.values[:] = [random.Random(k).random() for k in range(60_000)]
    store.append([segment(large)], store.bounds().end)
    store.append([segment(reading(60_020))], store.bounds().end)
    crash(store)
    store, recovery = reopened(folder, clock)
    assert recovery.continuity is None
    assert everything(store) == list(range(60_030))
    (path,) = folder.glob("data-*.db")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT position FROM segment").fetchall() == [(4,)]
    connection.close()
    store.close()


@pytest.mark.parametrize("flash", [True, False])
def test_format_3_and_its_ring_are_still_read(folder: Path, clock: SetClock, flash: bool) -> None:
    """tests/cases/log/format-3: a data file in blocks, and a ring of which a part is not in it yet."""
    shutil.copytree(Path(__file__).parents[2] / "cases/log/format-3", folder)
    with LogView(folder) as view:
        found = list(view.segments(lambda _: True))
        assert view.end == 11
    store, recovery = open_log(folder, clock, flash=flash)
    assert recovery.continuity == "copied"
    for read in (found, store.read(0, 10**9)):
        assert [one.position for one in read] == list(range(1, 11))
        assert same_records(read[0].records, definitions())
        for k, one in enumerate(read[1:]):
            assert same_records(one.records, [reading(10 * k)])
    assert recovery.records == definitions()
    goes_on(store, recovery)
