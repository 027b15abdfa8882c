"""The whole path in a test: a real gateway process, a real broker, the simulated centre, devices of the test's own."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

from simulators.centre.report import Report
from simulators.centre.subscriber import Centre
from tests.support.broker import Mosquitto, free_port
from tests.support.machine import Taken
from tests.support.wait import eventually

STOP_S = 5.0
START_S = 60.0
"""until a gateway has started and does what it should, on a machine with other work to do; no test measures it"""
ANSWER_S = 20.0
"""a look at the metrics that is given up tells what is not so"""

GATEWAY: dict[str, Any] = {
    "gateway": {"id": "gw-1", "enterprise": "91370200MA3C00000K"},
    "identifiers": {"prefix": "88.118.8"},
    "governance": {"domain": "production", "grade": 1, "class": "general"},
}


class Process(Protocol):
    """What a started program is to us; see `subprocess.Popen`."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def kill(self) -> None: ...
    def send_signal(self, sig: int, /) -> None: ...


class GatewayProcess:
    """`edge-gateway run` on a config folder of its own; start and end it as often as the test likes."""

    def __init__(self, folder: Path, devices: Sequence[Mapping[str, Any]], **gateway: Any) -> None:
        """`gateway`: top-level keys of gateway.yaml that replace or add to the usual ones."""
        self.folder = folder
        self.log = folder / "log"
        self.metrics_port = free_port()
        self.config = folder / "config"
        (self.config / "devices").mkdir(parents=True)
        self.content: dict[str, Any] = {
            **GATEWAY,
            "log": {"path": str(self.log), "commit": "50ms"},
            "metrics": {"listen": f"127.0.0.1:{self.metrics_port}"},
            **gateway,
        }
        write_yaml(self.config / "gateway.yaml", self.content)
        for device in devices:
            write_yaml(self.config / "devices" / f"{device['device']}.yaml", device)
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """Process id while it runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything that it said, over all starts."""
        path = self.folder / "gateway.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, **environment: str) -> None:
        """Start it; returns at once."""
        self._process = self._spawn(self.folder / "gateway.log", environment)

    def _spawn(self, output: Path, environment: Mapping[str, str]) -> Process:
        with output.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "gateway.commands.main", "run", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **environment},
            )

    def kill(self) -> None:
        """SIGKILL: the power fails."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self, *signals: signal.Signals) -> int:
        """SIGTERM, or what is given; returns the exit code.

        Fails when it takes more than 5 s, as promised, of those in which this machine let it run.
        """
        process, self._process = self._process, None
        assert process is not None
        taken, began = Taken(process.pid), time.monotonic()
        for each in signals or (signal.SIGTERM,):
            process.send_signal(each)
        while (code := process.poll()) is None:
            if time.monotonic() - began > STOP_S + taken.seconds:
                process.kill()
                process.wait()
                raise AssertionError(f"the gateway did not stop within {STOP_S:g} s:\n{self.output}")
            time.sleep(0.01)
        return code

    @property
    def alive(self) -> bool:
        """It runs."""
        return self._process is not None and self._process.poll() is None

    def metrics(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """All samples by name and sorted labels; empty while it cannot be read."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=ANSWER_S) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return found

    def metric(self, name: str, **labels: str) -> float:
        """One sample's value; NaN, which compares with nothing, when there is none or the page cannot be read."""
        return self.metrics().get(name, {}).get(tuple(sorted(labels.items())), math.nan)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            sys.stderr.write(f"--- the gateway said:\n{self.output[-6000:]}\n")
        self.kill()


class Delivery:
    """A broker and a centre that subscribes to everything; context manager."""

    def __init__(self, folder: Path, broker: Mosquitto | None = None) -> None:
        self.broker = broker or Mosquitto(persistence=True)
        self.database = folder / "centre.db"
        self._centre: Centre | None = None

    def destination(self, **keys: Any) -> dict[str, Any]:
        """A destination of gateway.yaml that ends here."""
        return {
            "name": "centre",
            "url": self.broker.url,
            "topic": "iiot/v1/{enterprise}/{gateway}",
            "max_grade": 2,
            "batch": {"max_wait": "100ms"},
            **keys,
        }

    def report(self) -> Report:
        """What the centre knows; to be used as a context manager."""
        return Report(self.database)

    async def settled(self, gateway: GatewayProcess, timeout_s: float = START_S) -> None:
        """Wait until the gateway says that nothing waits, and the centre has stored what was delivered."""

        def nothing_waits() -> bool:
            account = gateway.metrics()
            accepted = sum(account.get("edge_gateway_account_accepted_total", {}).values())
            return accepted > 0 and sum(account.get("edge_gateway_account_waiting", {}).values()) == 0

        await eventually(nothing_waits, timeout_s, "nothing waits")

    async def stop(self, gateway: GatewayProcess, *signals: signal.Signals) -> int:
        """Stop the gateway and wait for its goodbye, its last message: then everything else is stored too.

        `signals` as of `GatewayProcess.stop`.
        """
        before = self.goodbyes()
        code = await asyncio.to_thread(gateway.stop, *signals)
        await eventually(lambda: self.goodbyes() > before, START_S, "the goodbye at the centre")
        return code

    def goodbyes(self) -> int:
        """Sessions that ended with the message of an orderly stop, which comes after the closing account."""
        with self.report() as report:
            return len({status["session"] for status in report.statuses() if status.get("reason") == "stopped"})

    def __enter__(self) -> Self:
        self.broker.__enter__()
        self._centre = Centre(self.broker.url, "iiot/v1/#", self.database)
        self._centre.__enter__()
        self._centre.wait_ready(START_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._centre is not None:
            self._centre.__exit__(kind, error, trace)
        self.broker.__exit__(kind, error, trace)


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write a config file."""
    path.write_text(yaml.safe_dump(dict(content), allow_unicode=True, sort_keys=False), encoding="utf-8")


def config_folder(folder: Path, log: Path, *, destinations: Sequence[Mapping[str, Any]] = (), **gateway: Any) -> Path:
    """A config with one device that nobody asks, for commands that only read it; `gateway`: keys of `gateway:`."""
    (folder / "devices").mkdir(parents=True)
    identity = {**GATEWAY["gateway"], **gateway}
    content = {**GATEWAY, "gateway": identity, "log": {"path": str(log)}, "destinations": list(destinations)}
    write_yaml(folder / "gateway.yaml", content)
    point = {"point": "p0", "address": "holding 0", "type": "uint16"}
    device = {"device": "boiler-1", "adapter": "modbus", "connection": {"url": "tcp://127.0.0.1:1", "station": 1}}
    write_yaml(folder / "devices" / "boiler-1.yaml", {**device, "points": [point]})
    return folder
