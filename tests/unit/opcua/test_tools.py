"""The parts of browse and read that need no server: wording, decoding, paths, and batches over a fake caller."""

from __future__ import annotations

import contextlib
import struct
import uuid
from collections.abc import Sequence
from typing import Any, TypeVar

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from asyncua.ua.uaerrors import UaStatusCodeError
from hypothesis import given
from hypothesis import strategies as st

from adapters.opcua.decoding.variant import DecodeError
from adapters.opcua.tools import words
from adapters.opcua.tools.describe import describe
from adapters.opcua.tools.entry import connection_config
from adapters.opcua.tools.link import Link
from adapters.opcua.tools.readings import Reading, read_results
from adapters.opcua.tools.walk import Found, PathFilter, tree_order, walk
from gateway.contract import AdapterError, ConfigError, LinkLost
from gateway.contract.tools import Access, Kind, Target

T = TypeVar("T")
NAMESPACES = ["http://opcfoundation.org/UA/", "urn:server", "http://plant/ua", "http://odd;uri"]


@pytest.mark.parametrize(
    ("node", "short", "lasting"),
    [
        (ua.NodeId("R3.Temp", 2), "ns=2;s=R3.Temp", "nsu=http://plant/ua;s=R3.Temp"),
        (ua.NodeId(17, 2), "ns=2;i=17", "nsu=http://plant/ua;i=17"),
        (ua.NodeId(b"\x01\xff", 2), "ns=2;b=Af8=", "nsu=http://plant/ua;b=Af8="),
        (
            ua.NodeId(uuid.UUID("09087e75-8e5e-499b-954f-f2a9603db28a"), 2),
            "ns=2;g=09087e75-8e5e-499b-954f-f2a9603db28a",
            "nsu=http://plant/ua;g=09087e75-8e5e-499b-954f-f2a9603db28a",
        ),
        (ua.NodeId(85, 0), "i=85", "i=85"),
        (ua.NodeId("x", 3), "ns=3;s=x", "ns=3;s=x"),
        (ua.NodeId("x", 9), "ns=9;s=x", "ns=9;s=x"),
    ],
)
def test_node_ids_as_text_and_back(node: ua.NodeId, short: str, lasting: str) -> None:
    assert words.short_text(node) == short
    assert words.lasting_text(node, NAMESPACES) == lasting
    assert words.to_node_id(short, NAMESPACES) == node
    assert words.to_node_id(lasting, NAMESPACES) == node


def test_a_namespace_that_the_server_does_not_know() -> None:
    assert words.to_node_id("nsu=http://nobody;i=1", NAMESPACES) is None
    with pytest.raises(ValueError, match="expected a node id"):
        words.to_node_id("Temp", NAMESPACES)


@pytest.mark.parametrize(
    ("information", "unit"),
    [
        ({"UnitId": 4408652, "DisplayName": "℃"}, "℃"),
        ({"UnitId": 4408652, "DisplayName": None}, "°C"),
        ({"UnitId": 20529, "DisplayName": " "}, "%"),
        ({"UnitId": 5789784, "DisplayName": ""}, None),
        ({"UnitId": -1, "DisplayName": None}, None),
        ({"UnitId": 0, "DisplayName": "kg\n/h"}, "kg /h"),
        (None, None),
        ("bar", None),
    ],
)
def test_units(information: Any, unit: str | None) -> None:
    assert words.unit_text(information) == unit


@pytest.mark.parametrize(
    ("data_type", "rank", "value_type", "array", "name", "ours"),
    [
        ("i=11", -1, 11, False, "Double", "float64"),
        ("i=11", -1, 0, False, "Double", "float64"),
        ("i=10", 1, 10, True, "Float[]", None),
        ("i=1", -1, 1, False, "Boolean", "bool"),
        ("i=15", -1, 15, False, "ByteString", "bytes"),
        ("i=13", -1, 13, False, "DateTime", None),
        ("i=24", -2, 6, False, "any, now Int32", "int32"),
        ("i=24", -2, 0, False, "any", None),
        ("i=290", -1, 11, False, "Duration", "float64"),
        ("ns=2;i=3002", -1, 6, False, "Phase", "int32"),
        ("ns=2;i=9", -1, 6, False, "Int32", "int32"),
        (None, None, 0, False, "unknown", None),
    ],
)
def test_types(
    data_type: str | None, rank: int | None, value_type: int, array: bool, name: str, ours: str | None
) -> None:
    names = {"i=290": "Duration", "ns=2;i=3002": "Phase"}
    assert words.type_name(data_type, names, rank, value_type, array) == name
    assert words.our_type(data_type, rank, value_type, array) == ours


def test_status_in_words() -> None:
    assert words.status_text(0) == "Good"
    assert words.status_text(0x80340000).startswith("BadNodeIdUnknown: The node id refers to")


def test_text_of_a_server_is_fit_for_a_terminal() -> None:
    assert words.text("\x1b[31mred\n\udcff") == "[31mred \\xff"


@pytest.mark.parametrize(
    ("pattern", "leads", "takes", "neither"),
    [
        ("R3", ["", "R3", "R3/Temp", "r3/a/b"], ["R3", "r3/Temp"], ["R4", "R4/R3"]),
        ("R*/T?", ["", "R3", "R3/T1", "R3/T1/x"], ["R3/T1", "R3/T1/x"], ["R3/T11", "S"]),
        ("**/Temp*", ["", "a", "a/b", "a/b/Temp1", "Temp"], ["Temp", "a/b/Temp1", "a/Temp/x"], []),
        (None, ["", "a", "a/b"], ["", "a", "a/b"], []),
    ],
)
def test_paths(pattern: str | None, leads: list[str], takes: list[str], neither: list[str]) -> None:
    paths = PathFilter(pattern)

    def split(path: str) -> list[str]:
        return path.split("/") if path else []

    assert all(paths.leads(split(path)) for path in leads)
    assert all(paths.takes(split(path)) for path in takes)
    assert not any(paths.leads(split(path)) or paths.takes(split(path)) for path in neither)


def test_readings() -> None:
    moment = ua.DateTime(2026, 11, 20, 8, 0, 0)
    values = [
        ua.DataValue(ua.Variant(81.5, ua.VariantType.Double), SourceTimestamp=moment, ServerTimestamp=moment),
        ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(0x80340000))),
        ua.DataValue(ua.Variant(b"\x01\xff", ua.VariantType.ByteString)),
        ua.DataValue(ua.Variant([1, 2], ua.VariantType.Int32)),
        ua.DataValue(ua.Variant(0.412, ua.VariantType.Float)),
        ua.DataValue(ua.Variant([0.1], ua.VariantType.Float)),
        ua.DataValue(ua.Variant(moment, ua.VariantType.DateTime)),
        ua.DataValue(ua.Variant(ua.Range(0.0, 200.0), ua.VariantType.ExtensionObject)),
    ]
    data = struct.pack("<i", len(values)) + b"".join(struct_to_binary(each) for each in values)
    first, missing, raw, many, single, singles, time, span = read_results(data)
    assert (first.value, first.status, first.good) == (81.5, 0, True)
    assert first.source_ns == first.server_ns == 1_795_161_600_000_000_000
    assert (missing.value, missing.status, missing.good, missing.source_ns) == (None, 0x80340000, False, None)
    assert raw.value == "Af8="
    assert (many.value, many.array) == ([1, 2], True)
    assert (single.value, singles.value) == (0.412, [0.1])
    assert time.value == "2026-11-20T08:00:00.0000000Z"
    assert span.value == {"Low": 0.0, "High": 200.0}


@given(st.binary(max_size=200))
def test_readings_of_any_bytes_decode_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        read_results(data)


class FakeServer:
    """Answers Browse for a tree of numbered nodes, with the limits of a small server."""

    def __init__(self, tree: dict[int, list[int]], *, most_nodes: int = 1000, page: int = 1000, points: int = 1000):
        self.tree = tree
        self.most_nodes = most_nodes
        self.page = page
        self.points = points
        self.open: dict[bytes, list[int]] = {}
        self.sizes: list[int] = []
        self.lost = False

    async def call(self, doing: str, request: Any, response: type[T]) -> T:
        if self.lost:
            raise LinkLost("the link is cut")
        answer: Any = response()
        if isinstance(request, ua.BrowseRequest):
            asked = [each.NodeId.Identifier for each in request.Parameters.NodesToBrowse]
            self.sizes.append(len(asked))
            if len(asked) > self.most_nodes:
                raise UaStatusCodeError(0x80100000)
            answer.Results = [self._part(list(self.tree.get(node, []))) for node in asked]
        else:
            asked = request.Parameters.ContinuationPoints
            waiting = [self.open.pop(point) for point in asked]
            if not request.Parameters.ReleaseContinuationPoints:
                answer.Parameters.Results = [self._part(each) for each in waiting]
        return answer  # type: ignore[no-any-return]

    async def raw(self, doing: str, request: Any) -> bytes:
        raise AssertionError("a walk does not read")

    def _part(self, children: list[int]) -> ua.BrowseResult:
        result = ua.BrowseResult()
        if len(children) > self.page:
            if len(self.open) >= self.points:
                result.StatusCode = ua.StatusCode(ua.UInt32(0x804B0000))
                return result
            point = struct.pack("<I", children[self.page])
            self.open[point] = children[self.page :]
            result.ContinuationPoint = point
        result.References = [_reference(child) for child in children[: self.page]]
        return result


def _reference(number: int) -> ua.ReferenceDescription:
    name = f"n{number}"
    return ua.ReferenceDescription(
        NodeId=ua.ExpandedNodeId(number, 2),
        BrowseName=ua.QualifiedName(name, 2),
        DisplayName=ua.LocalizedText(name),
        NodeClass=ua.NodeClass.Object,
    )


async def _names(server: FakeServer, **options: Any) -> tuple[list[str], list[str]]:
    root = Found(ua.NodeId(0, 2), "root", "root", False, (), Kind.GROUP, -1)
    options = {"everything": False, "limit": 10_000} | options
    depth = options.pop("depth", None)
    paths = PathFilter(options.pop("path", None))
    found = await walk(Link(server, "opc.tcp://fake:4840"), root, paths, depth, **options)
    return [found.nodes[place].name for place in tree_order(found.nodes)], found.problems


async def test_walk_follows_continuation_points_to_the_end() -> None:
    server = FakeServer({0: list(range(1, 26))}, page=10)
    names, problems = await _names(server)
    assert names == ["root", *(f"n{i}" for i in range(1, 26))]
    assert (problems, server.open) == ([], {})


async def test_walk_asks_again_where_continuation_points_ran_out() -> None:
    tree = {0: [1, 2, 3]} | {group: list(range(group * 100, group * 100 + 15)) for group in (1, 2, 3)}
    server = FakeServer(tree, page=10, points=1)
    names, problems = await _names(server)
    assert len(names) == 1 + 3 + 45
    assert server.sizes[-1] == 45
    assert names[:3] == ["root", "n1", "n100"]
    assert (problems, server.open) == ([], {})


async def test_walk_stops_at_its_limit_and_releases_what_is_open() -> None:
    server = FakeServer({0: list(range(1, 1000))}, page=10)
    names, problems = await _names(server, limit=25)
    assert len(names) == 25
    assert len(problems) == 1
    assert "stopped at 25 nodes" in problems[0]
    assert server.open == {}


async def test_walk_leaves_a_node_whose_continuation_points_never_end() -> None:
    class Endless(FakeServer):
        def _part(self, children: list[int]) -> ua.BrowseResult:
            result = ua.BrowseResult(ContinuationPoint=b"more")
            self.open[b"more"] = []
            if children:
                result.References = [_reference(child) for child in children]
            return result

    server = Endless({0: [1]})
    names, problems = await _names(server, depth=1)
    assert names == ["root", "n1"]
    assert problems[0].startswith("ns=2;i=0 cannot be browsed: BadUnexpectedError")
    assert server.open == {}, "released"


async def test_attributes_of_types_that_they_cannot_have_are_none() -> None:
    """DataType a number, ValueRank a text, AccessLevel a list; then a DataType that is a node id without a name."""

    class Liar:
        namespaces: Sequence[str] = ()

        async def read(self, asked: Sequence[Any], *, cached: bool = False) -> list[Reading]:
            values = [5, "one", ["no"], 1.5, 7, "ns=2;s=", 1, 1, 1, None]
            return [Reading(6, False, value, 0, None, None) for value in values[: len(asked)]]

    link: Any = Liar()
    nodes = [Found(ua.NodeId(n, 2), f"n{n}", f"n{n}", False, (), Kind.VALUE, -1) for n in (1, 2)]
    items = await describe(link, nodes, values=False, cached=True)
    assert [item and item.access for item in items] == [Access(False, False), Access(True, False)]


async def test_walk_halves_what_the_server_finds_too_much() -> None:
    server = FakeServer({0: list(range(1, 101))}, most_nodes=30)
    names, problems = await _names(server)
    assert (len(names), problems) == (101, [])
    assert max(server.sizes[-4:]) <= 30


async def test_walk_of_a_ring_ends() -> None:
    names, problems = await _names(FakeServer({0: [1], 1: [2, 0], 2: [1, 3]}))
    assert (names, problems) == (["root", "n1", "n2", "n3"], [])


async def test_walk_goes_only_where_the_path_leads() -> None:
    server = FakeServer({0: [1, 2], 1: [11, 12], 2: [21]})
    names, _ = await _names(server, path="n1/n12")
    assert names == ["root", "n1", "n12"]


async def test_walk_as_deep_as_asked() -> None:
    names, _ = await _names(FakeServer({0: [1], 1: [2], 2: [3]}), depth=2)
    assert names == ["root", "n1", "n2"]


async def test_walk_over_a_lost_link_raises() -> None:
    server = FakeServer({0: [1]})
    server.lost = True
    with pytest.raises(AdapterError, match="cut"):
        await _names(server)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target("opc.tcp://"), "expected opc.tcp://host:port"),
        (Target("opc.tcp://a:b@host:4840"), "login"),
        (Target("opc.tcp://host:4840", security="Nonsense"), "expected None or"),
        (Target("opc.tcp://host:4840", user="a"), "needs a password"),
        (Target("opc.tcp://host:4840", user="a", password="geheim"), "not encrypted"),
    ],
)
def test_wrong_targets_are_told_without_the_password(target: Target, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        connection_config(target)
    assert "geheim" not in str(caught.value)


def test_the_registered_port_is_taken_where_none_is_given() -> None:
    assert connection_config(Target("opc.tcp://host/path")).url == "opc.tcp://host:4840/path"
