"""Learns a server's structures: definitions of the data types that its points name, and of whatever is in their fields.

All requests are batched: a round of reads per depth of nesting, and of browses per step towards a built-in type.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from adapters.opcua.decoding.decode import Items
from adapters.opcua.decoding.layouts import EXTENSION_OBJECT, VARIANT
from adapters.opcua.decoding.structures import Structures, encoded_as
from adapters.opcua.model.changes import STRUCTURE_CHANGED, changed_points
from adapters.opcua.model.lookups import Asks, Lookup
from adapters.opcua.session.pace import Priority

_MOST_TYPES: Final = 5000
_DEEPEST: Final = 32
"""rounds after which a server that answers in circles is left alone"""
_AGAIN_S: Final = 30.0
"""a server that says with every value that its structure has changed is believed this often"""


class Definitions:
    """Keeps what is known of a server's structures in step with what it sends."""

    def __init__(self, session: Asks, structures: Structures) -> None:
        """`structures` grows as the server sends new ones."""
        self._session = session
        self.structures = structures
        self._renewed: dict[int, float] = {}
        """loop time at which a point's type was read anew"""

    async def learn(self, decoded: Sequence[Items], nodes_of: Callable[[Sequence[int]], Sequence[ua.NodeId]]) -> bool:
        """Look up what `decoded` has met for the first time, and what the server says has changed (StructureChanged).

        `nodes_of`: nodes of points. True if it would now be decoded otherwise. Raises AdapterError.
        """
        changed = self._changed(decoded)
        if not (new := self.structures.to_be_learnt()) and not changed:
            return False
        nodes = nodes_of(changed)
        if changed:
            types = await Lookup(self._session, Priority.ITEMS).attributes(nodes, AttributeIds.DataType)
            self.structures.forget(type.to_string() for type in types if isinstance(type, ua.NodeId))
        if new:
            structured = [items for items in decoded if items.type == EXTENSION_OBJECT]
            opaque = {point for items in structured for point in items.handles.tolist()}
            nodes = nodes_of(sorted(opaque.union(changed)))
        await learn_structures(self._session, nodes, self.structures)
        return True

    def _changed(self, decoded: Sequence[Items]) -> list[int]:
        structured = [items for items in decoded if items.type == EXTENSION_OBJECT]
        now = asyncio.get_running_loop().time()
        changed = [
            point
            for point in changed_points(structured, STRUCTURE_CHANGED)
            if now >= self._renewed.get(point, now - _AGAIN_S) + _AGAIN_S
        ]
        self._renewed.update(dict.fromkeys(changed, now))
        return changed


async def learn_structures(session: Asks, points: Sequence[ua.NodeId], structures: Structures) -> None:
    """Add what the values of these variables may hold. What the server does not explain is opaque, never an error.

    Raises AdapterError when the link fails.
    """
    learner = _Learner(Lookup(session, Priority.ITEMS))
    await learner.learn(points)
    structures.add(learner.definitions, learner.bases())


async def learn_built_in(session: Asks, points: Sequence[ua.NodeId]) -> list[int | None]:
    """The built-in type of what each variable holds, array or not; None where the server does not say, or any may come.

    Raises AdapterError when the link fails.
    """
    lookup = Lookup(session, Priority.ITEMS)
    types = await lookup.attributes(points, AttributeIds.DataType)
    learner = _Learner(lookup)
    await learner.place(type for type in types if isinstance(type, ua.NodeId))
    bases = learner.bases()
    found = (_built_in(type) or bases.get(type.to_string()) if isinstance(type, ua.NodeId) else None for type in types)
    return [None if type == VARIANT else type for type in found]


class _Learner:
    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._parents: dict[str, ua.NodeId] = {}
        self._plain: dict[str, ua.NodeId] = {}
        self.definitions: dict[str, ua.StructureDefinition] = {}

    async def learn(self, points: Sequence[ua.NodeId]) -> None:
        """Read definitions, then those of their fields' types, and so on; then what the others are subtypes of."""
        types = await self._lookup.attributes(points, AttributeIds.DataType)
        pending = self._new(type for type in types if isinstance(type, ua.NodeId))
        for _ in range(_DEEPEST):
            if not pending or len(self.definitions) + len(self._plain) > _MOST_TYPES:
                break
            values = await self._lookup.attributes(list(pending.values()), AttributeIds.DataTypeDefinition)
            fields: list[ua.NodeId] = []
            for (id, node), value in zip(pending.items(), values, strict=True):
                if isinstance(value, ua.StructureDefinition):
                    self.definitions[id] = value
                    fields += [field.DataType for field in (value.Fields or [])[:_MOST_TYPES]]
                else:
                    self._plain[id] = node
            pending = self._new(fields)
        await self._climb()

    async def place(self, types: Iterable[ua.NodeId]) -> None:
        """Find out what these types are subtypes of, whatever they are made of."""
        self._plain |= self._new(types)
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

    async def _climb(self) -> None:
        pending = {id: node for id, node in self._plain.items() if _built_in(node) is None}
        for _ in range(_DEEPEST):
            if not pending:
                return
            found: dict[str, ua.NodeId] = {}
            nodes = list(pending.values())
            for node, parent in zip(nodes, await self._lookup.supertypes(nodes), strict=True):
                if parent is not None:
                    self._parents[node.to_string()] = parent
                    found[parent.to_string()] = parent
            pending = {id: node for id, node in found.items() if id not in self._parents and _built_in(node) is None}

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
    return encoded_as(node.Identifier)
