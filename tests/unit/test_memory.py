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


BLOCK = """
import threading
import numpy as np
from gateway import memory
from gateway.contract.batch import Batch, ValueType
from gateway.log import blocks, codec
from gateway.log.records import BatchRecord

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def block(count):
    values = np.random.default_rng(1).integers(0, 1 << 20, count) / 1024
    batch = Batch.of("m", ValueType.FLOAT64, np.arange(count), values, received_time=1, monotonic=1, source_time=1)
    records = [BatchRecord("01KAAAAAAAAAAAAAAAAAAAAAAA", batch, None, 0)]
    head, body, _ = codec.encode_segment(records, 1, 1)
    return blocks.encode_block([blocks.Source(codec.decode_head(head, 1), len(head) + len(body), records)])

def settle():
    block(100_000)
    emptied.set()
    finished.wait()

block(10)
emptied, finished = threading.Event(), threading.Event()
memory.trim()
before = resident()
thread = threading.Thread(target=settle)
thread.start()
emptied.wait()
memory.trim()
print(resident() - before)
finished.set()
thread.join()
"""


def test_a_thread_that_has_made_a_block_keeps_no_compressor_of_blocks() -> None:
    """12 MB with it; what is left are the small one of segments and pages of the program."""
    found = subprocess.run([sys.executable, "-c", BLOCK], capture_output=True, text=True, check=True).stdout
    assert int(found) < 8_000_000


HEAPS = """
import threading
from gateway import memory

def heap():
    with open("/proc/self/maps") as file:
        spans = [line.split()[0].split("-") for line in file if line.rstrip().endswith("[heap]")]
    return sum(int(end, 16) - int(begin, 16) for begin, end in spans)

{action}
before, kept = heap(), []
thread = threading.Thread(target=lambda: kept.extend(bytes(4000) for _ in range(10_000)))
thread.start()
thread.join()
print(heap() - before)
"""


@pytest.mark.parametrize(
    ("action", "least", "most"), [("", 0, 10_000_000), ("memory.one_heap()", 35_000_000, 80_000_000)]
)
def test_all_threads_allocate_from_one_heap(action: str, least: int, most: int) -> None:
    command = [sys.executable, "-c", HEAPS.replace("{action}", action)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert least <= int(found) <= most
