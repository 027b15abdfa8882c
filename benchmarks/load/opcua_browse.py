"""What other clients look up before they subscribe: the folders at the top, and the names of nodes. Pure.

The gateway is given node ids and asks for no more. ThingsBoard's connector walks from the root to the Objects folder
and reads the browse name of every node that it is configured with.
"""

from __future__ import annotations

from typing import Any, Final

from asyncua import ua as asyncua_types

ua: Any = asyncua_types
"""its annotations and its generated code do not agree"""
_ROOT: Final = 84
_OBJECTS: Final = 85
_ORGANIZES: Final = 35
_FOLDER_TYPE: Final = 61
"""numbers in namespace 0 (Part 6, annex A: NodeIds.csv)"""
_NAMES: Final = {_ROOT: "Root", _OBJECTS: "Objects"}


def name(node: Any) -> Any:
    """The Variant of a node's browse name: of a folder its name, of an item p and its number."""
    text = _NAMES.get(node.Identifier) if node.NamespaceIndex == 0 else f"p{node.Identifier}"
    return ua.Variant(ua.QualifiedName(text, node.NamespaceIndex)) if text else None


def references(description: Any) -> list[Any]:
    """What lies below a node: the Objects folder in the root, nothing in anything else."""
    node = description.NodeId
    if (node.NamespaceIndex, node.Identifier) != (
        0,
        _ROOT,
    ) or description.BrowseDirection == ua.BrowseDirection.Inverse:
        return []
    reference = ua.ReferenceDescription()
    reference.ReferenceTypeId = ua.NodeId(_ORGANIZES)
    reference.IsForward = True
    reference.NodeId = ua.ExpandedNodeId(_OBJECTS)
    reference.BrowseName = ua.QualifiedName(_NAMES[_OBJECTS])
    reference.DisplayName = ua.LocalizedText(_NAMES[_OBJECTS])
    reference.NodeClass = ua.NodeClass.Object
    reference.TypeDefinition = ua.ExpandedNodeId(_FOLDER_TYPE)
    return [reference]
