"""The power fails and the disk loses what it had not synced; and a disk that says so without having done it.

How the failure is made: tests/support/power_cut.py.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.appending import ALWAYS_FLASH, MODULE, Promises
from tests.support.kills import killed_child
from tests.support.logs import crash, open_log, reading, segment
from tests.support.lying_disk import lying_disk
from tests.support.power_cut import Loss, PowerCut

CUTS = 6
LIES = 6
WAL_HEAD, FRAME = 32, 24 + 4096
"""of SQLite's write-ahead log (fileformat2, section 4)"""
LOSSES: tuple[Loss, ...] = ("in order", "sectors")

WRITES = """
import os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
for k in range(20):
    os.pwrite(file, bytes([k + 1]) * 3000, k * 3000)
    if k == 9:
        os.fsync(file)
        folder = os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY)
        os.fsync(folder)
os.rename(sys.argv[1], sys.argv[1] + ".renamed")
os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os._exit(0)
"""


def run(cut: PowerCut, script: str, *arguments: str) -> None:
    environment = {**os.environ, **cut.environment()}
    subprocess.run([sys.executable, "-c", script, *arguments], env=environment, check=True)


@pytest.mark.parametrize("loss", ["in order", "sectors"])
def test_what_was_synced_stays_and_the_rest_is_lost_in_all_ways(tmp_path: Path, loss: Loss) -> None:
    chance = random.Random(5)
    whole = b"".join(bytes([k + 1]) * 3000 for k in range(20))
    renamed, torn, all_there, nothing = 0, 0, 0, 0
    for k in range(30):
        cut = PowerCut(tmp_path / f"disk{k}", tmp_path / f"home{k}")
        path = cut.folder / "file"
        run(cut, WRITES, str(path))
        failure = cut.fail(chance, loss=loss)
        assert failure.unsynced == 12, "ten writes, a renaming, a creation"
        after = path.with_name("file.renamed")
        found = after.read_bytes() if after.exists() else path.read_bytes()
        renamed += after.exists()
        assert found[:30_000] == whole[:30_000]
        lost = sum(left != right for left, right in zip(found, whole, strict=False)) + len(whole) - len(found)
        assert lost <= 30_000
        all_there += lost == 0
        nothing += lost > 20_000
        torn += lost % 3000 != 0
        assert (failure.lost == 0) == (lost == 0 and after.exists() and path.exists())
    assert min(30 - renamed, torn, all_there, nothing) > 0
    assert renamed > 0


def test_a_disk_that_lies_loses_what_was_synced(tmp_path: Path) -> None:
    cut = PowerCut(tmp_path / "disk", tmp_path / "home")
    run(cut, WRITES, str(cut.folder / "file"))
    while cut.fail(random.Random(1), lie_s=60.0, loss="in order").lost == 0:
        run(cut, WRITES, str(cut.folder / "file"))
    found = {path.name: path.stat().st_size for path in cut.folder.iterdir()}
    assert found != {"file": 0, "file.renamed": 60_000}


FORKS = """
import os, sys
print(flush=True)
sys.stdin.readline()
if os.fork() == 0:
    os.pwrite(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), bytes(3000), 0)
    os._exit(0)
os.wait()
"""


def test_a_life_that_is_forked_after_a_failure_meets_the_next_one(tmp_path: Path) -> None:
    """As campaigns start theirs, from a process that lives through all failures (tests/support/forked.py)."""
    cut = PowerCut(tmp_path / "disk", tmp_path / "home")
    path = cut.folder / "file"
    command = [sys.executable, "-c", FORKS, str(path)]
    environment = {**os.environ, **cut.environment()}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as server:
        assert server.stdout is not None
        server.stdout.readline()
        assert cut.fail(random.Random(1), loss="all").unsynced == 0
        server.communicate(b"\n")
    assert path.stat().st_size == 3000
    assert cut.fail(random.Random(1), loss="all").unsynced == 2, "a creation, a write"
    assert not path.exists()


COMMITS = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("PRAGMA synchronous=FULL")
connection.execute("PRAGMA wal_autocheckpoint=20")
connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
for k in range(int(sys.argv[2])):
    connection.execute("INSERT INTO t VALUES (?)", (k.to_bytes(4, "big") * 500,))
connection.execute("PRAGMA cache_size=5")
connection.execute("BEGIN")
for k in range(30):
    connection.execute("INSERT INTO t VALUES (?)", (b"not committed" * 300,))
import os
os.kill(os.getpid(), 9)
"""


def test_sqlite_keeps_every_commit_on_an_honest_disk(tmp_path: Path) -> None:
    """The shim sees every sync of SQLite's, or this would lose commits."""
    chance = random.Random(5)
    lost = 0
    for count in (3, 17, 60, 150):
        cut = PowerCut(tmp_path / f"disk{count}", tmp_path / f"home{count}")
        path = cut.folder / "t.db"
        environment = {**os.environ, **cut.environment()}
        subprocess.run([sys.executable, "-c", COMMITS, str(path), str(count)], env=environment, check=False)
        lost += cut.fail(chance).lost
        with sqlite3.connect(path) as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (count,)
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
    assert lost, "there was something to lose"


def test_the_first_power_cut_costs_neither_the_log_nor_its_stream(tmp_path: Path) -> None:
    """The names of the folder and of the witness beside it must be durable too, not only what is in them."""
    cut = PowerCut(tmp_path / "disk", tmp_path / "home")
    folder = cut.folder / "var" / "log"
    promises = Promises()
    for _ in range(2):
        promises.take(killed_child(MODULE, folder, tmp_path / "out", random.Random(5), **cut.environment()))
        cut.fail(random.Random(5), loss="all")
        assert promises.lost(folder) == []
    assert len({stream for stream, _ in promises.offsets}) == 1, "nothing is in doubt"


@pytest.mark.parametrize("environment", [{}, {ALWAYS_FLASH: "1"}], ids=["", "flash"])
def test_every_durable_position_survives_a_power_cut(tmp_path: Path, environment: dict[str, str]) -> None:
    chance = random.Random(5)
    cut = PowerCut(tmp_path / "disk", tmp_path / "home")
    folder = cut.folder / "log"
    promises = Promises()
    lost = 0
    for _ in range(CUTS):
        promises.take(killed_child(MODULE, folder, tmp_path / "out", chance, **environment, **cut.environment()))
        lost += cut.fail(chance, loss=chance.choice(LOSSES)).lost
        assert promises.lost(folder) == []
    assert lost, "there was something to lose"


def test_a_disk_that_lies_costs_readings_but_no_start_and_no_offset_after_a_doubt(tmp_path: Path) -> None:
    """What it loses in no order leaves a trace as a rule; `make soak` counts how often.

    How much there is to lose as the power fails is up to the machine: where it was nothing, once more.
    """
    chance = random.Random(5)
    for campaign in range(5):
        home = tmp_path / str(campaign)
        home.mkdir()
        lies = lying_disk(home, cuts=LIES, chance=chance, loss="sectors")
        assert lies.cuts == LIES
        if lies.noticed:
            break
    assert lies.noticed, lies


def test_a_commit_that_was_lost_before_others_is_noticed(tmp_path: Path) -> None:
    """A disk that lies about syncs may have kept commits after one that it lost: SQLite ends before all of them."""
    folder = tmp_path / "log"
    store, _ = open_log(folder)
    for k in range(6):
        store.append([segment(reading(10 * k))], store.bounds().end)
    end = store.bounds().end
    killed = {path: path.read_bytes() for path in folder.glob("data-*.db*") if path.suffix != ".db-shm"}
    crash(store)
    for path, content in killed.items():
        frames, lost = divmod(len(content) - WAL_HEAD, FRAME)
        assert path.suffix == ".db" or (frames > 4, lost) == (True, 0)
        at = WAL_HEAD + (frames - 3) * FRAME
        path.write_bytes(content if path.suffix == ".db" else content[:at] + bytes(FRAME) + content[at + FRAME :])
    store, recovery = open_log(folder, boot="the machine was off in between")
    assert recovery.continuity == "torn-tail"
    assert store.bounds().end > end, "no position comes twice"
    store.close()
