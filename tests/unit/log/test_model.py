"""Random histories against a plain list: append, read, heads, compact, trim, notes, crash, close, reopen."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.contract.adapter import Origin
from gateway.log import LogStore, commits, datafile, ring
from gateway.log.records import NoteRecord, Segment, Series
from gateway.log.recovery import Recovery
from tests.support.logs import STREAM, SetClock, crash, definitions, event, open_log, reading, same_records

HISTORIES = int(os.environ.get("LOG_HISTORIES", "200"))
"""`make soak` asks for many more"""
PER_TEST = 40
STEPS = ["append"] * 6 + ["read"] * 3 + ["compact"] * 2 + ["heads", "trim", "crash", "close"]
DEVICES = ("boiler-1", "reactor-3", "meter-2")


class Model:
    """What the log must be: a list of segments, and where it begins."""

    def __init__(self, folder: Path, random: random.Random, flash: float = 0.5) -> None:
        """`flash` is how likely a start takes the storage for flash."""
        self.random = random
        self.flash = flash
        self.folder = folder
        self.clock = SetClock()
        self.kept: dict[int, Segment] = {}
        self.next_n: dict[Series, int] = {}
        self.rotate_bytes = random.choice([16_000, 30_000, 10**9])
        self.notes: dict[str, dict[str, int]] = {}
        self.origins: dict[str, set[Origin]] = {}
        self.defined: list = []
        self.store: LogStore
        self.reopen(first=True)

    def step(self) -> None:
        getattr(self, self.random.choice(STEPS))()

    def append(self) -> None:
        end = self.store.bounds().end
        segments = [self.segment() for _ in range(self.random.randint(1, 3))]
        self.clock.advance(self.random.choice([0.0, 0.3, 4.0]))
        assert self.store.append(segments, end) == end + len(segments)
        for position, segment in enumerate(segments, end):
            assert segment.position == position
            self.kept[position] = segment

    def segment(self) -> Segment:
        segment = Segment(0, [])
        for _ in range(self.random.randint(1, 3)):
            device = self.random.choice(DEVICES)
            series = Series(STREAM, device)
            count = self.random.randint(1, 40)
            n = self.next_n.get(series, 0)
            self.note(segment, device)
            found = reading(n, count, device, base=self.random.random())
            segment.records.append(found)
            self.next_n[series] = n + count
            if device in self.notes:
                self.origins[device] = {found.origin}  # there is one subscription, whose sequence number is `n`
        if self.random.random() < 0.2:
            found = event(self.next_n.get(event(0).series, 0), reason="overflow")
            segment.records.append(found)
            self.next_n[found.series] = found.n + 1
        if self.random.random() < 0.2:
            self.defined = definitions(device=self.random.choice(DEVICES))
            segment.records += self.defined
        return segment

    def note(self, segment: Segment, device: str) -> None:
        if self.random.random() < 0.1:
            self.notes[device] = {"queue": self.random.randint(0, 1000)}
            self.origins[device] = set()
            segment.records.append(NoteRecord(device, self.notes[device]))

    def compact(self) -> None:
        """Some blocks or all, or a crash in the middle or just before or after the rename."""
        blocks_left = self.random.choice([0, 1, 10**9, 10**9])
        before = self.store.bounds()

        def pause(_: int) -> bool:
            nonlocal blocks_left
            blocks_left -= 1
            return blocks_left >= 0

        made = self.store.compact(pause)
        assert self.store.bounds() == before
        if made is not None:
            assert made.in_blocks
            assert made == self.store.files()[[file.first for file in self.store.files()].index(made.first)]
        elif self.random.random() < 0.3:
            crash(self.store)
            (self.folder / datafile.COMPACT_NAME).write_bytes(b"half")
            self.reopen()

    def read(self) -> None:
        first, end = self.store.bounds()
        position = self.random.randint(0, end + 2)
        limit = self.random.choice([1, 700, 10**9])
        expected = [self.kept[p] for p in range(max(first, position), end)]
        found = self.store.read(position, limit)
        assert bool(found) == bool(expected)
        assert [s.position for s in found] == [s.position for s in expected[: len(found)]]
        for left, right in zip(found, expected, strict=False):
            assert same_records(left.records, right.records)
            assert (left.heads, left.nbytes) == (right.heads, right.nbytes)
        assert sum(s.nbytes for s in found[:-1]) <= limit
        if limit == 10**9:
            assert len(found) == len(expected)

    def heads(self) -> None:
        first, end = self.store.bounds()
        start, stop = sorted(self.random.randint(0, end + 2) for _ in range(2))
        expected = [(p, self.kept[p].heads) for p in range(max(first, start), min(end, stop))]
        assert list(self.store.heads(start, stop)) == expected

    def trim(self) -> None:
        first, end = self.store.bounds()
        position = self.random.randint(0, end + 1)
        now_first = self.store.trim(position)
        assert first <= now_first <= max(first, position)
        assert now_first == self.store.bounds().first == self.store.files()[0].first
        assert len(self.store.files()) == 1 or self.store.files()[0].end > position

    def crash(self) -> None:
        crash(self.store)
        self.reopen()

    def close(self) -> None:
        self.store.close()
        self.reopen()

    def reopen(self, first: bool = False) -> None:
        flash = self.random.random() < self.flash
        self.store, recovery = open_log(self.folder, self.clock, rotate_bytes=self.rotate_bytes, flash=flash)
        if not first:
            self.check(recovery)

    def check(self, recovery: Recovery) -> None:
        assert (recovery.continuity, recovery.damage, recovery.cut_readings) == (None, [], 0)
        assert recovery.next_n == self.next_n
        assert self.store.bounds().end == max(self.kept, default=0) + 1
        assert set(map(repr, self.defined)) <= set(map(repr, recovery.records))
        assert {device: (left.note, set(left.origins)) for device, left in recovery.left.items()} == {
            device: (note, self.origins[device]) for device, note in self.notes.items()
        }
        assert not (self.folder / datafile.COMPACT_NAME).exists()


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """Where a sync costs nothing, if there is such a place: thousands of commits are no test of the disk."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.mark.parametrize(("pages", "straight_bytes"), [(4, 3_000), (12, 256_000)])
def test_random_histories_on_flash(
    in_memory: Path, monkeypatch: pytest.MonkeyPatch, pages: int, straight_bytes: int
) -> None:
    """A ring so small that it is emptied every few commits, and some do not fit into it."""
    monkeypatch.setattr(ring, "PAGES", pages)
    monkeypatch.setattr(commits, "STRAIGHT_BYTES", straight_bytes)
    for seed in range(HISTORIES // PER_TEST * 3):
        model = Model(in_memory / str(seed), random.Random(seed), flash=0.9)
        for _ in range(40):
            model.step()
        model.read()
        model.store.close()


@pytest.mark.parametrize("first_seed", range(0, HISTORIES, PER_TEST))
def test_random_histories(in_memory: Path, first_seed: int) -> None:
    for seed in range(first_seed, first_seed + PER_TEST):
        model = Model(in_memory / str(seed), random.Random(seed))
        for _ in range(30):
            model.step()
        model.read()
        model.store.close()
