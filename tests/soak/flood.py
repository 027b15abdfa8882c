"""One device floods the gateway while the disk is slow: it waits alone.

    python -m tests.soak.flood [--seconds 60] [--disk 100000] [--rate 40]

An OPC UA server gives 2,000 doubles that look like noise so many times a second, more than the disk takes; five Modbus
devices give 60 readings a second each. A real gateway runs on a disk that writes so many bytes a second
(tests/support/faulty_machine.c). Prints what waited and for how long; ends with 1 when memory or the neighbours' delay
go beyond what follows from the sizes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from benchmarks.rig.processes import CORES, Bench
from gateway.log.writer import COMMIT_SHARE_BYTES, MEMORY_BYTES, SHARE_BYTES
from tests.support.crash_plant import counting_device, counting_file
from tests.support.faulty_machine import FaultyMachine
from tests.support.rig import GatewayProcess
from tests.support.wait import eventually

CALM: Final = 5
ITEMS: Final = 2_000
COMMIT_S: Final = 0.2
MAX_WAIT_S: Final = 0.2
OTHER_MEMORY: Final = 150_000_000
"""of a gateway with a few devices that runs for a minute; the log's memory comes on top"""


class Flooded(NamedTuple):
    """What was seen."""

    seconds: float
    accepted_bytes: int
    """of the log, encoded"""
    pending: int
    """bytes between devices and disk, the most"""
    rss: int
    """bytes, the most"""
    delay: dict[str, float]
    """of the neighbours' readings, seconds"""
    commit_s: float
    """mean time of a commit"""


def delay_bound_s(disk_bytes_s: int) -> float:
    """Two commits, each with what the flood may put into one and the disk's time for it, and the batch's time."""
    return MAX_WAIT_S + 2 * (COMMIT_S + COMMIT_SHARE_BYTES / disk_bytes_s)


async def flood(folder: Path, seconds: float, disk_bytes_s: int, rate: float) -> Flooded:
    """Run it."""
    with FaultyMachine(folder) as machine, Bench() as bench:
        bench.broker()
        command = [sys.executable, "-m", "benchmarks.receive.lanes", "--port", str(bench.broker_port)]
        receiver = bench.start("receiver", [*command, "--delays-of", "calm"], CORES.load)
        receiver.ask()
        destination = {
            "name": "centre",
            "url": f"mqtt://127.0.0.1:{bench.broker_port}",
            "max_grade": 2,
            "batch": {"max_wait": f"{MAX_WAIT_S:g}s"},
        }
        log = {"path": str(machine.disk / "log"), "commit": f"{COMMIT_S:g}s"}
        async with devices(bench, rate) as files:
            with GatewayProcess(folder, files, destinations=[destination], log=log) as gateway:
                gateway.start(**machine.environment())
                await eventually(lambda: receiver.ask("stats")["lanes"].get("live"), 60, "readings come")
                machine.slow_down(disk_bytes_s)
                receiver.ask("reset")
                process = psutil.Process(gateway.pid)
                pending, rss, began = 0.0, 0, time.monotonic()
                while time.monotonic() - began < seconds:
                    await asyncio.sleep(0.5)
                    rss = max(rss, process.memory_info().rss)
                    pending = max(pending, await asyncio.to_thread(gateway.metric, "edge_gateway_log_pending_bytes"))
                machine.slow_down(0)
                commits = gateway.metric("edge_gateway_log_commits_total")
                taken = gateway.metric("edge_gateway_log_commit_seconds_total")
                return Flooded(
                    time.monotonic() - began,
                    int(gateway.metric("edge_gateway_log_written_bytes_total")),
                    int(pending),
                    rss,
                    receiver.ask("stats")["delay_s"],
                    taken / max(commits, 1),
                )


@contextlib.asynccontextmanager
async def devices(bench: Bench, rate: float) -> AsyncIterator[list[dict[str, Any]]]:
    """Device files: one that floods, `CALM` that do not."""
    server = bench.python("server", "load.opcua_server", "--items", ITEMS, "--rate", rate)
    port = server.ask()["port"]
    loud = {
        "device": "flood",
        "adapter": "opcua",
        "connection": {"url": f"opc.tcp://127.0.0.1:{port}", "timeout": "30s"},
        "subscribe": {"publishing": "25ms", "sampling": "25ms", "queue": "1s"},
        "load": {"requests_per_s": 1000},
        "points": [{"point": f"p{k}", "node": f"ns=1;i={k}"} for k in range(ITEMS)],
    }
    async with contextlib.AsyncExitStack() as stack:
        calm = [await stack.enter_async_context(counting_device()) for _ in range(CALM)]
        yield [
            loud,
            *(
                {**counting_file(device.url), "device": f"calm-{number}", "every": "1s"}
                for number, device in enumerate(calm)
            ),
        ]


def main() -> int:
    """Print the table; 0 when all bounds were kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--disk", type=int, default=100_000, help="bytes that it writes in a second")
    parser.add_argument("--rate", type=float, default=40, help="of the flood, Hz")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flood-") as folder:
        found = asyncio.run(flood(Path(folder), arguments.seconds, arguments.disk, arguments.rate))
    bound, delay = delay_bound_s(arguments.disk), found.delay
    print(f"a flood for {found.seconds:.0f} s on a disk that writes {arguments.disk:,} bytes a second")
    print(f"  taken by the log         {found.accepted_bytes:>12,} bytes")
    print(f"  between device and disk  {found.pending:>12,} bytes at most (a share is {SHARE_BYTES:,})")
    print(f"  memory of the process    {found.rss:>12,} bytes at most")
    print(f"  mean commit              {found.commit_s:>12.2f} s")
    quantiles = f"{delay['p50']:.2f} {delay['p99']:.2f} {delay['max']:.2f}"
    print(f"  neighbours' delay p50, p99, max {quantiles} s; bound {bound:.2f} s")
    kept = (
        found.pending <= 2 * SHARE_BYTES
        and found.rss <= OTHER_MEMORY + MEMORY_BYTES
        and delay["max"] <= bound
        and delay["count"] > 0
    )
    print("every bound was kept" if kept else "a bound was not kept")
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
