"""What is accepted as the reply to a request."""

from __future__ import annotations

import pytest

from adapters.modbus.address import CELLS, CellRange, Table
from adapters.modbus.link import question
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


ANY = CellRange(Table.HOLDING, 0, CELLS - 1)


def asked(start: int, cells: int, table: Table = Table.HOLDING) -> Request:
    return Request.of(Block(table, start, cells, ()))


@pytest.mark.parametrize(
    ("request_", "late", "readable", "expected"),
    [
        pytest.param(asked(7, 1), [asked(7, 1)], ANY, (Table.HOLDING, 7, 8), id="another number of cells"),
        pytest.param(asked(7, 1), [asked(3, 2)], ANY, (Table.HOLDING, 7, 9), id="than the late one has either"),
        pytest.param(asked(65535, 1), [asked(7, 1)], ANY, (Table.HOLDING, 65534, 65535), id="at the end of the table"),
        pytest.param(asked(0, 1), [asked(0, 1)], CellRange(Table.HOLDING, 0, 0), None, id="nothing else may be read"),
        pytest.param(
            asked(7, 1), [asked(7, 1)], CellRange(Table.HOLDING, 0, 7), (Table.HOLDING, 6, 7), id="behind it"
        ),
        pytest.param(
            asked(7, 1), [asked(7, 1), asked(7, 2)], CellRange(Table.INPUT, 0, 99), (Table.INPUT, 7, 7), id="elsewhere"
        ),
        pytest.param(
            asked(9, 8, Table.COIL), [asked(0, 9, Table.COIL)], CellRange(Table.COIL, 0, 25), (Table.COIL, 9, 25)
        ),
    ],
)  # fmt: skip
def test_the_question_that_tells_late_replies_apart(
    request_: Request, late: list[Request], readable: CellRange, expected: tuple[Table, int, int] | None
) -> None:
    def may_read(cells: CellRange) -> bool:
        return cells.table is readable.table and readable.first <= cells.first and cells.last <= readable.last

    found = question(request_, late, may_read)
    assert (found and found.cells) == expected
    if found:
        assert found.nbytes not in {one.nbytes for one in (request_, *late) if one.pdu[0] == found.pdu[0]}
