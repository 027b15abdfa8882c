"""Bad input: each gets one clear message that says where and what to do, and never a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from simulators.plant.opcua import OpcUaDevice
from tests.support.broker import Mosquitto, free_port
from tests.support.rig import START_S, Delivery, GatewayProcess, write_yaml
from tests.support.wait import eventually

DESTINATION: dict[str, Any] = {"name": "centre", "url": "mqtt://127.0.0.1:1", "max_grade": 2}


def device(**keys: Any) -> dict[str, Any]:
    return {
        "device": "boiler-1",
        "adapter": "modbus",
        "connection": {"url": "tcp://127.0.0.1:1", "timeout": "200ms"},
        "points": [{"point": "pressure", "address": "holding 0", "type": "uint16"}],
        **keys,
    }


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    def call(file: dict[str, Any], *, command: str = "run", **gateway: Any) -> tuple[int, str]:
        process = GatewayProcess(tmp_path, [file], **{"destinations": [DESTINATION], **gateway})
        done = subprocess.run(
            [sys.executable, "-m", "gateway.commands.main", command, str(process.config)],
            capture_output=True,
            timeout=START_S,
            check=False,
            env={key: value for key, value in os.environ.items() if key != "NO_SUCH_SECRET"},
        )
        return done.returncode, (done.stdout + done.stderr).decode()

    return call


CONFIG_FAULTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key": (device(evry="1s"), ["boiler-1.yaml:", "evry", "every"]),
    "wrong unit of a duration": (device(every="1 parsec"), ["boiler-1.yaml:", "every", "1 parsec", "500ms"]),
    "duplicate point": (
        device(points=[{"point": "p", "address": "holding 0", "type": "int16"}] * 2),
        ["boiler-1.yaml:", "p", "twice"],
    ),
    "missing secret": (
        device(connection={"url": "tcp://${env:NO_SUCH_SECRET}:502"}),
        ["boiler-1.yaml:", "NO_SUCH_SECRET"],
    ),
}


@pytest.mark.parametrize("fault", CONFIG_FAULTS)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_wrong_config_is_refused_with_its_place(
    run: Callable[..., tuple[int, str]], fault: str, command: str
) -> None:
    file, expected = CONFIG_FAULTS[fault]
    code, said = run(file, command=command)
    assert code == 2, said
    assert all(word in said for word in expected), said
    assert "Traceback" not in said


def test_points_without_a_label_are_refused(run: Callable[..., tuple[int, str]]) -> None:
    code, said = run(device(), governance={"domain": "production"})
    assert code == 2, said
    assert "grade" in said
    assert "class" in said
    assert "gateway.yaml" in said


def test_a_port_in_use_says_which_and_where_to_change_it(run: Callable[..., tuple[int, str]]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = run(device(), metrics={"listen": address})
    assert code == 1, said
    assert f"cannot listen on {address}" in said
    assert "metrics.listen" in said
    assert "Traceback" not in said


def test_an_unwritable_log_folder_is_one_message(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("a file where a folder should be")
    code, said = run(device(), log={"path": str(blocker / "log")})
    assert code in (1, 2), said
    assert str(blocker) in said
    assert "Traceback" not in said


def test_a_log_on_a_tmpfs_is_warned_about(tmp_path: Path) -> None:
    process = GatewayProcess(
        tmp_path, [device()], destinations=[DESTINATION], log={"path": "/dev/shm/edge-gateway-log"}
    )
    done = subprocess.run(
        [sys.executable, "-m", "gateway.commands.main", "check", str(process.config)],
        capture_output=True,
        timeout=START_S,
        check=False,
    )
    said = done.stdout.decode()
    assert done.returncode == 0, said
    assert "tmpfs" in said
    assert "gateway.yaml:" in said


async def test_an_unreachable_device_is_one_line_and_a_state(tmp_path: Path) -> None:
    port = free_port()
    file = device(connection={"url": f"tcp://127.0.0.1:{port}", "timeout": "200ms"})
    with Delivery(tmp_path) as delivery:
        with GatewayProcess(tmp_path, [file], destinations=[delivery.destination()]) as gateway:
            gateway.start()
            await eventually(
                lambda: gateway.metric("edge_gateway_device_outages_total", adapter="modbus") == 1, START_S
            )
            assert gateway.metric("edge_gateway_device_up", device="boiler-1", adapter="modbus") == 0
            assert await delivery.stop(gateway) == 0
            lines = [line for line in gateway.output.splitlines() if "boiler-1" in line]
            assert len(lines) == 1, lines
            assert f"127.0.0.1:{port}" in lines[0]
            assert "Traceback" not in gateway.output
        with delivery.report() as report:
            assert {(one.value, one.quality) for one in report.readings("boiler-1")} == {(None, "bad")}
            assert [event["of"] for event in report.events("gap/1")] == ["boiler-1"]


async def test_a_wrong_node_is_bad_and_hurts_nobody_else(tmp_path: Path) -> None:
    async with OpcUaDevice({"T": (ua.VariantType.Double, 1.5)}) as server:
        file = {
            "device": "reactor",
            "adapter": "opcua",
            "connection": {"url": server.url},
            "subscribe": {"publishing": "100ms", "sampling": "100ms"},
            "points": [
                {"point": "T", "node": server.node_text("T")},
                {"point": "typo", "node": server.node_text("Tee")},
            ],
        }
        with Delivery(tmp_path) as delivery:
            with GatewayProcess(tmp_path, [file], destinations=[delivery.destination()]) as gateway:
                gateway.start()
                await eventually(lambda: count(delivery, "reactor") >= 2, START_S)
                assert await delivery.stop(gateway) == 0
                assert "Traceback" not in gateway.output
                assert "typo" in gateway.output
            with delivery.report() as report:
                assert {one.value for one in report.readings("reactor", "T")} == {1.5}
                assert {one.status for one in report.readings("reactor", "typo")} == {0x80340000}


def count(delivery: Delivery, name: str) -> int:
    with delivery.report() as report:
        return len(report.readings(name))


async def test_a_refused_login_at_the_broker_says_so(tmp_path: Path) -> None:
    with Mosquitto(users={"gw": "right"}) as broker:
        destination = {**DESTINATION, "url": broker.url, "user": {"name": "gw", "password": "wrong"}}
        with GatewayProcess(tmp_path, [device()], destinations=[destination]) as gateway:
            gateway.start()

            def told() -> list[str]:
                return [line for line in gateway.output.splitlines() if "centre" in line and "refused" in line]

            await eventually(told, START_S)
            assert gateway.stop() == 0
            (line,) = told()
            assert "user" in line
            assert "wrong" not in line, "a password is never written to a log"
            assert "Traceback" not in gateway.output


def test_no_config_at_all(tmp_path: Path) -> None:
    write_yaml(tmp_path / "unrelated.yaml", {"a": 1})
    done = subprocess.run(
        [sys.executable, "-m", "gateway.commands.main", "run", str(tmp_path)],
        capture_output=True,
        timeout=START_S,
        check=False,
    )
    assert done.returncode == 2
    assert b"gateway.yaml" in done.stderr + done.stdout
