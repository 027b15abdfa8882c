"""One Modbus device with 10,000 contiguous registers over one connection: which period is kept, and how exactly.

    python -m benchmarks.workloads.modbus_cycles --seconds 10

80 requests a cycle; the whole gateway with its durable log and a broker, the gateway on a core of its own. A cycle's
beginning is when the device is asked for its first register, as the device saw it: its lateness is against a fixed
grid of the period, laid so that 5 % of the cycles are before it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from benchmarks.rig.gateway_config import Delivery, write_modbus
from benchmarks.rig.loads import modbus_devices
from benchmarks.rig.measure import progress, start_gateway
from benchmarks.rig.processes import Bench

REGISTERS: Final = 10_000
PERIODS_MS: Final = (100, 80, 60, 50, 40, 30, 20, 15)
SETTLE_S: Final = 2.0


class Kept(NamedTuple):
    """How a period was kept; lateness in ms."""

    cycles: int
    missed: int
    p50_ms: float
    p99_ms: float


def kept(starts: Sequence[float], period_s: float) -> Kept:
    """From the beginnings of cycles, ascending seconds."""

    def off_s(start: float, base: float) -> float:
        """From the nearest line of a grid through `base`."""
        return (start - base + period_s / 2) % period_s - period_s / 2

    middle = min(starts, key=lambda base: sum(abs(off_s(start, base)) for start in starts))
    off = sorted(off_s(start, middle) for start in starts)
    late_ms = [max(0.0, one - off[len(off) // 20]) * 1e3 for one in off]
    whole = round((starts[-1] - starts[0]) / period_s) + 1
    return Kept(len(starts), max(0, whole - len(starts)), late_ms[len(off) // 2], late_ms[len(off) * 99 // 100])


def measure(period_ms: int, seconds: float) -> dict[str, Any]:
    """One period for so long."""
    with Bench() as bench:
        load, ports = modbus_devices(bench, 1)
        system = start_gateway(
            bench,
            Delivery(),
            "modbus",
            load,
            lambda folder: write_modbus(folder, ports, REGISTERS // 2, f"{period_ms}ms"),
        )
        system.wait_for_points(REGISTERS // 2)
        time.sleep(SETTLE_S)
        load.ask("cycles")
        step = system.step(REGISTERS / period_ms * 1e3, seconds, "registers")
        found = kept(load.ask("cycles")["starts"], period_ms / 1e3)
        return {
            "period_ms": period_ms,
            **found._asdict(),
            "registers_per_s": step.delivered,
            "cpu_share": step.cpu_share,
            "others_share": step.others_share,
            "lost": step.lost,
            "keeps_up": step.keeps_up and not found.missed,
        }


def main() -> None:
    """See the module's text; ends at the first period that is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--periods", type=int, nargs="*", default=PERIODS_MS, help="ms")
    arguments = parser.parse_args()
    for period_ms in arguments.periods:
        seen = measure(period_ms, arguments.seconds)
        progress(
            f"{period_ms:4d} ms: {seen['registers_per_s']:>9,.0f} registers/s, {seen['cycles']} cycles, "
            f"{seen['missed']} missed, late {seen['p50_ms']:.1f} ms (p50) {seen['p99_ms']:.1f} ms (p99), "
            f"{seen['cpu_share']:.0%} of the core (others {seen['others_share']:.0%}), lost {seen['lost']}"
        )
        if not seen["keeps_up"]:
            break


if __name__ == "__main__":
    main()
