"""Texts of enumerations that no catalogue could bear."""

from __future__ import annotations

from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from adapters.opcua.model.enumerations import read_texts

POINT = ua.NodeId("state", 2)
TYPE = ua.NodeId(3001, 2)
STRINGS = ua.NodeId("EnumStrings", 2)


class Lookup:
    """A server with one point, of an enumeration of its own or with a property."""

    def __init__(self, names: list[str], by_property: bool) -> None:
        self._names = names
        self._by_property = by_property

    async def attributes(self, nodes: list[ua.NodeId], attribute: AttributeIds = AttributeIds.Value) -> list[Any]:
        if attribute == AttributeIds.DataType:
            return [TYPE for _ in nodes]
        if attribute == AttributeIds.Value:
            return [[ua.LocalizedText(name) for name in self._names] for _ in nodes]
        fields = [ua.EnumField(Value=number, Name=name) for number, name in enumerate(self._names)]
        return [None if self._by_property else ua.EnumDefinition(Fields=fields) for _ in nodes]

    async def properties(self, nodes: list[ua.NodeId]) -> list[dict[str, ua.NodeId]]:
        return [{"EnumStrings": STRINGS} if self._by_property else {} for _ in nodes]

    async def supertypes(self, types: list[ua.NodeId]) -> list[ua.NodeId]:
        return [ua.NodeId(29) for _ in types]


@pytest.mark.parametrize("by_property", [False, True])
async def test_of_very_many_or_very_long_texts_a_part_is_taken(by_property: bool) -> None:
    lookup: Any = Lookup(["on", "x" * 1_000_000, *map(str, range(100_000))], by_property)
    found = (await read_texts(lookup, {7: POINT}))[7]
    assert (found[0], found[1], found[2]) == ("on", "x" * 200, "0")
    assert len(found) == 1000
