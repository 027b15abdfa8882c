"""What adapters left for the process after a crash: notes, and the newest origin of each subscription since."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.contract import Origin, Remembered
from gateway.log import LogStore, codec, datafile
from gateway.log.origins import MOST_ORIGINS
from gateway.log.records import BatchRecord, NoteRecord, Record
from tests.support.logs import STREAM, batch, crash, open_log, segment

ROTATIONS = [1, 256_000_000]


class Writing:
    """Appends records with the offsets that a writer would give."""

    def __init__(self, folder: Path, rotate_bytes: int = 256_000_000) -> None:
        self.folder = folder
        self.rotate_bytes = rotate_bytes
        self.n = 0
        self.store, self.recovery = open_log(folder, rotate_bytes=rotate_bytes)

    def offered(self, sequence: int, subscription: int = 7, device: str = "d", server: str = "urn:s") -> BatchRecord:
        record = BatchRecord(STREAM, batch(device, 2), Origin(server, subscription, sequence), self.n)
        self.n += 2
        return record

    def append(self, *records: Record) -> None:
        self.store.append([segment(*records)], self.store.bounds().end)

    def left_after_a_crash(self) -> dict[str, Remembered]:
        crash(self.store)
        self.store, self.recovery = open_log(self.folder, rotate_bytes=self.rotate_bytes)
        return self.recovery.left


def note(text: str, device: str = "d") -> NoteRecord:
    return NoteRecord(device, {"subscriptions": [7], "text": text})


@pytest.mark.parametrize("rotate_bytes", ROTATIONS)
def test_the_newest_note_and_the_newest_origin_of_each_subscription_since(tmp_path: Path, rotate_bytes: int) -> None:
    log = Writing(tmp_path / "log", rotate_bytes)
    assert log.recovery.left == {}
    log.append(log.offered(1))
    log.append(note("first"))
    log.append(log.offered(2), log.offered(30, subscription=8))
    log.append(log.offered(3))
    (left,) = log.left_after_a_crash().values()
    assert left.note == {"subscriptions": [7], "text": "first"}
    assert set(left.origins) == {Origin("urn:s", 7, 3), Origin("urn:s", 8, 30)}
    log.append(note("second"))
    (left,) = log.left_after_a_crash().values()
    assert left == Remembered({"subscriptions": [7], "text": "second"}, ()), "a new note forgets subscriptions"
    for sequence in range(4, 9):
        log.append(log.offered(sequence))
    (left,) = log.left_after_a_crash().values()
    assert left.origins == (Origin("urn:s", 7, 8),)


def test_the_order_within_a_segment_counts(tmp_path: Path) -> None:
    log = Writing(tmp_path / "log")
    log.append(note("first"), log.offered(5))
    log.append(log.offered(6, subscription=8), note("second"), log.offered(1, subscription=9))
    expected = (Origin("urn:s", 9, 1),)
    assert log.left_after_a_crash()["d"].origins == expected, "read from the file"
    log.append(log.offered(7, subscription=8), note("third"), log.offered(2, subscription=9))
    log.store.close()
    log.store, log.recovery = open_log(log.folder)
    assert log.recovery.left["d"].origins == (Origin("urn:s", 9, 2),)


def test_devices_are_kept_apart(tmp_path: Path) -> None:
    log = Writing(tmp_path / "log")
    log.append(note("of one", "one"), note("of two", "two"))
    log.append(log.offered(3, device="one"))
    log.n = 0
    log.append(log.offered(4, device="two"))
    left = log.left_after_a_crash()
    assert {name: found.origins for name, found in left.items()} == {
        "one": (Origin("urn:s", 7, 3),),
        "two": (Origin("urn:s", 7, 4),),
    }


def test_a_sequence_that_wraps_is_newer(tmp_path: Path) -> None:
    log = Writing(tmp_path / "log")
    log.append(note("x"), log.offered(2**32 - 1))
    log.append(log.offered(1))
    assert log.left_after_a_crash()["d"].origins == (Origin("urn:s", 7, 1),)


def test_subscriptions_without_a_note_are_not_kept_and_those_with_one_are_bounded(tmp_path: Path) -> None:
    log = Writing(tmp_path / "log")
    log.append(log.offered(1))
    assert log.left_after_a_crash() == {}
    log.append(note("x"))
    for subscription in range(MOST_ORIGINS + 5):
        log.append(log.offered(1, subscription=subscription))
    origins = log.left_after_a_crash()["d"].origins
    assert {origin.subscription for origin in origins} == set(range(5, MOST_ORIGINS + 5)), "the oldest leave"


@pytest.mark.parametrize("rotate_bytes", ROTATIONS)
def test_after_a_break_of_continuity_nothing_is_left_then_or_later(tmp_path: Path, rotate_bytes: int) -> None:
    log = Writing(tmp_path / "log", rotate_bytes)
    log.append(note("x"), log.offered(1))
    newest = log.store.files()[-1].path
    crash(log.store)
    with contextlib.closing(sqlite3.connect(newest, isolation_level=None)) as connection:
        connection.execute("UPDATE segment SET body = substr(body, 2)")
    log.store, log.recovery = open_log(log.folder, rotate_bytes=rotate_bytes)
    assert log.recovery.continuity == "corrupt"
    assert log.recovery.left == {}
    assert log.left_after_a_crash() == {}, "the note is of before the break"
    assert log.recovery.continuity is None


def test_a_log_that_an_earlier_version_wrote_has_none(tmp_path: Path) -> None:
    """Version 1 before there were notes: preambles without the two keys, heads that end with their series."""
    log = Writing(tmp_path / "log")
    log.append(note("x"), log.offered(1))
    log.store.close()
    ((_, path),) = datafile.data_files(log.folder)
    connection = sqlite3.connect(path, isolation_level=None)
    ((head, body),) = connection.execute("SELECT head, body FROM preamble").fetchall()
    document = codec.decode_document(head, body, 1)
    del document["notes"], document["origins"]
    connection.execute("UPDATE preamble SET head = ?, body = ?", codec.encode_document(document, 1, 0))
    record = log.offered(1)
    record.n, record.origin = 0, None
    head, body, _ = codec.encode_segment([record], 1, 0)
    connection.execute("UPDATE segment SET head = ?, body = ?", (head, body))
    connection.close()
    log.store, log.recovery = open_log(log.folder)
    assert log.recovery.continuity is None
    assert log.recovery.left == {}
    assert len(log.store.read(0, 10**9)) == 1


def test_the_copy_of_a_log_has_nothing_to_say(tmp_path: Path) -> None:
    log = Writing(tmp_path / "log")
    log.append(note("x"), log.offered(1))
    log.store.close()
    shutil.copytree(log.folder, tmp_path / "copy")
    store, recovery = open_log(tmp_path / "copy")
    store.close()
    assert recovery.continuity == "copied"
    assert recovery.left == {}


def test_reading_passes_notes_on(tmp_path: Path) -> None:
    log = Writing(tmp_path / "log")
    log.append(note("x"))
    assert records(log.store) == [note("x")]


def records(store: LogStore) -> Sequence[Record]:
    return [record for found in store.read(0, 10**9) for record in found.records]
