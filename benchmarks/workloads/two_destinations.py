"""B8: two destinations, and one acknowledges at a tenth of the rate. The other must not notice.

Two runs, one after the other: the healthy destination alone, and beside the slow one. OPC UA, 50,000 readings/s, which
is far from what one core can do: it is the neighbour that is looked at and not the highest rate.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from benchmarks.rig.gateway_config import Delivery, write_gateway, write_opcua
from benchmarks.rig.launch import gateway_process
from benchmarks.rig.loads import opcua_server
from benchmarks.rig.measure import OFFERED, Step, System, progress
from benchmarks.rig.outcome import Figure, Outcome
from benchmarks.rig.processes import Bench, free_port

ITEMS: Final = 5_000
RATE: Final = 50_000
SLOWER: Final = 10
HELD: Final = 4
"""so many times the seconds of a rate: a backlog has to grow beside the healthy one"""
DELIVERY: Final = Delivery()
BOUND_MS: Final = 200 + 2 * 200
"""batch time and two commits"""
WINDOW_MESSAGES: Final = 100
"""the default of `window`: so much waits for the slow one's acknowledgement, and no more"""


def run(seconds: float) -> Outcome:
    """See the module's text."""
    alone, _, _ = _measure(HELD * seconds, slow=False)
    progress(alone.line("readings/s, alone"))
    beside, account, slow = _measure(HELD * seconds, slow=True)
    progress(beside.line("readings/s, beside a slow one"))
    lost = account["never_came"] + sum(account[key] for key in ("wrong", "missing"))
    figures = [
        Figure("healthy one's delay p99 beside the slow one", beside.delay_ms["p99"], "ms", BOUND_MS, at_least=False),
        Figure("healthy one's delay p99 alone", alone.delay_ms["p99"], "ms"),
        Figure("delay p99 beside / alone", beside.delay_ms["p99"] / alone.delay_ms["p99"], "x"),
        Figure("rate beside / made", beside.delivered / beside.sent, "x", OFFERED),
        Figure("healthy one lost", lost, "readings", 0, at_least=False),
        Figure("slow one's rate / healthy one's", slow["rate"] / beside.delivered, "x"),
        Figure("slow one unacknowledged at most", slow["most_messages"], "messages", WINDOW_MESSAGES, at_least=False),
        Figure("slow one unacknowledged at most, size", slow["most_bytes"] / 1e6, "MB"),
        Figure("CPU beside / alone", beside.cpu_share / alone.cpu_share, "x"),
        Figure("RSS beside", beside.rss_mb, "MB"),
    ]
    details = {"alone": asdict(alone), "beside": asdict(beside), "account": account, "slow": slow}
    return Outcome(figures, details)


def _measure(seconds: float, *, slow: bool) -> tuple[Step, dict[str, Any], dict[str, Any]]:
    """A run: what the healthy destination saw, its account in the end, what the slow one did in the meantime."""
    with Bench() as bench:
        load, port = opcua_server(bench, ITEMS)
        broker = bench.broker()
        receiver = bench.python("receiver", "receive.receiver", "--port", bench.broker_port)
        receiver.ask()
        neighbour = bench.python("slow", "load.slow_broker", "--rate", RATE / SLOWER) if slow else None
        others = {"slow": int(neighbour.ask()["port"])} if neighbour else {}
        config = bench.folder / "config"
        write_gateway(config, DELIVERY, bench.broker_port, free_port(), others)
        write_opcua(config, port, ITEMS, "100ms")
        system = System(bench, load, gateway_process(bench, config), receiver, broker)
        system.wait_for_points(ITEMS)
        load.ask(f"rate {RATE / ITEMS}")
        before = neighbour.ask("stats") if neighbour else {}
        step = system.step(RATE, seconds)
        after = neighbour.ask("stats") if neighbour else {}
        if after:
            elapsed = after["time"] - before["time"]
            after["rate"] = (after["acknowledged"] - before["acknowledged"]) / elapsed
        return step, system.drain(), after
