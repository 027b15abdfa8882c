"""Browse and Read in batches that the server can bear, paced, over one session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary
from asyncua.ua.uaerrors import UaStatusCodeError

from adapters.opcua.decoding.variant import DecodeError
from adapters.opcua.errors import TOO_MUCH, service_failed, translate_errors
from adapters.opcua.session import stack
from adapters.opcua.session.pace import Priority
from adapters.opcua.session.session import Session
from adapters.opcua.tools.readings import Reading, read_results
from gateway.contract import LinkLost

T = TypeVar("T")
R = TypeVar("R")

_NAMESPACE_ARRAY: Final = 2255
_PRODUCT: Final = 2261
_MANUFACTURER: Final = 2263
_VERSION: Final = 2264
_MAX_CONTINUATIONS: Final = 2735
_MAX_READ: Final = 11705
_MAX_BROWSE: Final = 11710
"""node ids of namespace 0 (Part 6, annex A: NodeIds.csv)"""

_HIERARCHICAL: Final = 33
_OWN_PER_CALL: Final = 1000
"""nodes in a request where the server allows more: keeps answers well below usual message sizes"""
_REFERENCES_PER_NODE: Final = 1000
"""so that a folder of 100,000 nodes comes in parts"""
_NO_CONTINUATION: Final = 0x804B0000
"""BadNoContinuationPoints: the server has too many open ones; ask again for fewer nodes"""
_MOST_BARREN: Final = 3
"""answers in a row that promise more references and bring none"""
_ENDLESS: Final = 0x80010000
"""BadUnexpectedError: in place of a status where a server promises more without end"""
_CACHE_MS: Final = 10_000.0
"""a browse takes values that the server has had for so long, rather than have it ask the equipment"""


@dataclass(slots=True)
class Children:
    """What a Browse said about one node."""

    references: list[ua.ReferenceDescription] = field(default_factory=list)
    status: int = 0
    whole: bool = True
    """False: there are more references that were not fetched"""


class Caller(Protocol):
    """Sends one request and returns its answer; raises UaStatusCodeError for a refused service, else AdapterError."""

    async def call(self, doing: str, request: Any, response: type[T]) -> T:
        """The answer, decoded."""
        ...

    async def raw(self, doing: str, request: Any) -> bytes:
        """The answer's bytes after its header."""
        ...


class SessionCaller:
    """Calls over a session, at its pace."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def call(self, doing: str, request: Any, response: type[T]) -> T:
        """See `Caller`."""
        await self._session.pace.wait(Priority.ITEMS)
        return await self._guard(doing, stack.call(self._session.client, request, response, self._session.timeout))

    async def raw(self, doing: str, request: Any) -> bytes:
        """See `Caller`."""
        await self._session.pace.wait(Priority.ITEMS)
        return await self._guard(doing, self._raw(request))

    async def _raw(self, request: Any) -> bytes:
        answer = await stack.ask(self._session.client, request, self._session.timeout)
        nodeid_from_binary(answer)
        struct_from_binary(ua.ResponseHeader, answer).ServiceResult.check()
        return stack.body(answer)

    async def _guard(self, doing: str, answer: Awaitable[T]) -> T:
        refusal: UaStatusCodeError
        with translate_errors(f"{self._session.url}: {doing}"):
            try:
                return await answer
            except UaStatusCodeError as error:
                refusal = error
        raise refusal


class Link:
    """Batched questions to one server."""

    def __init__(self, caller: Caller, url: str) -> None:
        self._caller = caller
        self._url = url
        self._per_read = _OWN_PER_CALL
        self._per_browse = _OWN_PER_CALL
        self._continuations = _OWN_PER_CALL
        self.requests = 0
        self.namespaces: list[str] = []
        self.device: dict[str, str] = {}

    async def learn(self) -> None:
        """Ask for the server's limits, namespaces and name, in one request."""
        asked = (_NAMESPACE_ARRAY, _MAX_BROWSE, _MAX_READ, _MAX_CONTINUATIONS, _PRODUCT, _MANUFACTURER, _VERSION)
        values = [
            reading.value if reading.good else None
            for reading in await self.read([(stack.node_id(node), AttributeIds.Value) for node in asked])
        ]
        namespaces, browse, read, continuations, *names = values
        self.namespaces = [str(uri) for uri in namespaces] if isinstance(namespaces, list) else []
        self._per_browse = _within(browse)
        self._per_read = _within(read)
        self._continuations = _within(continuations)
        keys = ("product", "manufacturer", "version")
        self.device = {key: name for key, name in zip(keys, names, strict=True) if isinstance(name, str) and name}

    async def read(self, asked: Sequence[tuple[ua.NodeId, int]], *, cached: bool = False) -> list[Reading]:
        """One reading for each (node, attribute). Raises AdapterError."""

        async def ask(chunk: Sequence[tuple[ua.NodeId, int]]) -> list[Reading]:
            request = ua.ReadRequest()
            request.Parameters.MaxAge = _CACHE_MS if cached else 0.0
            request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            request.Parameters.NodesToRead = [
                ua.ReadValueId(NodeId=node, AttributeId=attribute) for node, attribute in chunk
            ]
            data = await self._caller.raw("reading", request)
            try:
                return read_results(data)
            except DecodeError as error:
                raise LinkLost(f"{self._url}: reading: the server's answer cannot be read: {error}") from error

        results, self._per_read = await self._batches("reading", asked, self._per_read, ask)
        return results

    async def browse(self, nodes: Sequence[ua.NodeId], room: int) -> list[Children]:
        """The hierarchical forward references of each node, about `room` in all. Raises AdapterError."""
        found = [Children() for _ in nodes]
        waiting = list(range(len(nodes)))
        fewer = 0  # while continuation points are short
        while waiting and room > 0:
            chunk = waiting[: fewer or self._per_browse]
            results, self._per_browse = await self._batches(
                "browsing", [nodes[index] for index in chunk], self._per_browse, self._ask_browse
            )
            open: dict[int, bytes] = {}
            again = []
            for index, result in zip(chunk, results, strict=True):
                found[index].status = result.StatusCode.value
                found[index].references = list(result.References or ())
                room -= len(found[index].references)
                if result.ContinuationPoint:
                    open[index] = result.ContinuationPoint
                elif found[index].status == _NO_CONTINUATION and len(chunk) > 1:
                    again.append(index)
            room = await self._continue(open, found, room)
            waiting = again + waiting[len(chunk) :]
            fewer = max(1, len(chunk) // 2) if again else 0
        for index in waiting:
            found[index].whole = False
        return found

    async def _continue(self, open: dict[int, bytes], found: list[Children], room: int) -> int:
        """Follow continuation points to their ends, or release what does not fit; returns the room that is left."""
        barren = 0
        while open and room > 0 and barren < _MOST_BARREN:
            chunk = list(open)[: self._continuations]
            results = await self._ask_next([open[index] for index in chunk], release=False)
            barren = 0 if any(result.References for result in results) else barren + 1
            for index, result in zip(chunk, results, strict=True):
                found[index].references += result.References or ()
                room -= len(result.References or ())
                if result.StatusCode.value >> 30:
                    found[index].status = result.StatusCode.value
                if result.ContinuationPoint:
                    open[index] = result.ContinuationPoint
                else:
                    del open[index]
        if open:
            await self._ask_next(list(open.values()), release=True)
            for index in open:
                if barren >= _MOST_BARREN:
                    found[index].status = _ENDLESS
                else:
                    found[index].whole = False
        return room

    async def _ask_browse(self, nodes: Sequence[ua.NodeId]) -> list[ua.BrowseResult]:
        request = ua.BrowseRequest()
        request.Parameters.RequestedMaxReferencesPerNode = _REFERENCES_PER_NODE
        request.Parameters.NodesToBrowse = [
            ua.BrowseDescription(
                NodeId=node,
                BrowseDirection=ua.BrowseDirection.Forward,
                ReferenceTypeId=stack.node_id(_HIERARCHICAL),
                IncludeSubtypes=True,
                NodeClassMask=ua.NodeClass.Object | ua.NodeClass.Variable,
                ResultMask=ua.BrowseResultMask.All,
            )
            for node in nodes
        ]
        answer = await self._caller.call("browsing", request, ua.BrowseResponse)
        return list(answer.Results)

    async def _ask_next(self, points: list[bytes], *, release: bool) -> list[ua.BrowseResult]:
        request = ua.BrowseNextRequest()
        request.Parameters.ReleaseContinuationPoints = release
        request.Parameters.ContinuationPoints = points
        self.requests += 1
        try:
            answer = await self._caller.call("browsing on", request, ua.BrowseNextResponse)
        except UaStatusCodeError as error:
            raise service_failed(f"{self._url}: browsing on", error.code) from error
        results = list(answer.Parameters.Results)
        if not release and len(results) != len(points):
            raise LinkLost(f"{self._url}: browsing on: the server sent {len(results)} results for {len(points)} nodes")
        return results

    async def _batches(
        self, doing: str, things: Sequence[T], per_call: int, ask: Callable[[Sequence[T]], Awaitable[list[R]]]
    ) -> tuple[list[R], int]:
        """One result for each thing, and the batch size that the server bore."""
        results: list[R] = []
        while len(results) < len(things):
            chunk = things[len(results) : len(results) + per_call]
            self.requests += 1
            try:
                part = await ask(chunk)
            except UaStatusCodeError as error:
                if error.code not in TOO_MUCH or len(chunk) == 1:
                    raise service_failed(f"{self._url}: {doing}", error.code) from error
                per_call = len(chunk) // 2
                continue
            if len(part) != len(chunk):
                raise LinkLost(f"{self._url}: {doing}: the server sent {len(part)} results for {len(chunk)} nodes")
            results += part
        return results, per_call


def _within(limit: Any) -> int:
    """The server's limit where it names one (0 = none), never above ours."""
    return min(limit, _OWN_PER_CALL) if isinstance(limit, int) and limit > 0 else _OWN_PER_CALL
