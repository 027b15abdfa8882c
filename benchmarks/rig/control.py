"""How `python -m benchmarks` talks to the load servers and the receiver: one line in, one line of JSON out.

A program ends when its standard input does, so nothing outlives the benchmark that started it.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import threading
from collections.abc import Callable
from typing import Any

Commands = dict[str, Callable[..., Any]]


def say(answer: Any) -> None:
    """Print one line of JSON."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def cpu_s() -> float:
    """Seconds of CPU this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def obey(line: str, commands: Commands) -> None:
    """Run `name argument ...` and print what it returns."""
    name, *arguments = line.split()
    say(commands[name](*map(float, arguments)))


async def serve(commands: Commands, seconds: float | None) -> None:
    """Obey lines from standard input until it ends, or for `seconds`."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def read() -> None:
        for line in sys.stdin:
            if line.strip():
                loop.call_soon_threadsafe(obey, line, commands)
        loop.call_soon_threadsafe(done.set)

    if seconds is not None:
        await asyncio.sleep(seconds)
        return
    threading.Thread(target=read, name="commands", daemon=True).start()
    await done.wait()
