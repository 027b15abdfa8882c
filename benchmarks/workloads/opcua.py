"""OPC UA: the highest rate of values that arrives without loss, and the delay that the gateway adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.load.opcua_nodes import NAMESPACES
from benchmarks.load.opcua_security import make_certificate
from benchmarks.rig.gateway_config import Delivery, write_opcua
from benchmarks.rig.loads import opcua_server
from benchmarks.rig.measure import Step, climb, rate_figures, size_figures, start_gateway, start_script, summary
from benchmarks.rig.outcome import Figure, Outcome
from benchmarks.rig.processes import Bench

PLANT_SHARE: Final = 0.2
"""of a plant's points change at a time"""
SCRIPT_ITEMS: Final = 1_000
SCRIPT_RATES: Final = (10_000, 20_000, 25_000, 30_000, 40_000, 60_000)
DELAY_ITEMS: Final = 10_000
DELAY_RATE: Final = 100_000
FULL: Final = 0.95
"""a core that is used so far has nothing left"""
LIGHT: Final = 0.6
"""of its core: what the gateway may use where the load server is the limit"""


class Server(NamedTuple):
    """What the load server is, and how often it changes its items."""

    items: int
    hertz: tuple[float, ...]
    """stepped up; of a plant a fifth changes at a time"""
    type: str = "double"
    secured: bool = False

    @property
    def share(self) -> float:
        """Of the items that change at a time."""
        return PLANT_SHARE if self.type == "plant" else 1.0

    @property
    def rates(self) -> list[float]:
        """Readings/s of each step."""
        return [hertz * self.items * self.share for hertz in self.hertz]

    @property
    def sampling(self) -> str:
        """How often the gateway has the server look, so that it may report every change."""
        return f"{1000 / (max(self.hertz) * self.share):.0f}ms"


B1: Final = Server(25_000, (20, 40, 60, 80, 100))
B1_JSON: Final = Server(25_000, (10, 16, 20, 24, 32, 40))
B1_FEW: Final = Server(10_000, (50, 75, 100))
B1_MANY: Final = Server(50_000, (10, 20, 30, 40, 50))
B2: Final = Server(10_000, (50, 75, 100, 125, 150, 200, 250), "plant")
B3: Final = Server(25_000, (10, 20, 30, 40, 60, 80), secured=True)
B3_JSON: Final = Server(25_000, (8, 12, 16, 20, 24, 32), secured=True)
JSON: Final = Delivery(format="json")


def columns(seconds: float) -> Outcome:
    """B1: uniform doubles."""
    return _rates(Delivery(), B1, seconds, 1_000_000)


def columns_few(seconds: float) -> Outcome:
    """B1 with as few items as it may have, as fast as they may change: a million readings/s and no more."""
    return _rates(Delivery(), B1_FEW, seconds, None)


def columns_many(seconds: float) -> Outcome:
    """B1 with as many items as it may have."""
    return _rates(Delivery(), B1_MANY, seconds, 1_000_000)


def json(seconds: float) -> Outcome:
    """B1 in JSON."""
    return _rates(JSON, B1_JSON, seconds, 500_000)


def zstd(seconds: float) -> Outcome:
    """B1, compressed."""
    return _rates(Delivery(compression="zstd"), B1, seconds, None)


def plant(seconds: float) -> Outcome:
    """B2: many types, some not good; a fifth of the points changes at a time, in random order."""
    return _rates(Delivery(), B2, seconds, 300_000)


def plant_json(seconds: float) -> Outcome:
    """B2 in JSON."""
    return _rates(JSON, B2, seconds, None)


def secured(seconds: float) -> Outcome:
    """B3: B1's load, signed and encrypted."""
    return _rates(Delivery(), B3, seconds, 500_000)


def secured_json(seconds: float) -> Outcome:
    """B3 in JSON."""
    return _rates(JSON, B3_JSON, seconds, None)


def script(seconds: float) -> Outcome:
    """B1 with the plain script."""
    with Bench() as bench:
        load, port = opcua_server(bench, SCRIPT_ITEMS)
        system = start_script(
            bench, "double", load, "opcua", "--url", f"opc.tcp://127.0.0.1:{port}", "--points", SCRIPT_ITEMS
        )
        system.wait_for_points(SCRIPT_ITEMS)
        steps = climb(system, SCRIPT_RATES, SCRIPT_ITEMS, seconds)
        return Outcome(rate_figures(steps, "readings/s", None), {**summary(steps), "account": system.drain()})


def delay(seconds: float) -> Outcome:
    """What the gateway adds at 100,000 values/s: no batching time, commit every 50 ms."""
    with Bench() as bench:
        load, port = opcua_server(bench, DELAY_ITEMS)
        system = start_gateway(
            bench,
            Delivery(max_wait="1ms", commit="50ms"),
            "double",
            load,
            lambda folder: write_opcua(folder, port, DELAY_ITEMS, "50ms"),
        )
        system.wait_for_points(DELAY_ITEMS)
        load.ask(f"rate {DELAY_RATE / DELAY_ITEMS}")
        step = system.step(DELAY_RATE, seconds)
        figures = [
            Figure("p50", step.delay_ms["p50"], "ms", 45, at_least=False),
            Figure("p99", step.delay_ms["p99"], "ms", 100, at_least=False),
        ]
        return Outcome(figures, {**asdict(step), "account": system.drain()})


def _rates(delivery: Delivery, server: Server, seconds: float, bar: float | None) -> Outcome:
    with Bench() as bench:
        connection, options = _security(bench.folder) if server.secured else ("", ())
        load, port = opcua_server(bench, server.items, server.type, options=options)
        system = start_gateway(
            bench, delivery, server.type, load, lambda folder: _device(folder, port, server, connection)
        )
        ready = system.wait_for_points(server.items)
        steps = climb(system, server.rates, server.items, seconds, server.share)
        account = system.drain()
        figures = [
            *rate_figures(steps, "readings/s", None if _load_is_the_limit(steps) else bar),
            *limit_figures(steps),
            Figure("all points arrived after", ready, "s"),
            *size_figures(system),
        ]
        return Outcome(figures, {"server": server._asdict(), "ready_s": ready, **summary(steps), "account": account})


def limit_figures(steps: Sequence[Step]) -> list[Figure]:
    """Who had how much left at the last step: the highest rate, or the first one that was not kept up with."""
    last = steps[-1]
    return [
        Figure("last step", last.offered, "readings/s"),
        Figure("gateway at the last step", last.cpu_share * 100, "% of its core"),
        Figure("load server at the last step", last.load_server_share * 100, "% of the other core"),
        Figure("load server, broker and receiver then", last.load_cpu_share * 100, "% of the other core"),
        Figure("the load was the limit", float(_load_is_the_limit(steps)), "1 = yes"),
    ]


def _load_is_the_limit(steps: Sequence[Step]) -> bool:
    """Whether the other core had nothing left while the gateway had."""
    last = steps[-1]
    return not last.keeps_up and last.load_cpu_share >= FULL and last.cpu_share < LIGHT


def _device(folder: Path, port: int, server: Server, connection: str) -> None:
    write_opcua(folder, port, server.items, "100ms", sampling=server.sampling, connection=connection)


def _security(folder: Path) -> tuple[str, tuple[Any, ...]]:
    """Certificates of both sides, each trusted by the other: the gateway's keys, the load server's options."""
    pki, certificate, key = folder / "pki", folder / "server.der", folder / "server.pem"
    own = pki / "own" / "certificate.der"
    make_certificate(certificate, key, NAMESPACES[1])
    make_certificate(own, own.with_name("key.pem"), "urn:bench:edge-gateway")
    (pki / "trusted").mkdir()
    (pki / "trusted" / certificate.name).write_bytes(certificate.read_bytes())
    keys = f', security: Basic256Sha256/SignAndEncrypt, pki: "{pki}"'
    return keys, ("--certificate", certificate, "--key", key, "--trust", own)
