"""From a root down the hierarchy, level by level, so that one request asks about many nodes."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from asyncua import ua

from adapters.opcua.model.lookups import HAS_PROPERTY
from adapters.opcua.tools.link import Children, Link
from adapters.opcua.tools.words import short_text, status_text, text
from gateway.contract.tools import Kind, Progress

_PROPERTY_TYPE: Final = 68
_OBJECTS: Final = 85
"""node ids of namespace 0"""
_FOLDED: Final = ("EURange", "EngineeringUnits")
"""standard properties that say what a value means (Part 8, 5.3.2)"""


@dataclass(slots=True)
class Found:
    """A node on the way."""

    node: ua.NodeId
    name: str
    browse_name: str
    own: bool
    """the browse name is of namespace 0: its meaning is the standard's"""
    path: tuple[str, ...]
    kind: Kind
    parent: int
    """place in the list; -1 = the root"""

    @property
    def folded(self) -> bool:
        """Whether it is shown with its parent, not beside it."""
        return self.kind is Kind.PROPERTY and self.own and self.browse_name in _FOLDED


class PathFilter:
    """Names separated by "/"; * and ? within a name, ** for any number of levels. Case does not matter."""

    def __init__(self, pattern: str | None) -> None:
        self._parts = tuple(part for part in (pattern or "").casefold().split("/") if part)

    def leads(self, path: Sequence[str]) -> bool:
        """Whether `path` is on the way to a match, is one, or lies below one."""
        return self._match(tuple(name.casefold() for name in path), self._parts, on_the_way=True)

    def takes(self, path: Sequence[str]) -> bool:
        """Whether `path` is a match or lies below one."""
        return self._match(tuple(name.casefold() for name in path), self._parts, on_the_way=False)

    def _match(self, path: tuple[str, ...], parts: tuple[str, ...], on_the_way: bool) -> bool:
        if not parts:
            return True
        if not path:
            return on_the_way or all(part == "**" for part in parts)
        if parts[0] == "**":
            return self._match(path, parts[1:], on_the_way) or self._match(path[1:], parts, on_the_way)
        return fnmatch.fnmatchcase(path[0], parts[0]) and self._match(path[1:], parts[1:], on_the_way)


@dataclass(slots=True)
class Walk:
    """What a walk found, and what it could not look at."""

    nodes: list[Found]
    problems: list[str]


async def walk(
    link: Link,
    root: Found,
    paths: PathFilter,
    depth: int | None,
    *,
    everything: bool,
    limit: int,
    progress: Progress | None = None,
) -> Walk:
    """All nodes below `root`, which is the first; each once, under the group where it was met first.

    Of Objects, what the standard itself puts there (Server, Aliases, ...) is left out unless `everything`. Raises
    AdapterError.
    """
    finds = _Finds(root, paths, limit, everything)
    nodes, level = finds.nodes, [0]
    levels = limit if depth is None else depth
    for number in range(levels + 1):
        beyond = number == levels
        if beyond:  # only what belongs to the values of the last level
            level = [place for place in level if nodes[place].kind is Kind.VALUE]
        answers = await link.browse([nodes[place].node for place in level], limit - len(nodes))
        below: list[int] = []
        for place, answer in zip(level, answers, strict=True):
            below += finds.take(place, answer, beyond)
        if progress:
            progress(len(nodes), link.requests)
        if finds.cut:
            finds.problems.append(f"stopped at {limit:,} nodes: raise the limit, or narrow by path, root or depth")
            break
        level = below
        if not level:
            break
    return Walk(nodes, finds.problems)


class _Finds:
    """What a walk has found so far."""

    def __init__(self, root: Found, paths: PathFilter, limit: int, everything: bool) -> None:
        self.nodes = [root]
        self.problems: list[str] = []
        self.cut = False
        """there is more than the limit allows"""
        self._paths = paths
        self._limit = limit
        self._skip_standard = not everything and _is(root.node, _OBJECTS)
        self._seen = {root.node}

    def take(self, place: int, answer: Children, beyond: bool) -> list[int]:
        """The children of the node at `place`; returns the places of those that may have children themselves.

        `beyond` the last level only what is shown with its parent counts.
        """
        if answer.status >> 30:
            node = short_text(self.nodes[place].node)
            self.problems.append(f"{node} cannot be browsed: {status_text(answer.status)}")
        self.cut = self.cut or not answer.whole
        groups = []
        for reference in answer.references:
            child = child_of(reference, place, self.nodes[place].path)
            if child is None or not self._wanted(child) or (beyond and not child.folded):
                continue
            if len(self.nodes) >= self._limit:
                self.cut = True
                break
            # A property is the end of the hierarchy (Part 3, 4.4.2).
            if child.kind is not Kind.PROPERTY:
                groups.append(len(self.nodes))
            self._seen.add(child.node)
            self.nodes.append(child)
        return groups

    def _wanted(self, child: Found) -> bool:
        if self._skip_standard and child.parent == 0 and child.node.NamespaceIndex == 0:
            return False
        return child.node not in self._seen and self._paths.leads(child.path)


def tree_order(nodes: Sequence[Found]) -> list[int]:
    """Places so that each node comes after its parent, and before its parent's next child."""
    children: dict[int, list[int]] = defaultdict(list)
    for place, node in enumerate(nodes):
        children[node.parent].append(place)
    order, stack = [], [0]
    while stack:
        place = stack.pop()
        order.append(place)
        stack += reversed(children[place])
    return order


def child_of(reference: ua.ReferenceDescription, parent: int, path: tuple[str, ...] = ()) -> Found | None:
    """The node that a reference leads to; None when it is on another server."""
    target = reference.NodeId
    if getattr(target, "ServerIndex", 0):
        return None
    node = ua.NodeId(target.Identifier, target.NamespaceIndex, target.NodeIdType)
    browse_name = text(reference.BrowseName.Name)
    name = text(reference.DisplayName.Text) or browse_name
    kind = Kind.GROUP
    if reference.NodeClass == ua.NodeClass.Variable:
        by_reference = _is(reference.ReferenceTypeId, HAS_PROPERTY)
        kind = Kind.PROPERTY if by_reference or _is(reference.TypeDefinition, _PROPERTY_TYPE) else Kind.VALUE
    standard = reference.BrowseName.NamespaceIndex == 0
    return Found(node, name, browse_name, standard, (*path, browse_name or name), kind, parent)


def _is(node: ua.NodeId, number: int) -> bool:
    return bool(node.NamespaceIndex == 0 and node.Identifier == number)
