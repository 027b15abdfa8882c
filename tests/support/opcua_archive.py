"""A server's history that a test scripts, in the place of asyncua's connection: each of its bad manners by a switch."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_to_binary

from adapters.opcua.session.limits import Limits
from adapters.opcua.session.pace import Pace
from adapters.opcua.session.session import Session

EPOCH = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
"""what `at` counts from"""


def at(second: float) -> Any:
    """A moment, as asyncua takes it."""
    return EPOCH + datetime.timedelta(seconds=second)


def value(content: Any, second: float, status: int = 0, type: ua.VariantType | None = None) -> ua.DataValue:
    """One of the history's values."""
    variant = ua.Variant(content) if type is None else ua.Variant(content, type)
    return ua.DataValue(
        variant, ua.StatusCode(ua.UInt32(status)), SourceTimestamp=at(second), ServerTimestamp=at(second)
    )


def node(name: str) -> ua.NodeId:
    """A node of the archive."""
    make: Any = ua.NodeId
    made: ua.NodeId = make(name, 2)
    return made


class Asked(NamedTuple):
    """One HistoryReadRequest as it came."""

    nodes: tuple[str, ...]
    continuations: tuple[bytes, ...]
    """empty for a node that is read from the beginning"""
    release: bool
    limit: int
    """values per node"""


class Archive:
    """Answers HistoryReadRequests and looks at access levels; one that keeps to the standard, unless told otherwise."""

    def __init__(self, **values: Sequence[ua.DataValue]) -> None:
        self.values = {name: list(of) for name, of in values.items()}
        self.page = 10_000
        """the most values of an answer"""
        self.pointless = False
        """a full answer comes without a continuation point"""
        self.repeats = False
        """whoever follows a continuation point gets the first page again"""
        self.past_the_end = False
        """the end of the window is not looked at"""
        self.faults: list[int] = []
        """service results of the next answers"""
        self.statuses: dict[str, list[int]] = {}
        """operation results of the next answers, by node"""
        self.most_nodes = 1000
        self.silent = False
        """no answer at all"""
        self.level = 0x05
        self.asked: list[Asked] = []
        self.held: dict[bytes, tuple[str, int, datetime.datetime]] = {}
        """continuation points that the server keeps: the node, where it goes on, and the end of the window"""
        self.transport = object()
        self._points = 0

    def session(self, requests_per_s: float | None = None, nodes_per_history: int = 1000) -> Session:
        """A session with it."""
        client = SimpleNamespace(uaclient=SimpleNamespace(protocol=self))
        session: Any = Session.__new__(Session)
        session.client, session.url, session.timeout = client, "opc.tcp://archive:4840", 5.0
        session.pace = Pace(requests_per_s)
        session.limits = Limits(nodes_per_history=nodes_per_history)
        session.nodes_per_read = 1000
        return cast(Session, session)

    def _send_request(self, request: Any, timeout: float) -> asyncio.Future[Buffer]:
        future: asyncio.Future[Buffer] = asyncio.get_running_loop().create_future()
        if isinstance(request, ua.ReadRequest):
            answer: Any = ua.ReadResponse()
            answer.Results = [
                ua.DataValue(ua.Variant(self.level, ua.VariantType.Byte)) for _ in request.Parameters.NodesToRead
            ]
        else:
            answer = self._history(request.Parameters)
        if not self.silent:
            future.set_result(Buffer(struct_to_binary(answer)))
        return future

    def _history(self, wanted: Any) -> Any:
        nodes = wanted.NodesToRead
        names = tuple(str(each.NodeId.Identifier) for each in nodes)
        points = tuple(bytes(each.ContinuationPoint or b"") for each in nodes)
        details = wanted.HistoryReadDetails
        self.asked.append(Asked(names, points, wanted.ReleaseContinuationPoints, details.NumValuesPerNode))
        assert not details.IsReadModified
        assert not details.ReturnBounds
        assert wanted.TimestampsToReturn == ua.TimestampsToReturn.Both
        if self.faults or len(nodes) > self.most_nodes:
            fault = ua.ServiceFault()
            fault.ResponseHeader.ServiceResult = ua.StatusCode(
                ua.UInt32(self.faults.pop(0) if self.faults else 0x80100000)
            )
            return fault
        answer = ua.HistoryReadResponse()
        answer.Results = [
            self._result(name, point, details, release=wanted.ReleaseContinuationPoints)
            for name, point in zip(names, points, strict=True)
        ]
        return answer

    def _result(self, name: str, point: bytes, details: Any, release: bool) -> ua.HistoryReadResult:
        result = ua.HistoryReadResult()
        if self.statuses.get(name):
            self.held.pop(point, None)
            result.StatusCode = ua.StatusCode(ua.UInt32(self.statuses[name].pop(0)))
            return result
        start, end, values = 0, details.EndTime, self.values[name]
        if point:
            _, start, end = self.held.pop(point)
        else:
            start = sum(1 for each in values if each.SourceTimestamp and each.SourceTimestamp < details.StartTime)
        if release:
            return result
        inside = [
            each
            for each in values[start:]
            if self.past_the_end or not each.SourceTimestamp or each.SourceTimestamp < end
        ]
        size = min(self.page, details.NumValuesPerNode)
        if len(inside) > size and not self.pointless:
            self._points += 1
            result.ContinuationPoint = f"{name}:{self._points}".encode()
            self.held[result.ContinuationPoint] = (name, start if self.repeats else start + size, end)
        if not inside:
            result.StatusCode = ua.StatusCode(ua.UInt32(0x00A50000))
        result.HistoryData = ua.HistoryData(DataValues=inside[:size])
        return result
