"""The arithmetic of `check`: requests, wire time, budgets, and devices that disagree about their wire."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.modbus import ADAPTER, ModbusDeviceConfig
from adapters.modbus.address import Table
from adapters.modbus.planner import Block
from adapters.modbus.url import parse_url
from adapters.modbus.wiretime import exchange_s, load_plan
from gateway.contract.plan import HasPlan


def device(url: str, points: int = 1, name: str = "d", station: int = 1, step: int = 1, **keys: Any) -> Any:
    content = {
        "device": name,
        "adapter": "modbus",
        "connection": {"url": url, "station": station},
        "points": [{"point": f"p{n}", "address": f"holding {n * step}", "type": "uint16"} for n in range(points)],
    } | keys
    return ModbusDeviceConfig.model_validate(content)


def test_the_adapter_has_a_plan() -> None:
    assert isinstance(ADAPTER, HasPlan)


def test_wire_time_of_one_request() -> None:
    """60 registers at 9,600 baud: 8 + 125 characters of 11 bits, silence of 3.5 behind each frame, 10 ms to think."""
    place = parse_url("serial:///dev/a?baud=9600")
    expected = (8 + 125) * 11 / 9600 + 2 * 3.5 * 11 / 9600 + 0.01
    assert exchange_s(place, Block(Table.HOLDING, 0, 60, ()), 0.0) == pytest.approx(expected)
    slow = exchange_s(place, Block(Table.HOLDING, 0, 60, ()), 0.1)
    assert slow == pytest.approx(expected - 3.5 * 11 / 9600 + 0.1)


def test_silence_is_fixed_above_19200_baud() -> None:
    place = parse_url("serial:///dev/a?baud=115200")
    assert exchange_s(place, Block(Table.COIL, 0, 8, ()), 0.0) == pytest.approx(14 * 11 / 115200 + 2 * 0.00175 + 0.01)


def test_the_plan_in_words() -> None:
    text = load_plan([device("serial:///dev/a?baud=9600", 130, every="1s")]).text
    assert text[0] == "d: /dev/a station 1"
    assert text[1] == "  every 1s: 130 points in 2 requests, 364ms on the wire"
    assert text[2:4] == ("    holding 0 to 124 (125 points)", "    holding 125 to 129 (5 points)")
    assert text[4] == "/dev/a (d): 2 requests/s, 36% of the line's time at 9600 baud"


def test_a_line_that_cannot_do_it_is_warned_of_with_the_arithmetic() -> None:
    devices = [device("serial:///dev/a?baud=2400", 125, f"d{n}", n, every="1s") for n in (1, 2)]
    remark, *others = load_plan(devices).remarks
    assert all("longer than points that are read every 1s can wait" in other.message for other in others)
    assert (remark.device, remark.path, remark.severity) == (1, ("every",), "warning")
    assert "asked for 250% of its time at 2400 baud: 2 requests/s for 2 devices" in remark.message
    assert "2.77s instead of 1s would do" in remark.hint
    slower = [device("serial:///dev/a?baud=2400", 125, f"d{n}", n, every="2.8s") for n in (1, 2)]
    assert not load_plan(slower).remarks


def test_a_period_shorter_than_a_neighbours_request() -> None:
    """The line has time on the whole, but not while the long request is on it."""
    long = device("serial:///dev/a?baud=9600", 120, "long", 1, every="10s")
    fast = device("serial:///dev/a?baud=9600", 1, "fast", 2, every="100ms")
    (remark,) = load_plan([long, fast]).remarks
    assert (remark.device, remark.path) == (1, ("every",))
    assert remark.message == (
        "one request of long takes 308ms on the line, longer than points that are read every 100ms can wait"
    )


def test_a_budget_that_cannot_be_met() -> None:
    found = load_plan([device("tcp://h", 10, step=100, every="1s", load={"requests_per_s": 4})])
    (remark,) = found.remarks
    assert remark.path == ("load", "requests_per_s")
    assert remark.message == "the points ask for 10 requests/s, the budget allows 4"
    assert "(2.5s)" in remark.hint


def test_one_wire_has_one_speed() -> None:
    devices = [device("serial:///dev/a?baud=9600", name="a"), device("serial:///dev/a?baud=4800", name="b", station=2)]
    (remark,) = load_plan(devices).remarks
    assert (remark.device, remark.severity, remark.path) == (1, "error", ("connection", "url"))
    assert "a is on the same wire with other settings" in remark.message


def test_one_connection_has_one_number_of_requests_on_their_way() -> None:
    devices = [device("tcp://h", name="a"), device("tcp://h", name="b", station=2, load={"outstanding": 4})]
    (remark,) = load_plan(devices).remarks
    assert (remark.device, remark.severity, remark.path) == (1, "warning", ("load", "outstanding"))
    assert "a is on the same wire with outstanding: 1" in remark.message


def test_one_station_twice() -> None:
    for url in ("serial:///dev/a", "tcp://h", "rtu+tcp://h:1"):
        (remark,) = load_plan([device(url, name="a"), device(url, name="b")]).remarks
        assert (remark.severity, remark.path) == ("warning", ("connection", "station"))
    assert not load_plan([device("tcp://h", name="a"), device("tcp://i", name="b")]).remarks


def test_a_month_over_the_mobile_network() -> None:
    """One request of 8 + 5 + 2 x 20 bytes and 160 of headers each 10 s: 2,592,000 s a month."""
    text = load_plan([device("listen+rtu://0.0.0.0:9000?id=A", 20, every="10s")]).text
    expected = (8 + 5 + 40 + 160) / 10 * 2_592_000 / 1e6
    assert load_plan([device("listen+rtu://0.0.0.0:9000?id=A", 20, every="10s")]).wires == text[-1:]
    assert load_plan([device("tcp://h")]).wires == ()
    assert text[-1].endswith(f"about {expected:,.0f} MB/month over the mobile network")
