"""OPC UA: the highest rate of values that arrives without loss, and the delay that the gateway adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from benchmarks.rig.gateway_config import Delivery, write_opcua
from benchmarks.rig.loads import opcua_server
from benchmarks.rig.measure import climb, rate_figures, size_figures, start_gateway, start_script, summary
from benchmarks.rig.outcome import Figure, Outcome
from benchmarks.rig.processes import Bench

ITEMS: Final = 10_000
MIX_SHARE: Final = 0.2
SCRIPT_ITEMS: Final = 1_000

COLUMNS_RATES: Final = (500_000, 1_000_000, 1_500_000, 2_000_000, 2_500_000)
JSON_RATES: Final = (200_000, 400_000, 500_000, 600_000, 800_000, 1_000_000)
MIX_RATES: Final = (100_000, 200_000, 250_000, 300_000, 400_000, 500_000)
SCRIPT_RATES: Final = (10_000, 20_000, 25_000, 30_000, 40_000, 60_000)


def columns(seconds: float) -> Outcome:
    """B1: uniform doubles."""
    return _rates(Delivery(), COLUMNS_RATES, seconds, 1_000_000)


def json(seconds: float) -> Outcome:
    """B1 in JSON."""
    return _rates(Delivery(format="json"), JSON_RATES, seconds, 500_000)


def zstd(seconds: float) -> Outcome:
    """B1, compressed."""
    return _rates(Delivery(compression="zstd"), COLUMNS_RATES, seconds, None)


def mix(seconds: float) -> Outcome:
    """B2: many types; a fifth of the points changes at a time, in random order."""
    return _rates(Delivery(), MIX_RATES, seconds, 300_000, "plant")


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
        load, port = opcua_server(bench, ITEMS)
        delivery = Delivery(max_wait="1ms", commit="50ms")
        system = start_gateway(bench, delivery, "double", load, lambda folder: write_opcua(folder, port, ITEMS, "50ms"))
        system.wait_for_points(ITEMS)
        load.ask(f"rate {100_000 / ITEMS}")
        step = system.step(100_000, seconds)
        figures = [
            Figure("p50", step.delay_ms["p50"], "ms", 45, at_least=False),
            Figure("p99", step.delay_ms["p99"], "ms", 100, at_least=False),
        ]
        return Outcome(figures, {**asdict(step), "account": system.drain()})


def _rates(
    delivery: Delivery, rates: Sequence[float], seconds: float, bar: float | None, type: str = "double"
) -> Outcome:
    with Bench() as bench:
        load, port = opcua_server(bench, ITEMS, type)
        system = start_gateway(bench, delivery, type, load, lambda folder: write_opcua(folder, port, ITEMS, "100ms"))
        ready = system.wait_for_points(ITEMS)
        share = MIX_SHARE if type == "plant" else 1.0
        steps = climb(system, rates, ITEMS, seconds, share)
        account = system.drain()
        figures = rate_figures(steps, "readings/s", bar) + size_figures(system)
        return Outcome(figures, {"ready_s": ready, **summary(steps), "account": account})
