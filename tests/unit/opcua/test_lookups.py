"""Questions about nodes against scripted answers: in batches that the server bears, and never a reason to lose it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from adapters.opcua.model.lookups import Lookup
from adapters.opcua.session.limits import Limits
from adapters.opcua.session.pace import Priority
from gateway.contract import LinkLost

TOO_MANY, UNSUPPORTED, RESPONSE_TOO_LARGE = 0x80100000, 0x800B0000, 0x80B90000


def fault(code: int) -> Any:
    answer = ua.ServiceFault()
    answer.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(code))
    return answer


def node(name: str) -> ua.NodeId:
    return ua.NodeId(name, 2)


class Server:
    """Answers with what `answer` makes of a request."""

    def __init__(self, answer: Callable[[Any], Any], **limits: int) -> None:
        self.url = "opc.tcp://plant:4840"
        self.limits = Limits(**limits)
        self.requests: list[Any] = []
        self._answer = answer

    async def raw(self, doing: str, request: Any, *, priority: Priority) -> bytes:
        assert priority is Priority.BACKGROUND
        self.requests.append(request.Parameters)
        answer = self._answer(request.Parameters)
        return answer if isinstance(answer, bytes) else struct_to_binary(answer)


def names(asked: Any) -> list[str]:
    nodes = asked.NodesToRead if hasattr(asked, "NodesToRead") else asked.NodesToBrowse
    return [each.NodeId.Identifier for each in nodes]


def read(asked: Any) -> Any:
    return ua.ReadResponse(Results=[ua.DataValue(ua.Variant(f"value of {name}")) for name in names(asked)])


WANTED = [node(f"n{n}") for n in range(10)]
VALUES = [f"value of n{n}" for n in range(10)]


async def test_values_in_batches_of_what_the_server_says() -> None:
    server = Server(read, nodes_per_read=4)
    assert await Lookup(server).attributes(WANTED) == VALUES
    assert [len(names(asked)) for asked in server.requests] == [4, 4, 2]
    assert await Lookup(server).attributes([]) == []


@pytest.mark.parametrize("code", [TOO_MANY, RESPONSE_TOO_LARGE])
async def test_a_server_that_bears_less_is_asked_for_less(code: int) -> None:
    server = Server(lambda asked: fault(code) if len(names(asked)) > 3 else read(asked))
    assert await Lookup(server).attributes(WANTED) == VALUES


async def test_one_value_that_cannot_be_read_costs_no_other() -> None:
    def answer(asked: Any) -> Any:
        whole = struct_to_binary(read(asked))
        return whole[:-9] if "n3" in names(asked) else whole

    server = Server(answer)
    assert await Lookup(server).attributes(WANTED) == [*VALUES[:3], None, *VALUES[4:]]


async def test_bad_values_and_missing_answers_are_unknown() -> None:
    def answer(asked: Any) -> Any:
        bad = ua.DataValue(ua.Variant(1), ua.StatusCode(ua.UInt32(0x80340000)))
        return ua.ReadResponse(Results=[bad, ua.DataValue(), ua.DataValue(ua.Variant(7))])

    assert await Lookup(Server(answer)).attributes(WANTED[:5]) == [None, None, 7, None, None]


async def test_a_server_without_the_service_leaves_it_unknown() -> None:
    server = Server(lambda _: fault(UNSUPPORTED))
    assert await Lookup(server).attributes(WANTED) == [None] * 10
    assert await Lookup(server).properties(WANTED) == [None] * 10
    assert await Lookup(server).supertypes(WANTED) == [None] * 10
    assert len(server.requests) == 3, "and is not asked again for less"


async def test_an_answer_of_another_kind_leaves_it_unknown() -> None:
    assert await Lookup(Server(lambda _: ua.BrowseResponse())).attributes(WANTED) == [None] * 10


def reference(name: str) -> ua.ReferenceDescription:
    return ua.ReferenceDescription(NodeId=ua.ExpandedNodeId(f"id of {name}", 2), BrowseName=ua.QualifiedName(name, 0))


async def test_properties_go_on_behind_continuation_points() -> None:
    def answer(asked: Any) -> Any:
        if hasattr(asked, "ContinuationPoints"):
            more = [ua.BrowseResult(References=[reference("c")], ContinuationPoint=point[:-1] or None)
                    for point in asked.ContinuationPoints]  # fmt: skip
            return ua.BrowseNextResponse(Parameters=ua.BrowseNextResult(Results=more))
        first = ua.BrowseResult(References=[reference("a"), reference("b")], ContinuationPoint=b"xy")
        unknown = ua.BrowseResult(StatusCode=ua.StatusCode(ua.UInt32(0x80340000)))
        return ua.BrowseResponse(Results=[first, unknown, ua.BrowseResult()][: len(asked.NodesToBrowse)])

    server = Server(answer, nodes_per_browse=3)
    found = await Lookup(server).properties(WANTED[:3])
    assert found == [{name: node(f"id of {name}") for name in "abc"}, None, {}]
    assert len(server.requests) == 3


async def test_a_server_that_never_comes_to_an_end_is_left_alone() -> None:
    def answer(asked: Any) -> Any:
        again = [ua.BrowseResult(References=[], ContinuationPoint=b"x")]
        if hasattr(asked, "ContinuationPoints"):
            return ua.BrowseNextResponse(Parameters=ua.BrowseNextResult(Results=again))
        return ua.BrowseResponse(Results=again)

    server = Server(answer)
    assert await Lookup(server).properties(WANTED[:1]) == [{}]
    assert len(server.requests) <= 101


async def test_a_lost_link_is_an_error() -> None:
    def answer(asked: Any) -> Any:
        raise LinkLost("gone")

    with pytest.raises(LinkLost):
        await Lookup(Server(answer)).attributes(WANTED)
