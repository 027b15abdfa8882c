"""Structures and unions by their definitions (Part 3, 8.48; Part 6, 5.2.6 and 5.2.7)."""

from __future__ import annotations

import base64
import functools
import struct
from typing import Any

import pytest
from asyncua import ua

from adapters.opcua.decoding import layouts
from adapters.opcua.decoding.decode import decode_items
from adapters.opcua.decoding.fallback import decode_other
from adapters.opcua.decoding.structures import Structures
from gateway.contract.status import BAD_DECODING_ERROR

Kind = ua.StructureType
STRING = struct.pack("<i", 2) + b"ab"


def numeric(number: int, namespace: int = 0) -> ua.NodeId:
    make: Any = ua.NodeId
    made: ua.NodeId = make(number, namespace)
    return made


def field(name: str, type: ua.NodeId, rank: int = -1, optional: bool = False) -> ua.StructureField:
    found = ua.StructureField()
    found.Name, found.DataType, found.ValueRank, found.IsOptional = name, type, rank, optional  # type: ignore[assignment]
    return found


def definition(encoding: int, kind: ua.StructureType, *fields: ua.StructureField) -> ua.StructureDefinition:
    return ua.StructureDefinition(DefaultEncodingId=numeric(encoding, 2), StructureType=kind, Fields=list(fields))


DOUBLE, INT, TEXT = numeric(11), numeric(6), numeric(12)
TYPES = {
    "ns=2;i=1": definition(11, Kind.Structure, field("x", DOUBLE), field("name", TEXT), field("list", INT, 1)),
    "ns=2;i=2": definition(
        12, Kind.StructureWithOptionalFields, field("a", INT), field("b", INT, optional=True),
        field("c", TEXT, optional=True),
    ),
    "ns=2;i=3": definition(13, Kind.Union, field("number", DOUBLE), field("point", numeric(1, 2))),
    "ns=2;i=4": definition(14, Kind.Structure, field("inner", numeric(1, 2), 1), field("mode", numeric(9, 2)),
                           field("grid", INT, 2)),
    "ns=2;i=5": definition(15, Kind.Structure, field("unknown", numeric(77, 2))),
    "ns=2;i=6": definition(16, Kind.StructureWithSubtypedValues, field("any", numeric(1, 2), optional=True)),
    "ns=2;i=7": definition(17, Kind.Structure, field("itself", numeric(7, 2), 1), field("unit", numeric(887))),
}  # fmt: skip


@pytest.fixture
def structures() -> Structures:
    found = Structures()
    assert found.add(TYPES, {"ns=2;i=9": layouts.INT32}) == ["ns=2;i=5"]
    return found


def extension(encoding: int, body: bytes) -> bytes:
    return struct.pack("<BBHBi", 1, 2, encoding, 1, len(body)) + body


def variant(encoding: int, body: bytes) -> bytes:
    return struct.pack("<B", 22) + extension(encoding, body)


def read(encoded: bytes, structures: Structures) -> tuple[Any, int]:
    body = struct.pack("<iIB", 1, 5, 1) + encoded + struct.pack("<i", -1)
    (items,) = decode_items(body, 0, len(body), functools.partial(decode_other, structures=structures))
    return items.values[0], int(items.status[0])


POINT = struct.pack("<d", 1.5) + STRING + struct.pack("<iii", 2, 7, -8)
POINT_READ = {"x": 1.5, "name": "ab", "list": [7, -8]}


@pytest.mark.parametrize(
    ("encoding", "body", "value"),
    [
        (11, POINT, POINT_READ),
        (11, struct.pack("<dii", 1.5, -1, -1), {"x": 1.5, "name": None, "list": None}),
        (12, struct.pack("<Ii", 0, 5), {"a": 5}),
        (12, struct.pack("<Ii", 2, 5) + STRING, {"a": 5, "c": "ab"}),
        (12, struct.pack("<Iii", 1, 5, 6), {"a": 5, "b": 6}),
        (13, struct.pack("<I", 0), {}),
        (13, struct.pack("<Id", 1, 2.5), {"number": 2.5}),
        (13, struct.pack("<I", 2) + POINT, {"point": POINT_READ}),
        (14, struct.pack("<i", 1) + POINT + struct.pack("<i3i4i", 3, 2, 2, 2, 1, 2, 3, 4),
         {"inner": [POINT_READ], "mode": 3, "grid": [[1, 2], [3, 4]]}),
        (16, extension(11, POINT), {"any": POINT_READ}),
        (17, struct.pack("<i", 1) + (struct.pack("<i", 0) + struct.pack("<iiBB", -1, 3, 0, 0)) +
         struct.pack("<iiBB", -1, 4, 0, 0), {"itself": [
             {"itself": [], "unit": {"NamespaceUri": None, "UnitId": 3, "DisplayName": None, "Description": None}}],
             "unit": {"NamespaceUri": None, "UnitId": 4, "DisplayName": None, "Description": None}}),
    ],
    ids=["fields", "nulls", "no optional", "second optional", "first optional", "empty union", "union",
         "union of a structure",
         "nested", "subtyped", "recursive"],
)  # fmt: skip
def test_structures(encoding: int, body: bytes, value: Any, structures: Structures) -> None:
    assert read(variant(encoding, body), structures) == (value, 0)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (15, b"abc"),
        (99, b"abc"),
        (11, POINT + b"\x00"),
        (11, POINT[:-1]),
        (11, struct.pack("<dii", 1.5, -1, 2**31 - 1)),
        (13, struct.pack("<I", 3)),
        (14, struct.pack("<ii4i", 0, 3, 3, 2**30, 2**30, 4)),
        (17, b""),
    ],
    ids=["unknown field type", "unknown", "too long", "too short", "count", "no such member", "matrix", "empty"],
)
def test_what_does_not_fit_its_definition_stays_opaque(encoding: int, body: bytes, structures: Structures) -> None:
    wanted = {"type": f"ns=2;i={encoding}", "body": base64.b64encode(body).decode()}
    assert read(variant(encoding, body), structures) == (wanted, 0)


def test_a_structure_in_xml_is_its_text(structures: Structures) -> None:
    encoded = variant(11, b"<a/>").replace(struct.pack("<Bi", 1, 4), struct.pack("<Bi", 2, 4))
    assert read(encoded, structures) == ({"type": "ns=2;i=11", "xml": "<a/>"}, 0)


def test_a_server_does_not_know_the_types_of_another(structures: Structures) -> None:
    value, _ = read(variant(11, POINT), Structures())
    assert value["type"] == "ns=2;i=11"
    assert structures.by_encoding("ns=2;i=11") is not None


def test_an_empty_structure_that_holds_itself_ends(structures: Structures) -> None:
    structures.add({"ns=2;i=8": definition(18, Kind.Structure, field("itself", numeric(8, 2)))}, {})
    assert read(variant(18, b""), structures)[0] == {"type": "ns=2;i=18", "body": ""}


def test_a_matrix_of_structures(structures: Structures) -> None:
    body = struct.pack("<I", 0)
    matrix = struct.pack("<Bi", 0xC0 | 22, 4) + extension(13, body) * 4 + struct.pack("<iii", 2, 2, 2)
    assert read(matrix, structures) == ([[{}, {}], [{}, {}]], 0)
    wrong = struct.pack("<Bi", 0xC0 | 22, 4) + extension(13, body) * 4 + struct.pack("<iii", 2, 2, 3)
    assert read(wrong, structures)[1] == BAD_DECODING_ERROR


@pytest.mark.parametrize("type", [26, 31])
def test_built_in_types_of_the_future_are_byte_strings(type: int, structures: Structures) -> None:
    assert read(bytes([type]) + STRING, structures) == (base64.b64encode(b"ab").decode(), 0)
    assert read(bytes([0x80 | type]) + struct.pack("<i", 1) + STRING, structures)[0] == ["YWI="]


def test_a_data_value_in_a_variant(structures: Structures) -> None:
    encoded = struct.pack("<BBBdIqHqH", 23, 0x3F, 11, 2.5, 0x40000000, 10, 1, 20, 2)
    wanted = {
        "value": 2.5,
        "status": 0x40000000,
        "source_time": "1601-01-01T00:00:00.0000010Z",
        "server_time": "1601-01-01T00:00:00.0000020Z",
    }
    assert read(encoded, structures)[0] == wanted


def test_diagnostics(structures: Structures) -> None:
    # Locale comes before LocalizedText, though its bit is the greater (Part 6, 5.2.2.12).
    encoded = struct.pack("<BBiiii", 25, 0x7F, 1, 2, 3, 4) + STRING + struct.pack("<IBi", 0x80310000, 1, 9)
    assert read(encoded, structures)[0] == {
        "symbolic_id": 1,
        "namespace_uri": 2,
        "locale": 3,
        "localized_text": 4,
        "additional_info": "ab",
        "inner_status": 0x80310000,
        "inner": {"symbolic_id": 9},
    }


def test_built_in_types_in_structures(structures: Structures) -> None:
    types = {"b": 15, "t": 13, "g": 14, "v": 24, "n": 17}
    fields = [field(name, numeric(type)) for name, type in types.items()]
    structures.add({"ns=2;i=20": definition(20, Kind.Structure, *fields)}, {})
    body = STRING + struct.pack("<q16x", 0) + struct.pack("<Biii", 0x80 | 6, 2, 5, 6) + struct.pack("<BBH", 1, 2, 300)
    assert read(variant(20, body), structures)[0] == {
        "b": "YWI=",
        "t": "1601-01-01T00:00:00.0000000Z",
        "g": "00000000-0000-0000-0000-000000000000",
        "v": [5, 6],
        "n": "ns=2;i=300",
    }


def test_a_forgotten_type_is_opaque_until_it_is_learnt_again(structures: Structures) -> None:
    before = read(variant(11, POINT), structures)[0]
    assert before == POINT_READ
    structures.forget(["ns=2;i=4"])
    for encoding in (14, 11):
        assert set(read(variant(encoding, POINT), structures)[0]) == {"type", "body"}, "and with it what it holds"
    assert structures.to_be_learnt()
    swapped = definition(11, Kind.Structure, field("name", TEXT), field("x", DOUBLE))
    structures.add({"ns=2;i=1": swapped}, {})
    assert read(variant(11, STRING + struct.pack("<d", 2.5)), structures)[0] == {"name": "ab", "x": 2.5}
    structures.forget(["ns=2;i=7", "ns=0;i=99", "i=884"])
    assert set(read(variant(17, struct.pack("<i", 0)), structures)[0]) == {"type", "body"}
