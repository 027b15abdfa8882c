"""Questions about nodes: attributes, properties, supertypes. Batched, paced, and never a reason to lose the link.

For what is good to know and not needed: a server that does not answer, or not so that it can be read, leaves it
unknown. Only a lost link is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import UaError

from adapters.opcua.decoding.envelope import READ_RESPONSE, read_header
from adapters.opcua.decoding.variant import DecodeError
from adapters.opcua.errors import TOO_MUCH, UNREADABLE, status_name
from adapters.opcua.session import stack
from adapters.opcua.session.limits import Limits
from adapters.opcua.session.pace import Priority

T = TypeVar("T")
R = TypeVar("R")
_logger = logging.getLogger(__name__)

_BROWSE_RESPONSE: Final = 530
_BROWSE_NEXT_RESPONSE: Final = 536
"""ids of the binary encodings (Part 6, annex A: NodeIds.csv)"""
_HAS_SUBTYPE: Final = 45
HAS_PROPERTY: Final = 46
_MOST_PER_CALL: Final = 100
"""nodes of which whole definitions or values are asked for; no server that is known bears fewer"""
_MOST_PAGES: Final = 100
"""BrowseNext requests after which a server that never comes to an end is left alone"""


class Asks(Protocol):
    """What is needed of a session."""

    url: str
    limits: Limits

    async def raw(self, doing: str, request: Any, *, priority: Priority) -> bytes:
        """The body of the answer as it came, a fault included. Raises AdapterError."""


class Lookup:
    """Asks one server. Every method raises AdapterError when the link fails."""

    def __init__(self, session: Asks, priority: Priority = Priority.BACKGROUND) -> None:
        self._session = session
        self._priority = priority
        self._per_read = session.limits.nodes_per_read
        self._per_browse = min(session.limits.nodes_per_browse, _MOST_PER_CALL)

    async def attributes(self, nodes: Sequence[ua.NodeId], attribute: AttributeIds = AttributeIds.Value) -> list[Any]:
        """The attribute of each node; None where there is none, it is bad, or asyncua cannot read it."""

        async def ask(part: Sequence[ua.NodeId]) -> list[Any] | None:
            request = ua.ReadRequest()
            request.Parameters.NodesToRead = [ua.ReadValueId(NodeId=node, AttributeId=attribute) for node in part]
            answer = await self._ask("reading about nodes", request, READ_RESPONSE, ua.ReadResponse)
            return None if answer is None else [_good(result) for result in answer.Results or ()]

        small = attribute not in (AttributeIds.Value, AttributeIds.DataTypeDefinition)
        return await self._all(nodes, self._per_read if small else min(self._per_read, _MOST_PER_CALL), ask)

    async def properties(self, nodes: Sequence[ua.NodeId]) -> list[dict[str, ua.NodeId] | None]:
        """The properties of each node by their browse names; None where the server does not say."""
        found = await self._browse(nodes, HAS_PROPERTY, ua.BrowseDirection.Forward, ua.BrowseResultMask.BrowseName)
        return [
            None if references is None else {str(each.BrowseName.Name): _plain(each.NodeId) for each in references}
            for references in found
        ]

    async def supertypes(self, types: Sequence[ua.NodeId]) -> list[ua.NodeId | None]:
        """What each type is a subtype of."""
        found = await self._browse(types, _HAS_SUBTYPE, ua.BrowseDirection.Inverse, ua.BrowseResultMask(0))
        return [_plain(references[0].NodeId) if references else None for references in found]

    async def _browse(
        self, nodes: Sequence[ua.NodeId], reference: int, direction: ua.BrowseDirection, mask: ua.BrowseResultMask
    ) -> list[list[ua.ReferenceDescription] | None]:
        async def ask(part: Sequence[ua.NodeId]) -> list[list[ua.ReferenceDescription] | None] | None:
            request = ua.BrowseRequest()
            request.Parameters.NodesToBrowse = [
                ua.BrowseDescription(
                    NodeId=node,
                    BrowseDirection=direction,
                    ReferenceTypeId=stack.node_id(reference),
                    IncludeSubtypes=True,
                    NodeClassMask=ua.UInt32(0),
                    ResultMask=ua.UInt32(mask),
                )
                for node in part
            ]
            answer = await self._ask("browsing about nodes", request, _BROWSE_RESPONSE, ua.BrowseResponse)
            return None if answer is None else await self._whole(list(answer.Results or ()))

        return await self._all(nodes, self._per_browse, ask)

    async def _whole(self, results: list[ua.BrowseResult]) -> list[list[ua.ReferenceDescription] | None]:
        """The references of each result, with those behind its continuation point."""
        found = [None if result.StatusCode.value >> 30 else list(result.References or ()) for result in results]
        open = {at: result.ContinuationPoint for at, result in enumerate(results) if result.ContinuationPoint}
        for _ in range(_MOST_PAGES):
            if not open:
                break
            request = ua.BrowseNextRequest()
            request.Parameters.ContinuationPoints = list(open.values())
            answer = await self._ask("browsing on", request, _BROWSE_NEXT_RESPONSE, ua.BrowseNextResponse)
            if answer is None:
                break
            more = dict(zip(open, answer.Parameters.Results or (), strict=False))
            for at, result in more.items():
                known = found[at]
                if known is not None:
                    known += result.References or ()
            open = {at: result.ContinuationPoint for at, result in more.items() if result.ContinuationPoint}
        return found

    async def _all(
        self, things: Sequence[T], per_call: int, ask: Callable[[Sequence[T]], Awaitable[Sequence[R | None] | None]]
    ) -> list[R | None]:
        """One result for each thing, None where there is none."""
        results: list[R | None] = []
        for start in range(0, len(things), per_call):
            results += await self._part(things[start : start + per_call], ask)
        return results

    async def _part(
        self, part: Sequence[T], ask: Callable[[Sequence[T]], Awaitable[Sequence[R | None] | None]]
    ) -> list[R | None]:
        """What is too much at once, or spoilt by one of many, is asked for in halves."""
        answers = await ask(part)
        if answers is None and len(part) > 1:
            half = (len(part) + 1) // 2
            return [*await self._part(part[:half], ask), *await self._part(part[half:], ask)]
        results: list[R | None] = list(answers or ())[: len(part)]
        return results + [None] * (len(part) - len(results))

    async def _ask(self, doing: str, request: Any, type: int, response: type[R]) -> R | None:
        """The answer; None where a smaller question may have one."""
        body = await self._session.raw(doing, request, priority=self._priority)
        try:
            result, start = read_header(body, type, response.__name__)
            if start is not None:
                return struct_from_binary(response, Buffer(body))
        except (DecodeError, UaError, *UNREADABLE) as error:
            _logger.debug("%s: %s: %r", self._session.url, doing, error)
            return None
        _logger.debug("%s: %s: %s", self._session.url, doing, status_name(result))
        return None if result in TOO_MUCH else response()


def _good(result: ua.DataValue) -> Any:
    if result.Value is None or (result.StatusCode is not None and result.StatusCode.value >> 30):
        return None
    return result.Value.Value


def _plain(node: ua.ExpandedNodeId) -> ua.NodeId:
    """A node of this server, as a request names it."""
    return stack.node_id(node.Identifier, int(node.NamespaceIndex), node.NodeIdType)
