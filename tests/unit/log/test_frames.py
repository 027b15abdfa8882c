"""Frames of the ring: what was written comes back, and of anything damaged only a first part, never something else."""

from __future__ import annotations

import random

import pytest

from gateway.log import LogFormatError, codec, frames
from gateway.log.blocks import Source
from gateway.log.frames import PAGE, Chain, Commit, Found
from gateway.log.records import BatchRecord, Segment
from tests.support.logs import T0, definitions, event, reading, same_records, segment

SESSION, BEFORE = bytes(range(16)), bytes(range(16, 32))
PAGES = 24


def source(one: Segment, position: int) -> Source:
    head, body, heads = codec.encode_segment(one.records, position, T0 + position)
    one.position, one.heads, one.nbytes = position, heads, len(head) + len(body)
    return Source(codec.decode_head(head, position), one.nbytes, one.records)


class Written:
    """A ring in memory."""

    def __init__(self) -> None:
        self.content = bytearray(PAGES * PAGE)
        self.commits: list[list[Segment]] = []
        """of the present round"""
        self.chain = Chain(SESSION, 1)
        self.end = 1

    def put(self, frame: bytes) -> range:
        at = self.chain.page * PAGE
        self.content[at : at + len(frame)] = frame
        self.chain.written()
        return range(at, at + len(frame))

    def begin(self) -> range:
        return self.put(self.chain.beginning(BEFORE))

    def commit(self, *segments: Segment) -> range:
        frame = self.chain.commit([source(one, self.end + k) for k, one in enumerate(segments)])
        self.end += len(segments)
        self.commits.append(list(segments))
        return self.put(frame)

    def begin_round(self, number: int) -> None:
        self.chain = Chain(SESSION, number)
        self.commits = []


@pytest.fixture
def ring() -> Written:
    """Five commits, of one page and of more."""
    ring = Written()
    ring.begin()
    ring.commit(segment(*definitions()), segment(reading(0)))
    ring.commit(segment(reading(10), event(0)))
    ring.commit(segment(noisy(20, 900)))
    ring.commit(segment(reading(920)))
    ring.commit(segment(noisy(930, 1500)), segment(reading(2430)))
    return ring


def noisy(n: int, count: int) -> BatchRecord:
    """Values that nothing makes smaller."""
    record = reading(n, count)
    record.batch.values[:] = [random.Random(n + k).random() for k in range(count)]
    return record


def same(found: list[Commit], written: list[list[Segment]]) -> bool:
    return len(found) == len(written) and all(map(same_commit, found, written))


def same_commit(found: Commit, written: list[Segment]) -> bool:
    return len(found.segments) == len(written) and all(
        (one.position, one.heads, one.nbytes, held.commit_time)
        == (was.position, was.heads, was.nbytes, T0 + was.position)
        and same_records(one.records, was.records)
        for one, held, was in zip(found.segments, found.held, written, strict=True)
    )


def is_first_part(found: Found, ring: Written) -> bool:
    return same(found.commits, ring.commits[: len(found.commits)])


def test_what_was_written_comes_back(ring: Written) -> None:
    found = frames.read(bytes(ring.content))
    assert (found.session, found.round, found.previous) == (SESSION, 1, BEFORE)
    assert same(found.commits, ring.commits)
    assert (found.torn, found.lost) == (False, False)
    assert ring.chain.page > 8, "some frames have more than one page"


def test_an_empty_ring_holds_nothing() -> None:
    assert frames.read(bytes(PAGES * PAGE)) == Found()
    assert frames.read(b"") == Found()


def test_another_round_begins_at_the_front_and_hides_the_one_before(ring: Written) -> None:
    ring.begin_round(2)
    ring.commit(segment(reading(2440)))
    found = frames.read(bytes(ring.content))
    assert (found.round, found.previous, found.torn) == (2, None, False)
    assert same(found.commits, ring.commits)


def test_every_byte_of_every_frame_counts(ring: Written) -> None:
    """A flipped bit anywhere: only whole commits from the front come back, and it is told that something is wrong."""
    used = ring.chain.page * PAGE
    chance = random.Random(5)
    # Each byte of heads, and of the rest so many that no page is left out.
    places = {page + k for page in range(0, used, PAGE) for k in range(64)} | {
        chance.randrange(used) for _ in range(600)
    }
    for at in sorted(places):
        damaged = bytearray(ring.content)
        damaged[at] ^= 1 << chance.randrange(8)
        found = frames.read(bytes(damaged))
        assert is_first_part(found, ring), at
        assert len(found.commits) < len(ring.commits) or at < PAGE, at
        if at % PAGE not in range(4, 8) and at < used - PAGE:
            assert found.torn, at


def test_a_damaged_commit_before_others_is_a_lost_one(ring: Written) -> None:
    ring.content[PAGE + 100] ^= 1
    found = frames.read(bytes(ring.content))
    assert (found.commits, found.torn, found.lost) == ([], True, True)


def test_a_ring_cut_at_any_length_gives_a_first_part(ring: Written) -> None:
    for length in [*range(0, len(ring.content), 1000), PAGE - 1, PAGE, PAGE + 1]:
        assert is_first_part(frames.read(bytes(ring.content[:length])), ring), length


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_torn_commit_is_not_there_and_is_told(sector: int) -> None:
    """Any part of the last frame may be missing: what was there before it is whole, and the rest is no commit."""
    chance = random.Random(7)
    torn = 0
    for _ in range(60):
        ring = Written()
        ring.begin()
        for k in range(4):
            ring.commit(segment(noisy(900 * k, 900)))
        ring.begin_round(2)
        ring.commit(segment(noisy(3600, 400)))
        before = bytes(ring.content)
        places = ring.commit(segment(noisy(4000, 900)))
        kept = [at for at in range(places.start, places.stop, sector) if chance.random() < 0.5]
        after = bytearray(before)
        for at in kept:
            after[at : at + sector] = ring.content[at : at + sector]
        found = frames.read(bytes(after))
        whole = bytes(after) == bytes(ring.content)
        assert same(found.commits, ring.commits if whole else ring.commits[:1])
        assert not found.lost
        tags = any(at % PAGE == 0 for at in kept)
        assert found.torn == (tags and not whole)
        torn += found.torn
    assert torn > 20


def test_a_lost_commit_before_one_that_is_there(ring: Written) -> None:
    """A disk that lies about syncs: the frame of a new round is lost, the one after it was kept."""
    before = bytes(ring.content)
    ring.begin_round(2)
    lost = ring.commit(segment(noisy(2440, 900)))
    ring.commit(segment(reading(3340)))
    ring.content[lost.start : lost.stop] = before[lost.start : lost.stop]
    found = frames.read(bytes(ring.content))
    assert (found.round, found.commits, found.torn, found.lost) == (2, [], True, True)


def test_a_frame_that_was_not_written_is_replaced_by_the_next(ring: Written) -> None:
    """A write that failed leaves any part of itself; the commit after it needs nothing of it."""
    failed = ring.chain.commit([source(segment(noisy(2440, 900)), ring.end)])
    at = ring.chain.page * PAGE
    ring.content[at : at + PAGE] = failed[:PAGE]
    ring.commit(segment(noisy(2440, 901)))
    ring.commit(segment(reading(3341)))
    found = frames.read(bytes(ring.content))
    assert same(found.commits, ring.commits)
    assert not found.lost


def test_pages_at_another_place_are_none_of_it(ring: Written) -> None:
    moved = ring.content[PAGE:] + ring.content[:PAGE]
    assert frames.read(bytes(moved)).commits == []


def test_a_newer_format_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Written()
    with monkeypatch.context() as patched:
        patched.setattr(frames, "FORMAT", 2)
        ring.commit(segment(reading(0)))
    with pytest.raises(LogFormatError, match="ring format 2 found, this version reads 1"):
        frames.read(bytes(ring.content))
