"""SIGKILL at random moments: the next process knows the newest durable note, and the newest origin in the log since."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from gateway.contract import Origin, Remembered, SystemClock
from gateway.log import LogStore, Recovery, Writer
from gateway.log.records import BatchRecord, NoteRecord
from tests.support.kills import killed_child
from tests.support.logs import batch

KILLS = 6


def test_what_was_durable_is_remembered_after_a_kill(tmp_path: Path) -> None:
    chance = random.Random(20)
    folder = tmp_path / "log"
    trusted = 0
    for _ in range(KILLS):
        promised = killed_child("tests.fault.test_notes_kill", folder, tmp_path / "out", chance)
        store, recovery = open_log(folder)
        expected = in_the_log(store) if recovery.continuity is None else None
        assert recovery.left.get("d") == expected
        store.close()
        if expected is None:
            continue
        trusted += 1
        number, sequence = map(int, promised[-1].split())
        assert expected.note["number"] >= number
        if expected.note["number"] == number:
            assert [origin.sequence >= sequence for origin in expected.origins] == [True], "as told before the kill"
    assert trusted, "each kill hit a commit"


def open_log(folder: Path) -> tuple[LogStore, Recovery]:
    return LogStore.open(folder, identity="kill", clock=SystemClock(), rotate_bytes=300_000)


def in_the_log(store: LogStore) -> Remembered | None:
    """The same from the records themselves."""
    note = None
    origins: dict[tuple[str, int], Origin] = {}
    for segment in store.read(0, 10**12):
        for record in segment.records:
            if isinstance(record, NoteRecord):
                note, origins = record.note, {}
            elif isinstance(record, BatchRecord) and record.origin:
                origins[record.origin[:2]] = record.origin
    return None if note is None else Remembered(note, tuple(origins.values()))


async def child(folder: Path) -> None:
    """Notes and offers for ever; prints the note and the sequence number of each offer once they are durable."""
    store, recovery = open_log(folder)
    stream = f"S{store.bounds().end}"
    number = recovery.left["d"].note["number"] if recovery.left else 0
    async with Writer(store, next_n={}, commit_s=0.01, clock=SystemClock(), on_commit=lambda _: None) as writer:
        while True:
            number += 1
            await writer.write([NoteRecord("d", {"number": number, "items": list(range(50))})], 500, "d")
            for sequence in range(1, 20):
                record = BatchRecord(stream, batch("d", 200), Origin("urn:s", number, sequence))
                receipt = await writer.write([record], record.batch.nbytes, "d")
                if sequence % 3 == 0:
                    await receipt.durable()
                    sys.stdout.write(f"{number} {sequence}\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(child(Path(sys.argv[1])))
