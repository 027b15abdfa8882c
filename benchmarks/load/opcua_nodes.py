"""What the load server says of its nodes: attributes and references, as asyncua's objects. Pure.

Items are `i=0 ... i=N-1` in any namespace but 0 and TYPES. A plant's structure and enumeration have data types of their
own there, defined by DataTypeDefinition (Part 3, 8.48 to 8.50) and placed below the standard's by HasSubtype.
"""

from __future__ import annotations

from typing import Any, Final

from asyncua import ua as asyncua_types

from benchmarks.load import kinds, opcua_browse

BAD_NODE_ID_UNKNOWN: Final = 0x80340000
BAD_ATTRIBUTE_ID_INVALID: Final = 0x80350000
NAMESPACES: Final = ("http://opcfoundation.org/UA/", "urn:load", "urn:load:types")
TYPES: Final = 2
"""namespace of the data types"""
MOST_PER_CALL: Final = 1000
_STRUCTURE: Final = 3001
_ENUMERATION: Final = 3002
"""the data types"""
_STRUCTURES: Final = 22
_ENUMERATIONS: Final = 29
_HAS_SUBTYPE: Final = 45
"""numbers in namespace 0 (Part 6, annex A: NodeIds.csv)"""
ua: Any = asyncua_types
"""its annotations and its generated code do not agree"""


def exists(node: Any, items: int) -> bool:
    """Whether a node is one of so many items."""
    return node.NamespaceIndex not in (0, TYPES) and isinstance(node.Identifier, int) and node.Identifier < items


def attribute(node: Any, attribute: int, items: int, type: str) -> Any:
    """The DataValue of an attribute, as of a server with `items` items of a type or pattern."""
    if attribute == ua.AttributeIds.BrowseName and (node.NamespaceIndex == 0 or exists(node, items)):
        return _value(opcua_browse.name(node), BAD_NODE_ID_UNKNOWN)
    if node.NamespaceIndex == 0:
        found = _SERVER.get(node.Identifier) if attribute == ua.AttributeIds.Value else None
        return _value(found, BAD_NODE_ID_UNKNOWN)
    if node.NamespaceIndex == TYPES:
        attributes = _TYPES.get(node.Identifier)
    else:
        attributes = _variable(kinds.kind_of(node.Identifier, type)) if exists(node, items) else None
    if attributes is None:
        return _value(None, BAD_NODE_ID_UNKNOWN)
    return _value(attributes.get(attribute), BAD_ATTRIBUTE_ID_INVALID)


def browse(description: Any, items: int) -> Any:
    """A BrowseResult: the supertype of a data type, the folder in the root, no references of anything else."""
    result = ua.BrowseResult()
    node = description.NodeId
    if node.NamespaceIndex == TYPES and node.Identifier in _PARENTS:
        wanted = description.ReferenceTypeId.Identifier == _HAS_SUBTYPE
        if wanted and description.BrowseDirection != ua.BrowseDirection.Forward:
            reference = ua.ReferenceDescription()
            reference.ReferenceTypeId = ua.NodeId(_HAS_SUBTYPE)
            reference.NodeId = ua.ExpandedNodeId(_PARENTS[node.Identifier].Identifier)
            result.References = [reference]
    elif node.NamespaceIndex == 0:
        result.References = opcua_browse.references(description)
    elif not exists(node, items):
        result.StatusCode = ua.StatusCode(BAD_NODE_ID_UNKNOWN)
    return result


def _value(found: Any, otherwise: int) -> Any:
    return ua.DataValue(found) if found is not None else ua.DataValue(StatusCode=ua.StatusCode(otherwise))


def _variable(kind: kinds.Kind) -> dict[int, Any]:
    own = {"structure": ua.NodeId(_STRUCTURE, TYPES), "enumeration": ua.NodeId(_ENUMERATION, TYPES)}
    return {
        ua.AttributeIds.NodeClass: ua.Variant(int(ua.NodeClass.Variable), ua.VariantType.Int32),
        ua.AttributeIds.DataType: ua.Variant(own.get(kind.name, ua.NodeId(kind.built_in))),
        ua.AttributeIds.ValueRank: ua.Variant(1 if kind.element else -1, ua.VariantType.Int32),
        ua.AttributeIds.AccessLevel: ua.Variant(1, ua.VariantType.Byte),
        ua.AttributeIds.UserAccessLevel: ua.Variant(1, ua.VariantType.Byte),
    }


def _structure() -> Any:
    definition = ua.StructureDefinition()
    definition.DefaultEncodingId = ua.NodeId(kinds.STRUCTURE_ENCODING[1], kinds.STRUCTURE_ENCODING[0])
    definition.BaseDataType = ua.NodeId(_STRUCTURES)
    definition.StructureType = ua.StructureType.Structure
    definition.Fields = []
    for name, kind in kinds.FIELDS:
        field = ua.StructureField()
        field.Name = name
        field.DataType = _variable(kinds.KINDS[kind])[ua.AttributeIds.DataType].Value
        field.ValueRank = -1
        definition.Fields.append(field)
    return definition


def _enumeration() -> Any:
    definition = ua.EnumDefinition()
    definition.Fields = []
    for number, name in enumerate(kinds.MODES):
        field = ua.EnumField()
        field.Name = name
        field.Value = number
        field.DisplayName = ua.LocalizedText(name)
        definition.Fields.append(field)
    return definition


def _type(definition: Any) -> dict[int, Any]:
    return {
        ua.AttributeIds.NodeClass: ua.Variant(int(ua.NodeClass.DataType), ua.VariantType.Int32),
        ua.AttributeIds.DataTypeDefinition: ua.Variant(definition, ua.VariantType.ExtensionObject),
    }


def _server() -> dict[int, Any]:
    uint32, string = ua.VariantType.UInt32, ua.VariantType.String
    limits = {id: ua.Variant(MOST_PER_CALL, uint32) for id in (11705, 11714, 11707, 11709, 11710, 11711, 11712)}
    return {
        2254: ua.Variant([NAMESPACES[1]], string),
        2255: ua.Variant([*NAMESPACES], string),
        2259: ua.Variant(0, ua.VariantType.Int32),
        2267: ua.Variant(255, ua.VariantType.Byte),
        **limits,
    }


_TYPES: Final = {_STRUCTURE: _type(_structure()), _ENUMERATION: _type(_enumeration())}
_PARENTS: Final = {_STRUCTURE: ua.NodeId(_STRUCTURES), _ENUMERATION: ua.NodeId(_ENUMERATIONS)}
_SERVER: Final = _server()
