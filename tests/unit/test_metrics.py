"""Metrics: what is exported is declared and documented; the endpoint tells the truth about the loop."""

from __future__ import annotations

import asyncio
import socket
import threading
import urllib.error
import urllib.request

import orjson
import pytest

from gateway.metrics.collector import Sample, registry_of
from gateway.metrics.declarations import DECLARATIONS
from gateway.metrics.endpoint import Endpoint, EndpointError, Verdict
from gateway.metrics.page import PAGE, page

PATIENCE_S = 60.0
"""far more than the endpoint waits for the loop"""
READY = Verdict(True, {"log": "takes readings"})


def endpoint(port: int = 0, ready: Verdict = READY) -> Endpoint:
    registry = registry_of(lambda: [Sample("edge_gateway_device_up", 1, ("boiler-1", "modbus"))])
    return Endpoint("127.0.0.1", port, registry, lambda: Verdict(True, {}), lambda: ready)


def get(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


async def test_metrics_are_served() -> None:
    async with endpoint() as served:
        status, body = await asyncio.to_thread(get, served.port, "/metrics")
    assert status == 200
    assert b'edge_gateway_device_up{adapter="modbus",device="boiler-1"} 1.0' in body


async def test_ready_says_why_not() -> None:
    async with endpoint(ready=Verdict(False, {"log": "disk full"})) as served:
        status, body = await asyncio.to_thread(get, served.port, "/readyz")
    assert status == 503
    assert orjson.loads(body) == {"ok": False, "log": "disk full"}


async def test_a_stuck_loop_is_unhealthy() -> None:
    stuck, answered = threading.Event(), threading.Event()

    def probe(port: int) -> tuple[int, bytes]:
        stuck.wait(PATIENCE_S)
        try:
            return get(port, "/healthz")
        finally:
            answered.set()

    async with endpoint() as served:
        answer = asyncio.create_task(asyncio.to_thread(probe, served.port), name="probe")
        await asyncio.sleep(0)
        stuck.set()
        answered.wait(PATIENCE_S)  # it holds the loop
        status, body = await answer
    assert status == 503
    assert "no answer" in orjson.loads(body)["event_loop"]


async def test_a_port_in_use_is_one_clear_message() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EndpointError, match=rf"cannot listen on 127.0.0.1:{port}.*metrics.listen in gateway.yaml"):
            async with endpoint(port):
                pass


def test_the_page_lists_every_declared_metric() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_names_keep_the_conventions() -> None:
    for one in DECLARATIONS:
        assert one.name.startswith("edge_gateway_")
        assert one.name.endswith("_total") == (one.kind == "counter")
        assert not {"point", "id", "identifier"} & set(one.labels)
