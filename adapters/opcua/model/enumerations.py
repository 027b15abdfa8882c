"""What the numbers of enumerated points mean: texts that the server has for them, found by Read and Browse alone.

Of the variable itself: EnumStrings of a MultiStateDiscrete, EnumValues of a MultiStateValueDiscrete, TrueState and
FalseState of a TwoStateDiscrete (Part 8, 5.3.3). Else of its DataType, where that is an enumeration: the EnumDefinition
in its DataTypeDefinition attribute (Part 3, 8.50), or in older servers its property EnumStrings or EnumValues
(Part 3, 5.8.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from adapters.opcua.decoding.layouts import BOOLEAN, DIAGNOSTIC_INFO, SBYTE, UINT64
from adapters.opcua.decoding.structures import ENUMERATION, INTEGER, NUMBER, UINTEGER
from adapters.opcua.model.lookups import Lookup

_STRINGS: Final = "EnumStrings"
_VALUES: Final = "EnumValues"
_STATES: Final = {"TrueState": 1, "FalseState": 0}
_NAMES: Final = (_STRINGS, _VALUES, *_STATES)
_DEEPEST: Final = 32
"""steps of inheritance after which a server that answers in circles is left alone"""

_MOST_TEXTS: Final = 1000
"""of one enumeration"""
_LONGEST_TEXT: Final = 200
"""letters: texts go into the catalogue, which is one message"""

Texts = dict[int, str]
"""by number"""


async def read_texts(lookup: Lookup, nodes: Mapping[int, ua.NodeId]) -> dict[int, Texts]:
    """The texts of each point that may be enumerated, by permanent index; empty where the server has none.

    Points that are missing are none, or the server does not say. Raises AdapterError when the link fails.
    """
    points = list(nodes)
    types = await lookup.attributes([nodes[point] for point in points], AttributeIds.DataType)
    type_of = {point: type for point, type in zip(points, types, strict=True) if isinstance(type, ua.NodeId)}
    kinds = await _kinds(lookup, type_of.values())
    discrete = [point for point, type in type_of.items() if kinds[type.to_string()]]
    enumerations = {type.to_string(): type for type in type_of.values() if kinds[type.to_string()] == ENUMERATION}
    by_type = await _texts_of_types(lookup, enumerations)
    own = await _texts_of_properties(lookup, {point: nodes[point] for point in discrete})
    return {
        point: texts or by_type.get(type_of[point].to_string(), {}) for point, texts in own.items() if texts is not None
    }


async def _kinds(lookup: Lookup, types: Iterable[ua.NodeId]) -> dict[str, int]:
    """Which types are enumerations (ENUMERATION), which another kind of discrete number, and which neither (0)."""
    first = {type.to_string(): type for type in types}
    found = {id: _kind(type) for id, type in first.items()}
    at = {id: type for id, type in first.items() if found[id] is None}
    for _ in range(_DEEPEST):
        if not at:
            break
        parents = {type.to_string(): type for type in at.values()}
        above = dict(zip(parents, await lookup.supertypes(list(parents.values())), strict=True))
        following: dict[str, ua.NodeId] = {}
        for id, type in at.items():
            parent = above[type.to_string()]
            found[id] = 0 if parent is None else _kind(parent)
            if parent is not None and found[id] is None:
                following[id] = parent
        at = following
    return {id: kind or 0 for id, kind in found.items()}


def _kind(type: ua.NodeId) -> int | None:
    """None = it depends on what it is a subtype of."""
    id = type.Identifier
    if type.NamespaceIndex or not isinstance(id, int):
        return None
    if id in (BOOLEAN, *range(SBYTE, UINT64 + 1), NUMBER, INTEGER, UINTEGER):
        return INTEGER
    if id == ENUMERATION:
        return ENUMERATION
    return 0 if id <= DIAGNOSTIC_INFO else None


async def _texts_of_types(lookup: Lookup, types: Mapping[str, ua.NodeId]) -> dict[str, Texts]:
    ids = list(types)
    definitions = await lookup.attributes(list(types.values()), AttributeIds.DataTypeDefinition)
    found = {id: _defined(definition) for id, definition in zip(ids, definitions, strict=True)}
    without = {id: types[id] for id in ids if not found[id]}
    for id, texts in (await _texts_of_properties(lookup, without)).items():
        found[id] = texts or {}
    return found


async def _texts_of_properties(lookup: Lookup, nodes: Mapping[Any, ua.NodeId]) -> dict[Any, Texts | None]:
    """By the key of each node; None where the server does not say."""
    keys = list(nodes)
    properties = await lookup.properties(list(nodes.values()))
    asked = [
        (key, name, node)
        for key, of in zip(keys, properties, strict=True)
        for name, node in (of or {}).items()
        if name in _NAMES
    ]
    values = await lookup.attributes([node for _, _, node in asked])
    found: dict[Any, Texts | None] = {key: None if of is None else {} for key, of in zip(keys, properties, strict=True)}
    for (key, name, _), value in zip(asked, values, strict=True):
        texts = _texts(name, value)
        if texts:
            found[key] = {**(found[key] or {}), **texts}
    return found


def _texts(name: str, value: Any) -> Texts:
    if name in _STATES:
        text = _text(value)
        return {} if text is None else {_STATES[name]: text}
    elements = value[:_MOST_TEXTS] if isinstance(value, list) else []
    if name == _STRINGS:
        numbered = [(number, _text(element)) for number, element in enumerate(elements)]
    else:
        numbered = [
            (int(element.Value), _text(element.DisplayName))
            for element in elements
            if isinstance(element, ua.EnumValueType)
        ]
    return {number: text for number, text in numbered if text is not None}


def _defined(definition: Any) -> Texts:
    if not isinstance(definition, ua.EnumDefinition):
        return {}
    fields = (definition.Fields or [])[:_MOST_TEXTS]
    texts = ((int(field.Value), _text(field.DisplayName) or field.Name) for field in fields)
    return {number: str(text)[:_LONGEST_TEXT] for number, text in texts if text}


def _text(value: Any) -> str | None:
    """None where there is no text: servers leave numbers that mean nothing empty."""
    return (value.Text or "")[:_LONGEST_TEXT] or None if isinstance(value, ua.LocalizedText) else None
