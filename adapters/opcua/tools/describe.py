"""What nodes are and what they hold: attributes of many nodes in few Reads."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from adapters.opcua.decoding.layouts import NULL
from adapters.opcua.session import stack
from adapters.opcua.tools import words
from adapters.opcua.tools.link import Link
from adapters.opcua.tools.readings import Reading
from adapters.opcua.tools.walk import Found
from gateway.contract.tools import NO_ACCESS, Access, Item, Kind

T = TypeVar("T")

_ATTRIBUTES: Final = (
    AttributeIds.DataType,
    AttributeIds.ValueRank,
    AttributeIds.AccessLevel,
    AttributeIds.UserAccessLevel,
    AttributeIds.Description,
    AttributeIds.Value,
)
_CURRENT_READ: Final = 0x01
_CURRENT_WRITE: Final = 0x02
"""bits of AccessLevel (Part 3, 8.57)"""


@dataclass(frozen=True, slots=True)
class _Facts:
    """The attributes of a variable."""

    data_type: str | None
    rank: int | None
    access: Access
    description: str | None
    value: Reading


_NOTHING: Final = _Facts(None, None, NO_ACCESS, None, Reading(NULL, False, None, 0, None, None))


async def describe(link: Link, nodes: Sequence[Found], *, values: bool, cached: bool) -> list[Item | None]:
    """An item for each node, None for a property that became part of its parent. Raises AdapterError."""
    variables = [place for place, node in enumerate(nodes) if node.kind is not Kind.GROUP]
    facts = dict(zip(variables, await _facts(link, [nodes[v] for v in variables], values, cached), strict=True))
    names = await _type_names(link, facts.values())
    folded: dict[int, dict[str, Any]] = defaultdict(dict)
    for place in variables:
        if nodes[place].folded:
            folded[nodes[place].parent][nodes[place].browse_name] = facts[place].value.value
    return [
        None if node.folded else _item(link, node, facts.get(place, _NOTHING), names, folded.get(place, {}))
        for place, node in enumerate(nodes)
    ]


async def _facts(link: Link, nodes: Sequence[Found], values: bool, cached: bool) -> list[_Facts]:
    asked: list[tuple[ua.NodeId, int]] = []
    for node in nodes:
        # Ranges and units are values themselves.
        wanted = _ATTRIBUTES if values or node.folded else _ATTRIBUTES[:-1]
        asked += [(node.node, attribute) for attribute in wanted]
    answers = iter(await link.read(asked, cached=cached))
    found = []
    for node in nodes:
        data_type, rank, level, user_level, description = (next(answers) for _ in range(len(_ATTRIBUTES) - 1))
        value = next(answers) if values or node.folded else _NOTHING.value
        found.append(
            _Facts(
                _expected(data_type, str),
                _expected(rank, int),
                _access(_expected(level, int), _expected(user_level, int), value),
                words.text(description.value) or None if description.good else None,
                value,
            )
        )
    return found


def _expected(reading: Reading, type: type[T]) -> T | None:
    """An attribute's value; None where the server has none, or one of a type that this attribute cannot have."""
    return reading.value if reading.good and isinstance(reading.value, type) else None


def _access(level: int | None, user_level: int | None, value: Reading) -> Access:
    """What both levels allow; a server that does not tell the user's level leaves it to the other one."""
    bits = level if level is not None else _CURRENT_READ if value.good else 0
    if user_level is not None:
        bits &= user_level
    return Access(bool(bits & _CURRENT_READ), bool(bits & _CURRENT_WRITE))


async def _type_names(link: Link, facts: Any) -> dict[str, str]:
    """Names of the derived types among the facts, by node id."""
    types = sorted({each.data_type for each in facts if each.data_type and words.built_in_of(each.data_type) is None})
    asked = []
    for each in types:
        with contextlib.suppress(ValueError):  # a node id that no device file can name, such as one without a name
            if (node := words.to_node_id(each, link.namespaces)) is not None:
                asked.append((each, node))
    answers = await link.read([(node, AttributeIds.BrowseName) for _, node in asked], cached=True)
    return {each: words.text(answer.value) for (each, _), answer in zip(asked, answers, strict=True) if answer.good}


def _item(link: Link, node: Found, facts: _Facts, names: Mapping[str, str], folded: Mapping[str, Any]) -> Item:
    value, span = facts.value, folded.get("EURange")
    low, high = (span.get("Low"), span.get("High")) if isinstance(span, dict) else (None, None)
    address = words.lasting_text(node.node, link.namespaces)
    kind = node.kind
    return Item(
        address=address,
        short=words.short_text(node.node),
        name=node.name,
        tag=node.browse_name,
        path=node.path,
        kind=kind,
        description=facts.description if facts.description not in (node.name, node.browse_name) else None,
        type=None
        if kind is Kind.GROUP
        else words.type_name(facts.data_type, names, facts.rank, value.type, value.array),
        access=facts.access,
        value=value.value if value.type != NULL else None,
        status=value.status,
        status_text=words.status_text(value.status),
        source_ns=value.source_ns,
        server_ns=value.server_ns,
        unit=words.unit_text(folded.get("EngineeringUnits")),
        low=low if low != high else None,  # servers give 0 to 0 for "not set"
        high=high if low != high else None,
        point=_point(address, facts) if kind is Kind.VALUE and facts.access.read else None,
    )


def _point(address: str, facts: _Facts) -> dict[str, Any]:
    value = facts.value
    type = words.our_type(facts.data_type, facts.rank, value.type, value.array)
    return {"node": address} | ({"type": type} if type else {})


async def look_up(link: Link, nodes: Sequence[ua.NodeId]) -> list[Found]:
    """Name and kind of nodes that were asked for by their ids. Raises AdapterError."""
    attributes = (AttributeIds.NodeClass, AttributeIds.BrowseName, AttributeIds.DisplayName)
    answers = iter(await link.read([(node, attribute) for node in nodes for attribute in attributes]))
    found = []
    for node in nodes:
        node_class, browse_name, display_name = (next(answers) for _ in attributes)
        # A node that is not there is asked for its value like a variable: the answer says what is wrong.
        group = node_class.good and node_class.value != ua.NodeClass.Variable
        tag = words.text(browse_name.value) if browse_name.good else ""
        name = words.text(display_name.value) if display_name.good else ""
        kind = Kind.GROUP if group else Kind.VALUE
        found.append(Found(node, name or tag, tag, False, (), kind, -1))
    return found


def null_node() -> ua.NodeId:
    """The node id that no server has: stands for an address whose namespace the server does not know."""
    return stack.node_id(0)
