"""`read` and `scan` from a URL alone, against scripted devices: what is printed, what is asked, and what is not."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway.commands.main import main
from tests.support.modbus_device import Act, Asked, ModbusDevice


@contextmanager
def served(device: ModbusDevice) -> Iterator[ModbusDevice]:
    """Serve in a loop of its own, because the commands run one themselves."""
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with device.serve():
            ready.set()
            await asyncio.get_running_loop().run_in_executor(None, stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="device")
    thread.start()
    try:
        assert ready.wait(60)
        yield device
    finally:
        stop.set()
        thread.join(60)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


Run = Callable[..., tuple[int, str, str]]


def test_a_float_with_its_words_swapped_is_found(run: Run) -> None:
    device = ModbusDevice()
    device.load(0, bytes.fromhex("cccd41a0") + struct.pack(">2h", 201, 7))
    with served(device):
        code, out, _ = run("read", f"tcp://127.0.0.1:{device.port}", "holding 0", "holding 2", "--expect", "20.1")
    assert code == 0
    assert "fits     20.1   - {point: NAME, address: holding 0, type: float32, order: CDAB}" in out
    assert "fits     201 x 0.1 = 20.1   - {point: NAME, address: holding 2, type: int16, scale: 0.1}" in out
    assert device.functions == {3}


def test_a_register_alone_before_a_hole(run: Run) -> None:
    with served(ModbusDevice(holes={8, 9, 10})) as device:
        code, out, _ = run("read", f"tcp://127.0.0.1:{device.port}", "holding 7", "holding 8", "--json")
    assert code == 3
    found = json.loads(out)["addresses"]
    assert (found[0]["raw"], found[0]["problem"]) == ("0007", None)
    assert (found[1]["raw"], found[1]["problem"]) == ("", "the device has no such address (exception 2)")


def test_json_has_every_meaning_as_a_point(run: Run) -> None:
    with served(ModbusDevice()) as device:
        _, out, _ = run("read", f"tcp://127.0.0.1:{device.port}", "input 5", "--json", "--expect", "65530")
    found = json.loads(out)["addresses"][0]["meanings"]
    assert found[0]["fits"]
    assert found[0]["point"] == {"address": "input 5", "type": "uint16"}
    assert {one["type"] for one in found} >= {"int16", "uint32", "float32", "float64", "bcd", "string", "timestamp"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["read", "tcp://127.0.0.1:1", "40001"], "can be read in two ways"),
        (["read", "tcp://127.0.0.1:1", "holding 0"], "Connection refused; check the url"),
        (["read", "serial:///dev/none?baud=x", "holding 0"], "baud must be a number"),
        (["scan", "tcp://127.0.0.1:1", "--stations", "1-300", "--range", "holding 0"], "numbers up to 255"),
        (["scan", "tcp://127.0.0.1:1", "--stations", "1", "--range", "holding"], "expected a range such as"),
        (["scan", "tcp://127.0.0.1:1", "--stations", "1", "--range", "holding 9-3"], "addresses go up"),
        (["scan", "opc.tcp://127.0.0.1:1", "--stations", "1", "--range", "holding 0"], "for OPC UA there is browse"),
        (["scan", "serial:///dev/none", "--stations", "1", "--range", "holding 0"], "a line has one master"),
        (["scan", "listen+rtu://127.0.0.1:9", "--stations", "1", "--range", "holding 0"], "a line has one master"),
    ],
)
def test_wrong_arguments_say_what_to_do(run: Run, arguments: list[str], message: str) -> None:
    code, out, err = run(*arguments)
    assert code in (1, 2)
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_scan_finds_what_can_be_read_and_asks_nothing_else(run: Run) -> None:
    def script(asked: Asked) -> Act | None:
        return Act(silent=True) if asked.station == 2 else Act(exception=0x0B) if asked.station == 4 else None

    with served(ModbusDevice(holes={12, 40, 41}, script=script)) as device:
        code, out, _ = run(
            "scan", f"tcp://127.0.0.1:{device.port}", "--stations", "1-4", "--range", "holding 0-99",
            "--range", "coil 0-9", "--without", "holding 60-69", "--timeout", "2", "--rate", "500", "--json",
        )  # fmt: skip
    report: dict[str, Any] = json.loads(out)
    assert code == 0
    assert report["silent"] == [2, 4]
    for station in report["stations"]:
        assert station["readable"] == ["coil 0-9", "holding 0-11", "holding 13-39", "holding 42-59", "holding 70-99"]
        assert station["refused"] == ["holding 12", "holding 40-41"]
        assert station["unknown"] == []
    assert [station["station"] for station in report["stations"]] == [1, 3]
    asked = {(one.function, cell) for one in device.asked for cell in range(one.address, one.address + one.count)}
    assert all(cell <= 99 and not 60 <= cell <= 69 for function, cell in asked if function == 3)
    assert {function for function, _ in asked} == {1, 3}
    assert report["requests"] == len(device.asked)


def test_scan_keeps_to_its_rate(run: Run) -> None:
    with served(ModbusDevice()) as device:
        began = time.monotonic()
        run("scan", f"tcp://127.0.0.1:{device.port}", "--stations", "1-5", "--range", "holding 0", "--rate", "4")
        took_s = time.monotonic() - began
    assert len(device.asked) == 5
    assert took_s >= 1.0, f"five requests at four a second take a second; {took_s:.2f} s seen"
