"""Values of many nodes by Read (Part 4, 5.11.2), through our own decoder: poll mode, and the look after an outage."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from adapters.opcua.decoding.batches import Moment
from adapters.opcua.decoding.decode import Items, decode_values
from adapters.opcua.decoding.envelope import READ_RESPONSE, read_header
from adapters.opcua.decoding.fallback import decode_other
from adapters.opcua.decoding.structures import Structures
from adapters.opcua.decoding.variant import DecodeError
from adapters.opcua.errors import TOO_MUCH, service_failed, status_name
from adapters.opcua.session import stack
from adapters.opcua.session.limits import Limits
from adapters.opcua.session.pace import Priority
from gateway.contract import LinkLost
from gateway.contract.status import BAD_DECODING_ERROR

_logger = logging.getLogger(__name__)

BOTH: Final = ua.TimestampsToReturn.Both
SERVER: Final = ua.TimestampsToReturn.Server


class Asks(Protocol):
    """What is needed of a session."""

    url: str
    limits: Limits

    async def raw(self, doing: str, request: Any, *, priority: Priority) -> bytes:
        """The body of the answer as it came, a fault included. Raises AdapterError."""


class Wanted(NamedTuple):
    """A node to read, and the permanent index of its point."""

    point: int
    node: ua.NodeId


class _Prepared(NamedTuple):
    """A request for nodes, ready to be sent again."""

    nodes: tuple[Wanted, ...]
    points: npt.NDArray[np.uint32]
    request: stack.Encoded


class Learner(Protocol):
    """What learns the structures of values."""

    structures: Structures

    async def learn(self, decoded: Sequence[Items], nodes_of: Callable[[Sequence[int]], Sequence[ua.NodeId]]) -> bool:
        """True if `decoded` would now be decoded otherwise."""


class ValueReader:
    """Reads in batches that the server bears, one request at a time.

    A value that cannot be decoded, or is too large for an answer, costs no other value: see `unreadable`.
    """

    def __init__(
        self,
        session: Asks,
        learner: Learner,
        *,
        doing: str,
        priority: Priority,
        times: ua.TimestampsToReturn = BOTH,
    ) -> None:
        """`doing` says in an error what failed."""
        self._session = session
        self._learner = learner
        self._doing = doing
        self._priority = priority
        self._times = times
        self._decode_other = functools.partial(decode_other, structures=learner.structures)
        self._one = asyncio.Lock()
        self._prepared: dict[tuple[int, float], _Prepared] = {}
        """by the first point and the age"""
        self.per_request = session.limits.nodes_per_read
        """nodes; becomes less where the server bears less than it says"""
        self.unreadable: dict[int, int] = {}
        """points that spoil an answer, with the status that stands for their value; they are not asked for"""

    async def read(
        self,
        nodes: Sequence[Wanted],
        now: Callable[[], Moment],
        take: Callable[[list[Items], Moment], Awaitable[None]],
        max_age_s: float = 0.0,
    ) -> None:
        """Read the nodes but the unreadable ones; `take` has the values of each answer with the moment it came.

        Raises AdapterError when the link or the server fails.
        """
        if self.unreadable:
            nodes = [wanted for wanted in nodes if wanted.point not in self.unreadable]
        done = 0
        while done < len(nodes):
            chunk = nodes[done : done + self.per_request]
            done += len(chunk)
            await self._read(chunk, now, take, max_age_s)

    async def _read(
        self,
        chunk: Sequence[Wanted],
        now: Callable[[], Moment],
        take: Callable[[list[Items], Moment], Awaitable[None]],
        max_age_s: float,
    ) -> None:
        prepared = self._prepare(chunk, max_age_s)
        async with self._one:
            body = await self._session.raw(self._doing, prepared.request, priority=self._priority)
        moment = now()
        where = f"{self._session.url}: {self._doing}"
        try:
            result, start = read_header(body, READ_RESPONSE, "ReadResponse")
        except DecodeError as error:
            raise LinkLost(f"{where}: the server's answer cannot be read: {error}") from error
        if start is None and result not in TOO_MUCH:
            raise service_failed(where, result)
        if start is not None:
            try:
                decoded = await self._decode(body, start, prepared)
            except DecodeError as error:
                result = BAD_DECODING_ERROR
                _logger.debug("%s: %d values: %s", where, len(chunk), error)
            else:
                await take(decoded, moment)
                return
        if len(chunk) == 1:
            self.unreadable[chunk[0].point] = result
            return
        known, half = len(self.unreadable), (len(chunk) + 1) // 2
        for part in (chunk[:half], chunk[half:]):
            await self._read(part, now, take, max_age_s)
        if len(self.unreadable) == known and half < self.per_request:
            self.per_request = half
            _logger.info("%s: the server bears %d nodes at once: %s", where, half, status_name(result))

    def _prepare(self, chunk: Sequence[Wanted], max_age_s: float) -> _Prepared:
        key = chunk[0].point, max_age_s
        known = self._prepared.get(key)
        if known is not None and known.nodes == tuple(chunk):
            return known
        request = ua.ReadRequest()
        request.Parameters.MaxAge = max_age_s * 1000
        request.Parameters.TimestampsToReturn = self._times
        request.Parameters.NodesToRead = [
            ua.ReadValueId(NodeId=wanted.node, AttributeId=AttributeIds.Value) for wanted in chunk
        ]
        points = np.array([wanted.point for wanted in chunk], np.uint32)
        prepared = self._prepared[key] = _Prepared(tuple(chunk), points, stack.encoded(request))
        return prepared

    async def _decode(self, body: bytes, start: int, prepared: _Prepared) -> list[Items]:
        """Raises DecodeError, AdapterError."""
        decoded = decode_values(body, start, prepared.points, self._decode_other)

        def nodes_of(points: Sequence[int]) -> list[ua.NodeId]:
            chosen = set(points)
            return [wanted.node for wanted in prepared.nodes if wanted.point in chosen]

        if await self._learner.learn(decoded, nodes_of):
            decoded = decode_values(body, start, prepared.points, self._decode_other)
        return decoded
