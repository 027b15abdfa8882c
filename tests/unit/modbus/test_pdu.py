"""What is accepted as the reply to a request."""

from __future__ import annotations

import pytest

from adapters.modbus.address import Table
from adapters.modbus.pdu import Answer, BadReply, Request, ShortReply, check_reply
from adapters.modbus.planner import Block, Span


def request(table: Table = Table.HOLDING, cells: int = 2) -> Request:
    return Request.of(Block(table, 0x0102, cells, (Span(0x0102, cells, 0),)))


def test_request_bytes() -> None:
    assert request() == (b"\x03\x01\x02\x00\x02", 4)
    assert request(Table.COIL, 9) == (b"\x01\x01\x02\x00\x09", 2)


def test_data_and_exceptions() -> None:
    assert check_reply(request(), b"\x03\x04abcd") == Answer(b"abcd", 0)
    assert check_reply(request(), b"\x83\x02") == Answer(b"", 2)


@pytest.mark.parametrize(
    ("pdu", "message"),
    [
        (b"", "too short"),
        (b"\x83", "too short"),
        (b"\x04\x04abcd", "function code 4 instead of 3"),
        (b"\x84\x02", "function code 132 instead of 3"),
        (b"\x03\x06abcd", "announces 6 data bytes and has 4"),
        (b"\x03\x06abcdef", "only 4 were asked for"),
    ],
)
def test_refused(pdu: bytes, message: str) -> None:
    with pytest.raises(BadReply, match=message) as error:
        check_reply(request(), pdu)
    assert not isinstance(error.value, ShortReply)


def test_short() -> None:
    with pytest.raises(ShortReply, match="2 data bytes, 4 were asked for"):
        check_reply(request(), b"\x03\x02ab")
