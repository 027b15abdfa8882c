"""Addresses as point tables write them."""

import pytest

from adapters.modbus.tables import table_keys
from gateway.contract.tables import CellRefused


@pytest.mark.parametrize(
    ("cells", "base", "address"),
    [
        ({"address": "40001"}, 0, "modicon 40001"),
        ({"address": "400001"}, 0, "modicon 400001"),
        ({"address": "00001"}, 0, "modicon 00001"),
        ({"address": "4x0001"}, 0, "holding 0"),
        ({"address": "3X00012"}, 1, "input 11"),
        ({"address": "1x0001"}, 0, "discrete 0"),
        ({"address": "0x00017"}, 0, "coil 16"),
        ({"address": "Holding 0"}, 0, "holding 0"),
        ({"address": "modicon 30029"}, 0, "modicon 30029"),
        ({"address": "HR100"}, 0, "holding 100"),
        ({"address": "HR100"}, 1, "holding 99"),
        ({"address": "IR 5"}, 0, "input 5"),
        ({"address": "保持寄存器 7"}, 0, "holding 7"),
        ({"address": "100", "function": "03"}, 0, "holding 100"),
        ({"address": "100", "function": "3"}, 1, "holding 99"),
        ({"address": "100", "function": "04H"}, 0, "input 100"),
        ({"address": "100", "function": "0x02"}, 0, "discrete 100"),
        ({"address": "100", "function": "FC1"}, 0, "coil 100"),
        ({"address": "100", "function": "03/06/16"}, 0, "holding 100"),
        ({"address": "100", "function": "03 (读保持寄存器)"}, 0, "holding 100"),
        ({"address": "100", "function": "4X"}, 0, "holding 100"),
        ({"address": "100", "function": "输入寄存器"}, 0, "input 100"),
        ({"address": "0x0064", "function": "03"}, 0, "holding 100"),
        ({"address": "64H", "function": "03"}, 0, "holding 100"),
        ({"address": "40001", "function": "03"}, 1, "modicon 40001"),
    ],
)
def test_what_is_understood(cells: dict[str, str], base: int, address: str) -> None:
    assert table_keys(cells, base) == {"address": address}


@pytest.mark.parametrize(
    ("cells", "keys"),
    [
        ({"address": "40001.3"}, {"address": "modicon 40001", "bit": 3, "type": "bool"}),
        ({"address": "400001.20L"}, {"address": "modicon 400001", "type": "string", "length": 20, "order": "BADC"}),
        ({"address": "40001 [2][3]", "type": "int16"}, {"address": "modicon 40001", "type": "int16", "count": 6}),
        ({"address": "40001-40002", "type": "float32"}, {"address": "modicon 40001", "type": "float32"}),
        ({"address": "10001", "type": "bool", "order": "CDAB"}, {"address": "modicon 10001", "type": "bool"}),
    ],
)
def test_suffixes(cells: dict[str, str], keys: dict[str, object]) -> None:
    assert table_keys(cells, 0) == keys


@pytest.mark.parametrize(
    ("cells", "column", "message"),
    [
        ({"address": "100"}, "address", "100 alone does not say which table it is in"),
        ({"address": "0x0064"}, "address", "0X0064 alone does not say which table it is in"),
        ({"address": "D100"}, "address", "D100 is an address inside the PLC"),
        ({"address": "VW200", "function": "03"}, "address", "VW200 is an address inside the PLC"),
        ({"address": "%MW10"}, "address", "%MW10 is an address inside the PLC"),
        ({"address": "DB1.DBD0"}, "address", "DB1.DBD0 is an address inside the PLC"),
        ({"address": "40001", "function": "04"}, "address", "the function code reads input"),
        ({"address": "4x0000"}, "address", "4X0000 is out of range: it counts from 1 to 65536"),
        ({"address": "0", "function": "03"}, "address", "0 is out of range: it counts from 1 to 65536"),
        ({"address": "70000", "function": "03"}, "address", "70000 is out of range"),
        ({"address": "5", "function": "03/04"}, "function", "expected one function code that reads"),
        ({"address": "5", "function": "R/W"}, "function", "expected one function code that reads"),
        ({"address": "40001-40004", "type": "float32"}, "address", "names 4 registers, but type float32 takes 2"),
        ({"address": "压力"}, "address", "is no Modbus address"),
    ],
)
def test_what_is_refused(cells: dict[str, str], column: str, message: str) -> None:
    with pytest.raises(CellRefused) as refused:
        table_keys(cells, 1)
    assert refused.value.column == column
    assert message in refused.value.message
    assert refused.value.hint
