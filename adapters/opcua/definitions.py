"""Learns a server's structures: definitions of the data types that its points name, and of whatever is in their fields.

All requests are batched: a round of reads per depth of nesting, and of browses per step towards a built-in type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from adapters.opcua.layouts import DIAGNOSTIC_INFO, INT32, VARIANT
from adapters.opcua.structures import Structures

T = TypeVar("T")

_HAS_SUBTYPE: Final = 45
_ABSTRACT: Final = {26: VARIANT, 27: VARIANT, 28: VARIANT, 29: INT32}
"""Number, Integer, UInteger, Enumeration (Part 6, annex A: NodeIds.csv)"""
_PER_CALL: Final = 100
"""no server that is known bears fewer nodes in a request; types are few"""
_MOST_TYPES: Final = 5000
_DEEPEST: Final = 32
"""rounds after which a server that answers in circles is left alone"""


class Caller(Protocol):
    """What is needed of a session."""

    async def call(self, doing: str, request: Any, response: type[T]) -> T:
        """One service call; raises AdapterError."""


async def learn_structures(session: Caller, points: Sequence[ua.NodeId], structures: Structures) -> None:
    """Add what the values of these variables may hold. What the server does not explain is opaque, never an error.

    Raises AdapterError when the link or a whole request fails.
    """
    learner = _Learner(session)
    types = [value for value in await learner.read(points, AttributeIds.DataType) if isinstance(value, ua.NodeId)]
    await learner.learn(types)
    structures.add(learner.definitions, learner.bases())


class _Learner:
    def __init__(self, session: Caller) -> None:
        self._session = session
        self._parents: dict[str, ua.NodeId] = {}
        self._plain: dict[str, ua.NodeId] = {}
        self.definitions: dict[str, ua.StructureDefinition] = {}

    async def learn(self, types: Iterable[ua.NodeId]) -> None:
        """Read definitions, then those of their fields' types, and so on; then what the others are subtypes of."""
        pending = self._new(types)
        for _ in range(_DEEPEST):
            if not pending or len(self.definitions) + len(self._plain) > _MOST_TYPES:
                break
            values = await self.read(list(pending.values()), AttributeIds.DataTypeDefinition)
            fields: list[ua.NodeId] = []
            for (id, node), value in zip(pending.items(), values, strict=True):
                if isinstance(value, ua.StructureDefinition):
                    self.definitions[id] = value
                    fields += [field.DataType for field in value.Fields or ()]
                else:
                    self._plain[id] = node
            pending = self._new(fields)
        await self._climb()

    def bases(self) -> dict[str, int]:
        """The built-in type of each type that is no structure."""
        found = {}
        for id, node in self._plain.items():
            at: ua.NodeId | None = node
            for _ in range(_DEEPEST):
                built_in = None if at is None else _built_in(at)
                if at is None or built_in is not None:
                    break
                at = self._parents.get(at.to_string())
            if built_in is not None:
                found[id] = built_in
        return found

    async def read(self, nodes: Sequence[ua.NodeId], attribute: AttributeIds) -> list[Any]:
        """The attribute of each node; None where there is none."""
        values: list[Any] = []
        for part in _parts(nodes):
            request = ua.ReadRequest()
            request.Parameters.NodesToRead = [ua.ReadValueId(NodeId=node, AttributeId=attribute) for node in part]
            answer = await self._session.call("reading data types", request, ua.ReadResponse)
            results = list(answer.Results or ())[: len(part)]
            values += [result.Value.Value if result.Value is not None else None for result in results]
            values += [None] * (len(part) - len(results))
        return values

    async def _climb(self) -> None:
        pending = {id: node for id, node in self._plain.items() if _built_in(node) is None}
        for _ in range(_DEEPEST):
            if not pending:
                return
            found: dict[str, ua.NodeId] = {}
            for part in _parts(list(pending.values())):
                for node, parent in zip(part, await self._supertypes(part), strict=False):
                    if parent is not None:
                        self._parents[node.to_string()] = parent
                        found[parent.to_string()] = parent
            pending = {id: node for id, node in found.items() if id not in self._parents and _built_in(node) is None}

    async def _supertypes(self, nodes: Sequence[ua.NodeId]) -> list[ua.NodeId | None]:
        request = ua.BrowseRequest()
        request.Parameters.NodesToBrowse = [
            ua.BrowseDescription(
                NodeId=node,
                BrowseDirection=ua.BrowseDirection.Inverse,
                ReferenceTypeId=ua.NodeId(ua.Int32(_HAS_SUBTYPE)),
                IncludeSubtypes=False,
                NodeClassMask=ua.UInt32(0),
                ResultMask=ua.UInt32(0),
            )
            for node in nodes
        ]
        answer = await self._session.call("browsing data types", request, ua.BrowseResponse)
        return [result.References[0].NodeId if result.References else None for result in answer.Results or ()]

    def _new(self, types: Iterable[ua.NodeId]) -> dict[str, ua.NodeId]:
        found = {}
        for node in types:
            id = node.to_string()
            if id not in self.definitions and id not in self._plain and _built_in(node) is None:
                found[id] = node
        return found


def _built_in(node: ua.NodeId) -> int | None:
    if node.NamespaceIndex or not isinstance(node.Identifier, int):
        return None
    if 0 < node.Identifier <= DIAGNOSTIC_INFO:
        return node.Identifier
    return _ABSTRACT.get(node.Identifier)


def _parts(nodes: Sequence[ua.NodeId]) -> Iterator[Sequence[ua.NodeId]]:
    return (nodes[start : start + _PER_CALL] for start in range(0, len(nodes), _PER_CALL))
