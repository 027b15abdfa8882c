"""What is freed goes back to the system, also where something small above it stays in use."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, threading
from gateway import memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def fill_and_free(kept):
    blocks = [bytes(4000) for _ in range(20_000)]
    kept.append(blocks[-1])

def used_and_freed():
    kept = []
    thread = threading.Thread(target=fill_and_free, args=(kept,))
    thread.start()
    thread.join()
    return kept

kept = used_and_freed()
before = resident()
{action}
print(before - resident())
"""
LATER = """
async def wait():
    memory.EVERY_S = 0.01
    task = asyncio.create_task(memory.stay_small())
    while before - resident() < 40_000_000:
        await asyncio.sleep(0.01)
    task.cancel()
asyncio.run(asyncio.wait_for(wait(), 60))
"""


@pytest.mark.parametrize("action", ["memory.trim()", LATER])
def test_what_a_thread_has_freed_goes_back(action: str) -> None:
    command = [sys.executable, "-c", SCRIPT.replace("{action}", action)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(found) > 40_000_000
