"""Metrics: what is exported is declared and documented; the endpoint tells the truth about the loop."""

from __future__ import annotations

import asyncio
import math
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics.collector import Sample, exposition
from gateway.metrics.declarations import DECLARATIONS
from gateway.metrics.endpoint import Endpoint, EndpointError, Verdict
from gateway.metrics.page import PAGE, page

PATIENCE_S = 60.0
"""far more than the endpoint waits for the loop"""
READY = Verdict(True, {"log": "takes readings"})


def endpoint(port: int = 0, ready: Verdict = READY) -> Endpoint:
    samples = [Sample("edge_gateway_device_up", 1, ("boiler-1", "modbus"))]
    return Endpoint("127.0.0.1", port, lambda: samples, lambda: Verdict(True, {}), lambda: ready)


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


def test_a_scrape_is_what_the_client_library_reads() -> None:
    odd = 'bo"il\\er\n 锅炉'
    samples = [
        Sample("edge_gateway_readings_accepted_total", 1e17, ("b", "modbus")),
        Sample("edge_gateway_device_up", True, (odd, "modbus")),
        Sample("edge_gateway_device_up", 0, ("b", "opcua")),
        Sample("edge_gateway_device_clock_offset_seconds", -0.1, ("b", "opcua")),
        Sample("edge_gateway_device_clock_offset_seconds", math.inf, ("c", "opcua")),
        Sample("edge_gateway_device_clock_offset_seconds", -math.inf, ("d", "opcua")),
        Sample("edge_gateway_start_time_seconds", 1795312338.937245),
    ]
    declared = {one.name: one for one in DECLARATIONS}
    found = list(text_string_to_metric_families(exposition(samples).decode()))
    read = [
        (sample.name, dict(sample.labels), sample.value, family.type) for family in found for sample in family.samples
    ]
    order = [one.name for one in DECLARATIONS]
    assert read == [
        (one.name, dict(zip(declared[one.name].labels, one.labels, strict=True)), one.value, declared[one.name].kind)
        for one in sorted(samples, key=lambda sample: order.index(sample.name))
    ]
    for family in found:
        name = family.name + ("_total" if family.type == "counter" else "")
        assert family.documentation == declared[name].help
    (family,) = text_string_to_metric_families(
        exposition([Sample("edge_gateway_start_time_seconds", math.nan)]).decode()
    )
    assert math.isnan(family.samples[0].value)


def test_what_is_not_declared_is_no_page() -> None:
    with pytest.raises(KeyError):
        exposition([Sample("edge_gateway_secret", 1)])
    with pytest.raises(ValueError, match="argument 2"):
        exposition([Sample("edge_gateway_device_up", 1, ("boiler-1",))])


def test_a_gateway_that_runs_loads_no_library_of_metrics_and_none_of_terminals() -> None:
    script = "import sys, gateway.commands.run, adapters.modbus, adapters.opcua.adapter; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    loaded = {name.partition(".")[0] for name in found.split()}
    assert not loaded & {"prometheus_client", "typer", "click", "rich", "openpyxl", "matplotlib", "pandas"}


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
