"""`edge-gateway run CONFIG_DIR`: collect and deliver until told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.config import load_config
from gateway.contract.clock import SystemClock
from gateway.memory import give_back, one_heap
from gateway.runtime.gateway import Gateway

log = logging.getLogger(__name__)

DESCRIPTORS: Final = 65_536
SWITCH_S: Final = 0.001
"""how long a thread that computes keeps the interpreter: with Python's 5 ms the event loop, which lets go of it at each
message that it sends, would take 0.2 s longer for live readings while threads decode a backlog"""


def main(config_dir: Path) -> int:
    """Run until SIGINT or SIGTERM; returns 0. Raises ConfigError and GatewayError, whose messages say what to do."""
    one_heap()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr)
    config = load_config(config_dir, for_run=True)
    for problem in config.warnings:
        log.warning("%s", problem)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(Gateway(config, SystemClock())))
    return 0


async def _run(gateway: Gateway) -> None:
    sys.setswitchinterval(SWITCH_S)
    _raise_descriptors()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, gateway.reload, "SIGHUP")
    gc.freeze()
    give_back()
    await gateway.run(stop)


def _raise_descriptors() -> None:
    """As many files and connections as we may have: a service manager often gives 1,024 and allows many more."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed; it does not exist on every platform."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return uvloop.new_event_loop
