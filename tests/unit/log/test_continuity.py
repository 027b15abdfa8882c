"""A log that this box did not write last: a reason, new positions, and no offset or position used twice."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.log import LogStore, Recovery, machine_id
from gateway.log.recovery import HOLE, UNKNOWN_BASE
from tests.support.logs import STREAM, SetClock, crash, definitions, open_log, reading, segment


def begin(folder: Path, clock: SetClock) -> None:
    store, recovery = open_log(folder, clock)
    assert recovery.continuity == "created"
    assert recovery.created
    store.append([segment(*definitions())], 1)
    store.close()


def write(folder: Path, clock: SetClock, *, commits: int = 3, identity: str | None = None) -> tuple[Recovery, set[int]]:
    """Open, append as the gateway would (a new stream where continuity broke), close."""
    store, recovery = open_log(folder, clock, **({} if identity is None else {"identity": identity}))
    positions = append(store, recovery, commits)
    clock.advance(2)
    store.close()
    return recovery, positions


def append(store: LogStore, recovery: Recovery, commits: int) -> set[int]:
    stream = STREAM if recovery.continuity is None else f"01KNEW{store.bounds().end}"
    n = max((n for series, n in recovery.next_n.items() if series.stream == stream), default=0)
    positions = set()
    for k in range(commits):
        positions.add(store.bounds().end)
        store.append([segment(reading(n + 10 * k, stream=stream))], store.bounds().end)
    return positions


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)


def test_a_plain_restart_goes_on(folder: Path, clock: SetClock) -> None:
    begin(folder, clock)
    _, first = write(folder, clock)
    recovery, second = write(folder, clock)
    assert recovery.continuity is None
    assert recovery.next_n[next(iter(recovery.next_n))] == 30
    assert min(second) == max(first) + 1


def test_a_killed_gateway_goes_on(folder: Path, clock: SetClock) -> None:
    begin(folder, clock)
    store, recovery = open_log(folder, clock)
    append(store, recovery, 5)
    crash(store)
    assert write(folder, clock)[0].continuity is None


def test_killed_between_the_session_row_and_the_witness(folder: Path, clock: SetClock) -> None:
    begin(folder, clock)
    witness = folder.with_name("log.witness")
    before = witness.read_bytes()
    store, _ = open_log(folder, clock)
    crash(store)
    overwrite(witness, before)
    assert write(folder, clock)[0].continuity is None


def test_cloned_to_another_identity(folder: Path, clock: SetClock) -> None:
    begin(folder, clock)
    _, mine = write(folder, clock)
    recovery, theirs = write(folder, clock, identity="box-b/91370200MA3C00000K/qd-chem-01")
    assert recovery.continuity == "foreign-box"
    assert not mine & theirs
    assert recovery.records
    assert write(folder, clock, identity="box-b/91370200MA3C00000K/qd-chem-01")[0].continuity is None


def test_copied_folder(folder: Path, clock: SetClock, tmp_path: Path) -> None:
    begin(folder, clock)
    write(folder, clock)
    copy(folder, tmp_path / "copy")
    recovery, theirs = write(tmp_path / "copy", clock)
    assert recovery.continuity == "copied"
    original, mine = write(folder, clock)
    assert original.continuity is None
    assert not mine & theirs
    assert write(tmp_path / "copy", clock)[0].continuity is None


def test_copied_folder_with_its_witness(folder: Path, clock: SetClock, tmp_path: Path) -> None:
    begin(folder, clock)
    copy(folder, tmp_path / "copy")
    shutil.copy2(tmp_path / "log.witness", tmp_path / "copy.witness")
    assert write(tmp_path / "copy", clock)[0].continuity == "copied"


@pytest.mark.parametrize("restarted", [True, False])
def test_older_copy_put_back(folder: Path, clock: SetClock, tmp_path: Path, restarted: bool) -> None:
    begin(folder, clock)
    store, recovery = open_log(folder, clock)
    append(store, recovery, 3)
    copy(folder, tmp_path / "backup")
    lost = set()
    if restarted:
        store.close()
        _, lost = write(folder, clock)
    else:
        clock.advance(5)
        lost = append(store, Recovery(next_n={**recovery.next_n, **after(store)}), 3)
        store.close()
    shutil.rmtree(folder)
    copy(tmp_path / "backup", folder)
    recovery, theirs = write(folder, clock)
    assert recovery.continuity in ("copied", "restored")
    assert not lost & theirs
    assert min(theirs) > max(lost)


@pytest.mark.parametrize("restarted", [True, False])
def test_older_copy_written_over_the_same_files(folder: Path, clock: SetClock, tmp_path: Path, restarted: bool) -> None:
    begin(folder, clock)
    write(folder, clock)
    store, recovery = open_log(folder, clock)
    append(store, recovery, 3)
    store.close()
    backup = {path: path.read_bytes() for path in folder.iterdir()}
    if restarted:
        _, lost = write(folder, clock)
    else:
        # The same session goes on after the backup: only the position gives it away.
        (witness := folder.with_name("log.witness")).write_bytes(
            witness.read_bytes().replace(b'"position":8', b'"position":9')
        )
        lost = {8}
    for path, content in backup.items():
        overwrite(path, content)
    recovery, theirs = write(folder, clock)
    assert recovery.continuity == "restored"
    assert not lost & theirs
    assert min(theirs) >= max(lost) + HOLE


def test_witness_lost(folder: Path, clock: SetClock) -> None:
    begin(folder, clock)
    write(folder, clock)
    folder.with_name("log.witness").unlink()
    recovery, _ = write(folder, clock)
    assert recovery.continuity == "copied"
    assert write(folder, clock)[0].continuity is None


def test_a_witness_that_could_never_be_written_is_not_missed(folder: Path, clock: SetClock) -> None:
    folder.with_name("log.witness").mkdir()
    begin(folder, clock)
    assert write(folder, clock)[0].continuity is None


def test_a_witness_that_cannot_be_written_any_more_is_no_doubt(folder: Path, clock: SetClock) -> None:
    begin(folder, clock)
    witness = folder.with_name("log.witness")
    old = witness.read_bytes()
    witness.unlink()
    witness.mkdir()
    write(folder, clock)
    write(folder, clock)
    witness.rmdir()
    witness.write_bytes(old)
    assert write(folder, clock)[0].continuity is None


def test_emptied_folder_uses_no_position_again(folder: Path, clock: SetClock) -> None:
    begin(folder, clock)
    _, lost = write(folder, clock)
    for path in folder.glob("data-*"):
        path.unlink()
    recovery, theirs = write(folder, clock)
    assert recovery.created
    assert recovery.continuity == "created"
    assert min(theirs) > max(lost)


def test_only_the_state_is_left(folder: Path, clock: SetClock) -> None:
    folder.mkdir()
    (folder / "state.db").touch()
    store, _ = open_log(folder, clock)
    assert store.bounds().end == UNKNOWN_BASE
    store.close()


def test_rotation_keeps_the_session(folder: Path, clock: SetClock) -> None:
    store, _ = open_log(folder, clock, rotate_bytes=20_000)
    append(store, Recovery(), 60)
    assert len(store.files()) > 2
    crash(store)
    assert write(folder, clock)[0].continuity is None


def test_machine_id_is_the_boards_as_well_as_the_images(tmp_path: Path) -> None:
    etc = tmp_path / "etc/machine-id"
    etc.parent.mkdir()
    etc.write_text("3d1219c7c4c5404aaa1f6d2a48adfda4\n")
    image = machine_id(tmp_path / "made", root=tmp_path)
    assert image == machine_id(tmp_path / "made", root=tmp_path)
    uuid = tmp_path / "sys/class/dmi/id/product_uuid"
    uuid.parent.mkdir(parents=True)
    uuid.write_text("board-1")
    assert machine_id(tmp_path / "made", root=tmp_path) != image
    assert not (tmp_path / "made").exists()


def test_machine_id_is_made_where_there_is_none(tmp_path: Path) -> None:
    made = machine_id(tmp_path / "made", root=tmp_path)
    assert made == machine_id(tmp_path / "made", root=tmp_path)
    assert made != machine_id(tmp_path / "other", root=tmp_path)


def after(store: LogStore) -> dict:
    return {s.series: s.n + s.readings for _, heads in store.heads(0, store.bounds().end) for s in heads}


def overwrite(path: Path, content: bytes) -> None:
    """Into the same inode."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(handle, content)
    os.close(handle)
