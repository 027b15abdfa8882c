"""HistoryRead of raw values (Part 4, 5.11.3; Part 11, 6.5.3): several nodes per request, one request at a time.

Servers differ, and some are wrong: pages may overlap, repeat, be out of order, run past the end or never end. What
counts is progress in time; a node without any is given up. Continuation points that are not followed are released.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from adapters.opcua.decoding.decode import Items, decode_values
from adapters.opcua.decoding.envelope import HistoryResult, read_history
from adapters.opcua.decoding.variant import DecodeError, OtherVariant, read_length
from adapters.opcua.errors import TOO_MUCH, service_failed, status_name, translate_errors
from adapters.opcua.session import stack
from adapters.opcua.session.pace import Priority
from adapters.opcua.session.session import Session
from gateway.contract.status import BAD_DECODING_ERROR

_logger = logging.getLogger(__name__)

NODES_PER_REQUEST: Final = 10
VALUES_PER_NODE: Final = 1000
"""of one answer: with ten nodes some 300 kB of doubles"""
_TIMEOUT_S: Final = 30.0
"""archives are slower than live values"""
_MOST_PAGES: Final = 10_000
"""of one node and window"""
_MOST_STALLS: Final = 3
"""answers in a row without progress in time"""
_SUSPICIOUS: Final = 10
"""times the usual distance of values, between the last one and the end of the window"""
_FEW: Final = 10
"""values from which nothing can be told"""
_MARGIN_TICKS: Final = 10_000
"""1 ms: servers that keep times as milliseconds must not cut off the last value of the window"""
_HISTORY_READ: Final = 0x04
"""bit of AccessLevel and UserAccessLevel (Part 3, 8.57)"""
_DOING: Final = "reading history"
_NO_DIAGNOSTICS: Final = b"\xff\xff\xff\xff"

NO_DATA: Final = frozenset({0x00A50000, 0x809B0000})
"""GoodNoData, BadNoData"""
NO_HISTORY: Final = frozenset(
    {
        0x80720000,  # BadHistoryOperationUnsupported
        0x80710000,  # BadHistoryOperationInvalid
        0x801F0000,  # BadUserAccessDenied
        0x803A0000,  # BadNotReadable
        0x800B0000,  # BadServiceUnsupported
        0x803D0000,  # BadNotSupported
        0x80400000,  # BadNotImplemented
        0x80330000,  # BadNodeIdInvalid
        0x80340000,  # BadNodeIdUnknown
        0x80350000,  # BadAttributeIdInvalid
        0x80E60000,  # BadSecurityModeInsufficient
    }
)
"""asking again is of no use before something changes"""
_OUTDATED: Final = 0x804A0000
"""BadContinuationPointInvalid"""
_NO_CONTINUATION: Final = 0x804B0000
"""BadNoContinuationPoints"""
_TOO_MUCH: Final = TOO_MUCH | {_NO_CONTINUATION}
"""ask for less at a time"""
_LATER: Final = frozenset({0x800A0000, 0x80EE0000, 0x80040000, 0x80030000, 0x80850000})
"""BadTimeout, BadServerTooBusy, BadResourceUnavailable, BadOutOfMemory, BadRequestTimeout"""
_SESSION_ENDED: Final = frozenset({0x80250000, 0x80260000, 0x80270000, 0x80220000})
"""BadSessionIdInvalid, BadSessionClosed, BadSessionNotActivated, BadSecureChannelIdInvalid"""
STUCK: Final = 0x80010000
"""BadUnexpectedError: in place of a status where a server sends without end and without progress"""


class Busy(Exception):
    """The server cannot answer now; ask later, and slower."""


class Ask(NamedTuple):
    """One node's window, both ends included."""

    point: int
    node: ua.NodeId
    start: int
    """100 ns ticks since 1601"""
    end: int


class Page(NamedTuple):
    """A part of a point's history as it came: perhaps unordered, perhaps with values outside of the window."""

    point: int
    items: list[Items]


Take = Callable[[list[Page]], Awaitable[None]]
"""Has what one answer held; the next is asked for when it returns."""


@dataclass(slots=True)
class _Thread:
    """How far one node has been read."""

    ask: Ask
    at: int
    """ticks: where to begin anew"""
    seen: int = 0
    """ticks: the newest time of what came since it was begun"""
    continuation: bytes = b""
    pages: int = 0
    stalls: int = 0


class _Next(Enum):
    """What to do with a node after an answer."""

    FOLLOW = auto()
    ANEW = auto()
    DONE = auto()


class HistoryReader:
    """Reads over one connection; learns what its server bears."""

    def __init__(self, session: Session, other: OtherVariant) -> None:
        self._session = session
        self._other = other
        self._nodes = min(session.limits.nodes_per_history, NODES_PER_REQUEST)
        self._values = VALUES_PER_NODE
        self.unsupported: int | None = None
        """the status with which the server refuses the service altogether"""

    async def readable(self, nodes: Mapping[int, ua.NodeId]) -> set[int]:
        """Which points' history this user may read, by UserAccessLevel and AccessLevel. Raises AdapterError."""
        found = set()
        points = list(nodes)
        step = max(1, self._session.nodes_per_read // 2)
        for start in range(0, len(points), step):
            chunk = points[start : start + step]
            request = ua.ReadRequest()
            request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
            request.Parameters.NodesToRead = [
                ua.ReadValueId(NodeId=nodes[point], AttributeId=attribute)
                for point in chunk
                for attribute in (AttributeIds.AccessLevel, AttributeIds.UserAccessLevel)
            ]
            answer = await self._session.call(
                "reading which points have a history", request, ua.ReadResponse, priority=Priority.BACKGROUND
            )
            levels = [value.Value.Value if value.Value is not None else None for value in answer.Results]
            for point, pair in zip(chunk, zip(levels[::2], levels[1::2], strict=False), strict=False):
                bits = [level for level in pair if isinstance(level, int)]
                if bits and all(level & _HISTORY_READ for level in bits):
                    found.add(point)
        return found

    async def read(self, asks: Sequence[Ask], take: Take) -> dict[int, int]:
        """Read windows that begin at about the same time; `take` has their values page by page.

        Returns the status of each point whose history could not be read to its end. Raises Busy, or AdapterError when
        the link or the session fails.
        """
        failed: dict[int, int] = {}
        waiting = deque([[_Thread(ask, ask.start - _MARGIN_TICKS) for ask in asks]])
        while waiting:
            group = waiting.popleft()
            batch, rest = group[: self._nodes], group[self._nodes :]
            if self.unsupported is not None:
                failed |= {thread.ask.point: self.unsupported for thread in group}
                continue
            if rest:
                waiting.appendleft(rest)
            again = await self._follow(batch, take, failed)
            if again:
                waiting.appendleft(again)
        return failed

    async def _follow(self, batch: list[_Thread], take: Take, failed: dict[int, int]) -> list[_Thread]:
        """Read some nodes to the end; returns those that have to be begun anew from where they are."""
        span = min(thread.at for thread in batch), max(thread.ask.end for thread in batch) + _MARGIN_TICKS
        for thread in batch:
            thread.seen = span[0]
        again: list[_Thread] = []
        try:
            while batch:
                code, body, results = await self._request(batch, span)
                if results is None:
                    again += self._too_much(batch, code, failed)
                    break
                pages: list[Page] = []
                then = [
                    self._judge(thread, body, result, span, pages, failed)
                    for thread, result in zip(batch, results, strict=True)
                ]
                left = [thread for thread, next in zip(batch, then, strict=True) if next is not _Next.FOLLOW]
                again += [thread for thread, next in zip(batch, then, strict=True) if next is _Next.ANEW]
                batch = [thread for thread in batch if thread not in left]
                if any(thread.continuation for thread in left):
                    await self._session.pace.wait(Priority.BACKGROUND)
                    self._release(left, span)
                if pages:
                    await take(pages)
                if any(result.status & 0xFFFF0000 in _LATER for result in results):
                    raise Busy("the server is busy")
        finally:
            self._release(batch, span)
        return again

    async def _request(
        self, batch: list[_Thread], span: tuple[int, int]
    ) -> tuple[int, bytes, list[HistoryResult] | None]:
        """One HistoryRead: the service result, the answer, and a result per node unless that was too much."""
        where = f"{self._session.url}: {_DOING}"
        await self._session.pace.wait(Priority.BACKGROUND)
        timeout_s = max(self._session.timeout, _TIMEOUT_S)
        with translate_errors(where):
            try:
                body = stack.body(await stack.ask(self._session.client, self._make(batch, span), timeout_s))
            except TimeoutError:
                raise Busy(f"no answer within {timeout_s:g} s") from None
        try:
            code, results = read_history(body)
        except DecodeError as error:
            _logger.debug("%s: %s", where, error)
            code, results = BAD_DECODING_ERROR, None
        if results is not None and len(results) != len(batch):
            code, results = BAD_DECODING_ERROR, None
        if results is not None or code in _TOO_MUCH or code in NO_HISTORY or code == BAD_DECODING_ERROR:
            return code, body, results
        if code in _SESSION_ENDED:
            raise service_failed(where, code)
        raise Busy(f"the server answered {status_name(code)}")

    def _make(self, batch: Sequence[_Thread], span: tuple[int, int], release: bool = False) -> ua.HistoryReadRequest:
        request = ua.HistoryReadRequest()
        parameters = request.Parameters
        parameters.HistoryReadDetails = ua.ReadRawModifiedDetails(
            IsReadModified=False,
            StartTime=ua.uatypes.win_epoch_to_datetime(span[0]),
            EndTime=ua.uatypes.win_epoch_to_datetime(span[1]),
            NumValuesPerNode=self._values,
            ReturnBounds=False,
        )
        parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        parameters.ReleaseContinuationPoints = release
        parameters.NodesToRead = [
            ua.HistoryReadValueId(NodeId=thread.ask.node, ContinuationPoint=thread.continuation or None)
            for thread in batch
        ]
        return request

    def _too_much(self, batch: list[_Thread], code: int, failed: dict[int, int]) -> list[_Thread]:
        """The server answered a request as a whole with a fault: what to begin anew, with less at once."""
        if code in NO_HISTORY:
            self.unsupported = code
        elif len(batch) > 1:
            self._nodes = len(batch) // 2
            return batch
        elif code in _TOO_MUCH and self._values > 1:
            self._values //= 2
            return batch
        failed |= {thread.ask.point: code for thread in batch}
        return []

    def _judge(
        self,
        thread: _Thread,
        body: bytes,
        result: HistoryResult,
        span: tuple[int, int],
        pages: list[Page],
        failed: dict[int, int],
    ) -> _Next:
        """Take over one node's part of an answer."""
        point, code = thread.ask.point, result.status & 0xFFFF0000
        thread.continuation = result.continuation
        thread.pages += 1
        thread.stalls += 1
        items: list[Items] = []
        if code >> 31:
            if code not in _TOO_MUCH | _LATER | {_OUTDATED} or thread.stalls >= _MOST_STALLS:
                if code not in NO_DATA:
                    failed[point] = code
                return _Next.DONE
            if code in _TOO_MUCH:
                self._nodes, self._values = max(1, self._nodes // 2), max(1, self._values // 2)
            return _Next.ANEW
        if result.values is not None:
            try:
                items = decode_history(body, result.values, point, self._other)
            except DecodeError as error:
                _logger.debug("%s: %s: %s", self._session.url, thread.ask.node, error)
                failed[point] = BAD_DECODING_ERROR
                return _Next.DONE
            if items:
                pages.append(Page(point, items))
                if not self._advance(thread, items, span[1]):
                    return _Next.DONE
        anew = not thread.continuation and thread.stalls == 0 and self._cut_off(thread, items)
        if not thread.continuation and not anew:
            return _Next.DONE
        if thread.stalls >= _MOST_STALLS or thread.pages >= _MOST_PAGES:
            failed[point] = STUCK
            return _Next.DONE
        return _Next.ANEW if anew else _Next.FOLLOW

    def _advance(self, thread: _Thread, items: list[Items], end: int) -> bool:
        """Note how far a page came; False if all of it lies past the end."""
        times = _times(items)
        inside = times[times <= end]
        if not len(inside):
            return False
        newest = int(inside.max())
        if newest > thread.seen:
            thread.stalls, thread.seen = 0, newest
            thread.at = max(thread.at, newest)
        return True

    def _cut_off(self, thread: _Thread, items: list[Items]) -> bool:
        """Whether there may be more although no continuation point says so: some servers just stop at a limit.

        It is as long as we allow, or ends much earlier than the window for how close its values are.
        """
        times = _times(items)
        if len(times) >= self._values:
            return thread.seen < thread.ask.end
        rest, spread = thread.ask.end - thread.seen, int(times.max() - times.min())
        return len(times) >= _FEW and rest * len(times) > _SUSPICIOUS * spread

    def _release(self, threads: Sequence[_Thread], span: tuple[int, int]) -> None:
        """Let the server forget what will not be fetched. Sent and not waited for: it may be the last thing we do."""
        held = [thread for thread in threads if thread.continuation]
        if not held:
            return
        request = self._make(held, span, release=True)
        for thread in held:
            thread.continuation = b""
        with contextlib.suppress(OSError):
            stack.send(self._session.client, request, 0).add_done_callback(_seen)


def decode_history(data: bytes, values: tuple[int, int], point: int, other: OtherVariant) -> list[Items]:
    """Decode a HistoryData (Part 11, 6.6.2): an array of DataValues in `data` from one place to another.

    Returns one `Items` per type, with the point as handle. Raises DecodeError.
    """
    # The same as the results of a ReadResponse, which ends with diagnostics.
    body = data[values[0] : values[1]] + _NO_DIAGNOSTICS
    count = max(read_length(body, 0, len(body)), 0)
    if count > len(body):
        raise DecodeError(f"{count} values do not fit into {len(body)} bytes")
    return decode_values(body, 0, np.full(count, point, np.uint32), other)


def _times(items: list[Items]) -> npt.NDArray[np.int64]:
    """Source times, ticks; where there is none the server's."""
    times: npt.NDArray[np.int64] = np.concatenate(
        [np.where(part.source > 0, part.source, part.server) for part in items]
    )
    return times


def _seen(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
