"""From a root down the hierarchy, level by level, so that one request asks about many nodes."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from asyncua import ua

from adapters.opcua.model.lookups import HAS_PROPERTY
from adapters.opcua.tools.link import Link
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
    nodes, problems, level = [root], [], [0]
    seen = {root.node}
    skip_standard = not everything and _is(root.node, _OBJECTS)
    levels = limit if depth is None else depth
    for number in range(levels + 1):
        beyond = number == levels
        if beyond:  # only what belongs to the values of the last level
            level = [place for place in level if nodes[place].kind is Kind.VALUE]
        answers = await link.browse([nodes[place].node for place in level], limit - len(nodes))
        below: list[int] = []
        cut = False
        for place, answer in zip(level, answers, strict=True):
            if answer.status >> 30:
                problems.append(f"{short_text(nodes[place].node)} cannot be browsed: {status_text(answer.status)}")
            cut = cut or not answer.whole
            for reference in answer.references:
                child = child_of(reference, place, nodes[place].path)
                if child is None or child.node in seen or not paths.leads(child.path):
                    continue
                if beyond and not child.folded:
                    continue
                if skip_standard and place == 0 and child.node.NamespaceIndex == 0:
                    continue
                if len(nodes) >= limit:
                    cut = True
                    break
                seen.add(child.node)
                # A property is the end of the hierarchy (Part 3, 4.4.2).
                if child.kind is not Kind.PROPERTY:
                    below.append(len(nodes))
                nodes.append(child)
        if progress:
            progress(len(nodes), link.requests)
        if cut:
            problems.append(f"stopped at {limit:,} nodes: raise the limit, or narrow by path, root or depth")
            break
        level = below
        if not level:
            break
    return Walk(nodes, problems)


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
