"""Device files made from what was found: names, quoting, and that they read back as the same."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.device_file import device_file, point_lines, point_names, scalar, usable
from gateway.config.yaml import parse
from gateway.contract.tools import Access, Item, Kind

_ALLOWED = set(string.ascii_letters + string.digits + "_-")


def _item(tag: str, *groups: str, name: str = "", address: str = "", **more: object) -> Item:
    address = address or f"ns=2;s={'.'.join((*groups, tag))}"
    facts = {"access": Access(True, False), "type": "Double", "point": {"node": address, "type": "float64"}} | more
    return Item(address, address, name or tag, tag, (*groups, tag), Kind.VALUE, **facts)  # type: ignore[arg-type]


def _read_back(text: str) -> dict[str, object]:
    document, problems = parse("device.yaml", text.encode())
    assert document is not None, problems
    assert not problems
    return dict(document.data)


@pytest.mark.parametrize(
    ("items", "names"),
    [
        ([_item("Temp")], ["Temp"]),
        ([_item("R3.Temp"), _item("TIC-301.PV"), _item(" a / b ")], ["R3_Temp", "TIC-301_PV", "a_b"]),
        ([_item("Temp", "R1"), _item("Temp", "R2"), _item("Level", "R2")], ["R1_Temp", "R2_Temp", "Level"]),
        ([_item("PV", "Line 1", "TIC"), _item("PV", "Line 2", "TIC")], ["Line_1_TIC_PV", "Line_2_TIC_PV"]),
        ([_item("Temp"), _item("Temp"), _item("temp")], ["Temp", "Temp_2", "temp_3"]),
        ([_item("温度", address="ns=2;s=R3.Temp")], ["R3_Temp"]),
        ([_item("温度", address="ns=2;s=温度"), _item("压力", address="ns=2;s=压力")], ["point", "point_2"]),
        ([_item("温度", address="ns=2;i=17"), _item("温度", address="ns=2;i=18")], ["17", "18"]),
        ([_item("a" * 80), _item("a" * 80)], ["a" * 64, "a" * 62 + "_2"]),
        ([], []),
    ],
)
def test_point_names(items: list[Item], names: list[str]) -> None:
    assert point_names(items) == names


@given(st.lists(st.tuples(st.text(max_size=80), st.lists(st.text(max_size=40), max_size=3)), max_size=12))
def test_point_names_are_right_and_unique(found: list[tuple[str, list[str]]]) -> None:
    names = point_names([_item(tag, *groups) for tag, groups in found])
    assert len({name.casefold() for name in names}) == len(found)
    assert all(name and len(name) <= 64 and set(name) <= _ALLOWED for name in names)


@given(st.text())
def test_any_text_reads_back_as_the_same(text: str) -> None:
    assert _read_back(f"a: {{b: {scalar(text)}, c: 1}}\n") == {"a": {"b": text, "c": 1}}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("Temperature", "Temperature"),
        ("釜内 温度", "釜内 温度"),
        ("℃", "℃"),
        ("m³/h", "m³/h"),
        ("%", '"%"'),
        ("true", '"true"'),
        ("No", '"No"'),
        ("12", '"12"'),
        ("1e5", '"1e5"'),
        ("a: b", '"a: b"'),
        ("a #b", '"a #b"'),
        ("ends ", '"ends "'),
        ("", '""'),
        ("line\nnext", '"line\\nnext"'),
        (True, "true"),
        (5, "5"),
    ],
)
def test_scalars_are_quoted_where_needed(value: object, written: str) -> None:
    assert scalar(value) == written


def test_a_whole_file() -> None:
    items = [
        _item("TIC-301.PV", "R3", name="釜内温度", unit="℃", low=0.0, high=200.0),
        _item("Secret", access=Access(False, False), point=None),
        _item("Steps", description="of the recipe", point={"node": "nsu=http://plant/ua;s=Steps"}),
    ]
    connection = {"url": "opc.tcp://10.0.0.5:4840", "security": "None", "user": {"name": "a", "password": "${env:P}"}}
    text = device_file("reactor-3", "opcua", connection, items, ["Made by\nhand"])
    assert text.splitlines()[:6] == [
        "# Made by hand",
        "device: reactor-3",
        "adapter: opcua",
        "connection:",
        '  url: "opc.tcp://10.0.0.5:4840"',
        "  security: None",
    ]
    assert "unit: ℃}  # 0 to 200\n" in text
    data = _read_back(text)
    assert data["connection"] == connection
    assert data["points"] == [
        {
            "point": "TIC-301_PV",
            "name": "釜内温度",
            "tag": "TIC-301.PV",
            "node": "ns=2;s=R3.TIC-301.PV",
            "type": "float64",
            "unit": "℃",
        },
        {
            "point": "Steps",
            "name": "Steps",
            "tag": "Steps",
            "node": "nsu=http://plant/ua;s=Steps",
            "description": "of the recipe",
        },
    ]


def test_long_points_go_on_over_lines_and_read_back() -> None:
    item = _item("T", name="n" * 60, description="d" * 90, unit="kg/h")
    lines = point_lines("T", item)
    assert len(lines) > 1
    (point,) = _read_back("points:\n" + "\n".join(lines))["points"]  # type: ignore[misc]
    assert point["description"] == "d" * 90


def test_text_of_the_equipment_never_becomes_a_reference_to_a_secret() -> None:
    evil = "${file:/etc/shadow}"
    assert not usable(_item("x", address=f"ns=2;s={evil}"))
    text = device_file(
        "d",
        "opcua",
        {"url": "u"},
        [
            _item(evil, address="ns=2;i=1", name=evil, unit=evil, description=evil),
            _item(evil, address=f"ns=2;s={evil}"),
        ],
    )
    assert "${" not in text
    assert len(_read_back(text)["points"]) == 1  # type: ignore[arg-type]
