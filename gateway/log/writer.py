"""The loop-side face of the log: memory shares, gathering, and the thread that encodes and commits.

What is written while a commit is in flight gathers for the next commits: one device puts only so much into a commit,
what is more gathers for the one after it, so that a flood does not hold up its neighbours. Everything that a commit
takes with it has one future in common, so that a receipt costs an object and nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from gateway.contract.clock import Clock
from gateway.log.errors import LogError, LogFullError, LogIOError
from gateway.log.pieces import merged, pieces
from gateway.log.records import BatchRecord, EventRecord, Record, Segment, Series

MEMORY_BYTES: Final = 64_000_000
SHARE_BYTES: Final = 8_000_000
COMMIT_SHARE_BYTES: Final = 1_000_000
"""what one device puts into a commit at most, in memory, on a slow disk; its neighbours wait for that. A single larger
call goes whole"""
COMMIT_BYTES: Final = 8_000_000
"""what a commit takes at most, beyond one call of each device and the gateway's own entries and events"""
AHEAD_S: Final = 0.2
"""commits that wait are made one as long as the disk, as fast as it was last, needs no more time than this"""
_NOW_SHARE: Final = "_now"
_NOW_BYTES: Final = 500
"""what an entry or an event is taken to weigh in memory"""
_RETRY_S: Final = 0.5
_IO_TRIES: Final = 4

logger = logging.getLogger(__name__)


class Appendable(Protocol):
    """What the writer needs of a `LogStore`."""

    def append(self, segments: Sequence[Segment], expected_position: int, until: int | None = None) -> int:
        """See `LogStore.append`."""
        ...

    def bounds(self) -> tuple[int, int]:
        """See `LogStore.bounds`."""
        ...


class WriterStatistics(NamedTuple):
    """Figures for metrics; totals since the writer began."""

    pending_bytes: int
    """memory held by what is not committed yet"""
    commits: int
    commit_seconds_sum: float
    """time in commits, encoding included"""
    last_commit_s: float
    readings_total: int
    bytes_total: int
    """encoded bytes of all segments"""
    encode_seconds: float
    stalled: str | None
    """why commits fail at present and are tried again; None = they do not"""


class LogReceipt:
    """Says when what was written is durable."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    async def durable(self) -> None:
        """Return once it is committed. Raises LogError when the writer failed before that."""
        await asyncio.shield(self._future)


@dataclass(slots=True)
class _Gathering:
    """Everything that one commit takes with it."""

    future: asyncio.Future[None]
    begun: int
    """wall time of its first call, ns"""
    calls: list[Sequence[Record]] = field(default_factory=list)
    shares: dict[str, int] = field(default_factory=dict)
    """memory to give back, by share"""
    nbytes: int = 0
    """of all shares"""
    readings: bool = False
    """there is more in it than entries, events and notes"""


class Writer:
    """`async with Writer(...)`: a thread commits while inside; leaving commits everything that was written.

    All methods belong to the event loop that entered it. `on_commit` is called there after each commit, in order,
    before the commit's receipts resolve.
    """

    def __init__(
        self,
        store: Appendable,
        *,
        next_n: dict[Series, int],
        commit_s: float,
        clock: Clock,
        on_commit: Callable[[list[Segment]], None],
        memory_bytes: int = MEMORY_BYTES,
        share_bytes: int = SHARE_BYTES,
        commit_share_bytes: int = COMMIT_SHARE_BYTES,
        commit_bytes: int = COMMIT_BYTES,
        ahead_s: float = AHEAD_S,
    ) -> None:
        self._store = store
        self._next_n = dict(next_n)
        self._commit_ns = int(commit_s * 1e9)
        self._clock = clock
        self._on_commit = on_commit
        self._memory_bytes = memory_bytes
        self._share_bytes = share_bytes
        self._commit_share_bytes = commit_share_bytes
        self._commit_bytes = commit_bytes
        self._ahead_s = ahead_s
        self._ahead_bytes = 0.0
        """what the last commit would have written in that time"""
        self._used: dict[str, int] = {}
        self._pending = 0
        self._waiting: deque[tuple[asyncio.Future[None], str, int]] = deque()
        self._loop: asyncio.AbstractEventLoop
        self._failed: asyncio.Future[None]
        self._thread: threading.Thread | None = None
        self._signal = threading.Condition()
        """guards the five below"""
        self._gatherings: deque[_Gathering] = deque()
        """the next commits, in order; the last one is open to everybody"""
        self._hurry = False
        self._flushing = 0
        self._closing = False
        self._error: BaseException | None = None
        self._stalled: str | None = None
        self._last_start: int | None = None
        """ns, monotonic: when the last commit began"""
        self._last_readings: int | None = None
        """the same of the last one with readings"""
        self._figures = (0, 0.0, 0.0, 0, 0, 0.0)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._failed = self._loop.create_future()
        self._thread = threading.Thread(target=self._commit_thread, name="log-commit")
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._signal:
            self._closing = True
            self._signal.notify()
        assert self._thread is not None
        # The thread ends by itself within a commit, so the wait is not given up halfway.
        finished = self._loop.create_future()
        joiner = threading.Thread(target=self._join, args=(self._thread, finished), name="log-commit-join")
        joiner.start()
        cancelled: asyncio.CancelledError | None = None
        while not finished.done():
            try:
                await asyncio.shield(finished)
            except asyncio.CancelledError as again:
                cancelled = again
        joiner.join()
        closed = LogError("the log was closed")
        while self._waiting:
            waiting = self._waiting.popleft()[0]
            if not waiting.done():
                waiting.set_exception(self._error or closed)
        if cancelled is not None:
            raise cancelled
        if self._error is not None and kind is None:
            raise self._error

    async def write(self, records: Sequence[Record], nbytes: int, share: str) -> LogReceipt:
        """Queue `records`, once `nbytes` of memory are free in `share` (a device's) and in total.

        Records of one call stay in one segment, unless they are more than 512 kB encoded: then they are split between
        records. A call larger than its share waits until the share is empty. Raises LogError when the writer has
        failed.
        """
        self._check()
        if self._may_pass(share, nbytes):
            self._take(share, nbytes)
        else:
            await self._wait_for_memory(share, nbytes)
            self._check()
        return self._queue(records, share, nbytes)

    def write_now(self, records: Sequence[Record]) -> LogReceipt:
        """Queue entries and events: small and few, they never wait. Raises LogError when the writer has failed."""
        self._check()
        nbytes = sum(r.batch.nbytes if isinstance(r, BatchRecord) else _NOW_BYTES for r in records)
        self._take(_NOW_SHARE, nbytes)
        return self._queue(records, _NOW_SHARE, nbytes)

    async def flush(self) -> None:
        """Return once everything written before is committed; does not wait for the commit interval.

        Raises LogError when the writer fails before that.
        """
        receipt = self.write_now(())
        with self._signal:
            if self._gatherings:
                receipt = LogReceipt(self._gatherings[-1].future)
            self._flushing += 1
            self._signal.notify()
        try:
            await receipt.durable()
        finally:
            with self._signal:
                self._flushing -= 1

    async def run(self) -> None:
        """Wait until committing fails for good (a dead disk, a bug) and raise that."""
        await asyncio.shield(self._failed)

    @property
    def commit_s(self) -> float:
        """Least time between the starts of two commits with readings, and of any and one without, seconds."""
        return self._commit_ns / 1e9

    @property
    def pending_bytes(self) -> int:
        """Memory held by what is not committed yet."""
        return self._pending

    def statistics(self) -> WriterStatistics:
        """Figures as of now."""
        return WriterStatistics(self._pending, *self._figures, self._stalled)

    # Event loop side: memory and queue

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._closing or self._thread is None:
            raise LogError("the log is closed")

    def _share_free(self, share: str, nbytes: int) -> bool:
        used = self._used.get(share, 0)
        return used == 0 or used + nbytes <= self._share_bytes

    def _total_free(self, nbytes: int) -> bool:
        return self._pending == 0 or self._pending + nbytes <= self._memory_bytes

    def _may_pass(self, share: str, nbytes: int) -> bool:
        """Is there memory, and would nobody be overtaken: of the same share, or waiting for the total?"""
        if not (self._share_free(share, nbytes) and self._total_free(nbytes)):
            return False
        return not self._waiting or not any(
            other == share or self._share_free(other, size) for _, other, size in self._waiting
        )

    def _take(self, share: str, nbytes: int) -> None:
        self._used[share] = self._used.get(share, 0) + nbytes
        self._pending += nbytes

    def _give_back(self, shares: dict[str, int]) -> None:
        for share, nbytes in shares.items():
            self._pending -= nbytes
            # A flush weighs nothing: what it shares may be free already.
            if left := self._used.get(share, 0) - nbytes:
                self._used[share] = left
            else:
                self._used.pop(share, None)

    async def _wait_for_memory(self, share: str, nbytes: int) -> None:
        granted = self._loop.create_future()
        self._waiting.append((granted, share, nbytes))
        with self._signal:
            self._hurry = True
            self._signal.notify()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self._give_back({share: nbytes})
            self._grant()
            raise

    def _grant(self) -> None:
        """Let those go on who fit now, in their order within each share."""
        blocked: set[str] = set()
        full = False
        still: deque[tuple[asyncio.Future[None], str, int]] = deque()
        for granted, share, nbytes in self._waiting:
            if granted.done():
                continue
            if full or share in blocked or not self._share_free(share, nbytes):
                blocked.add(share)
                still.append((granted, share, nbytes))
            elif not self._total_free(nbytes):
                full = True  # the next to go on; nobody overtakes it
                still.append((granted, share, nbytes))
            else:
                self._take(share, nbytes)
                granted.set_result(None)
        self._waiting = still
        with self._signal:
            self._hurry = bool(still)

    def _queue(self, records: Sequence[Record], share: str, nbytes: int) -> LogReceipt:
        with self._signal:
            gathering = self._place(share, nbytes)
            gathering.calls.append(records)
            gathering.shares[share] = gathering.shares.get(share, 0) + nbytes
            gathering.nbytes += nbytes
            if not gathering.readings and any(isinstance(record, BatchRecord) for record in records):
                gathering.readings = True
                self._signal.notify()
        return LogReceipt(gathering.future)

    def _place(self, share: str, nbytes: int) -> _Gathering:
        """The first commit with room for a call, but none before what its share has queued already."""
        earliest = max(0, len(self._gatherings) - 1)
        while earliest and share not in self._gatherings[earliest].shares:
            earliest -= 1
        for gathering in itertools.islice(self._gatherings, earliest, None):
            if self._has_room(gathering, share, nbytes):
                return gathering
        gathering = _Gathering(self._loop.create_future(), self._clock.time_ns())
        self._gatherings.append(gathering)
        self._signal.notify()
        return gathering

    def _has_room(self, gathering: _Gathering, share: str, nbytes: int) -> bool:
        used = gathering.shares.get(share, 0)
        # Entries come before the readings that need them, so they never wait.
        return (
            not used
            or share == _NOW_SHARE
            or (used + nbytes <= self._commit_share_bytes and gathering.nbytes + nbytes <= self._commit_bytes)
        )

    def _committed(self, gatherings: list[_Gathering], segments: list[Segment]) -> None:
        try:
            self._on_commit(segments)
        except BaseException as error:
            self._fail(error, gatherings)
            raise
        for gathering in gatherings:
            self._give_back(gathering.shares)
            gathering.future.set_result(None)
        self._grant()

    def _fail(self, error: BaseException, gatherings: list[_Gathering]) -> None:
        with self._signal:
            self._error = self._error or error
            self._closing = True
            self._signal.notify()
            lost = [*gatherings, *self._gatherings]
            self._gatherings.clear()
        for gathering in lost:
            self._give_back(gathering.shares)
            gathering.future.set_exception(error)
            gathering.future.exception()  # not everybody waits for a receipt
        for granted, _, _ in self._waiting:
            if not granted.done():
                granted.set_exception(error)
        self._waiting.clear()
        if not self._failed.done():
            self._failed.set_exception(error)
            self._failed.exception()

    def _join(self, thread: threading.Thread, finished: asyncio.Future[None]) -> None:
        thread.join()
        self._loop.call_soon_threadsafe(finished.set_result, None)

    # Commit thread

    def _commit_thread(self) -> None:
        while (taken := self._next_gatherings()) is not None:
            gatherings, until = taken
            start = self._last_start = self._clock.monotonic_ns()
            if any(gathering.readings for gathering in gatherings):
                self._last_readings = start
            try:
                segments = self._commit(gatherings, start, until)
            except BaseException as error:  # noqa: BLE001 - handed to whoever awaits run()
                self._loop.call_soon_threadsafe(self._fail, error, gatherings)
                return
            self._loop.call_soon_threadsafe(self._committed, gatherings, segments)

    def _next_gatherings(self) -> tuple[list[_Gathering], int] | None:
        """What to commit next, when it is time, and the time before which nothing is left behind by it; None when
        everything is committed and the writer closes.
        """
        with self._signal:
            while True:
                if not self._gatherings:
                    if self._closing:
                        return None
                    self._signal.wait()
                    continue
                # Readings wait for readings alone: those of a start are not held up by the entries that go before them.
                last = self._last_readings if self._gatherings[0].readings else self._last_start
                wait_ns = 0 if last is None else last + self._commit_ns - self._clock.monotonic_ns()
                # Somebody waits for memory, or a commit is full: sooner is as good for flash, which wears by volume.
                full = len(self._gatherings) > 1
                if wait_ns <= 0 or full or self._closing or self._hurry or self._flushing:
                    return self._take_first()
                self._signal.wait(wait_ns / 1e9)

    def _take_first(self) -> tuple[list[_Gathering], int]:
        taken = [self._gatherings.popleft()]
        room = self._ahead_bytes - taken[0].nbytes
        while self._gatherings and self._gatherings[0].nbytes <= room:
            taken.append(self._gatherings.popleft())
            room -= taken[-1].nbytes
        now = self._clock.time_ns()
        return taken, min(now, self._gatherings[0].begun) if self._gatherings else now

    def _commit(self, gatherings: list[_Gathering], start: int, until: int) -> list[Segment]:
        calls = (call for gathering in gatherings for call in gathering.calls)
        segments = merged([segment for call in calls for segment in pieces(call)])
        next_n = self._number(segments)
        readings = sum(len(r.batch) for s in segments for r in s.records if isinstance(r, BatchRecord))
        encoded = self._clock.monotonic_ns()
        if segments:
            self._append(segments, until)
        self._next_n.update(next_n)
        commits, total_s, _, readings_total, bytes_total, encode_s = self._figures
        took = (self._clock.monotonic_ns() - start) / 1e9
        size = sum(segment.nbytes for segment in segments)
        self._ahead_bytes = sum(gathering.nbytes for gathering in gatherings) / max(took, 1e-3) * self._ahead_s
        self._figures = (
            commits + 1,
            total_s + took,
            took,
            readings_total + readings,
            bytes_total + size,
            encode_s + (encoded - start) / 1e9,
        )
        return segments

    def _number(self, segments: list[Segment]) -> dict[Series, int]:
        """Give every batch and event its offset, in the queue's order."""
        next_n: dict[Series, int] = {}
        for segment in segments:
            for record in segment.records:
                if isinstance(record, BatchRecord | EventRecord):
                    series = record.series
                    record.n = next_n.get(series, self._next_n.get(series, 0))
                    next_n[series] = record.n + (len(record.batch) if isinstance(record, BatchRecord) else 1)
        return next_n

    def _append(self, segments: list[Segment], until: int) -> None:
        failures = 0
        while True:
            try:
                self._store.append(segments, self._store.bounds()[1], until)
            except LogFullError as error:
                if self._closing and failures:
                    raise
                failures = 1
                self._stall(str(error))
            except LogIOError as error:
                failures += 1
                if failures >= _IO_TRIES:
                    raise
                self._stall(str(error))
            else:
                if self._stalled is not None:
                    logger.warning("the log is written again")
                    self._stalled = None
                return

    def _stall(self, reason: str) -> None:
        if self._stalled is None:
            logger.error("the log is not written, trying again every %g s: %s", _RETRY_S, reason)
        self._stalled = reason
        with self._signal:
            if not self._closing:
                self._signal.wait_for(lambda: self._closing, _RETRY_S)
