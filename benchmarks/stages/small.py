"""Many small devices: what a batch of few readings costs by itself, told per reading as everything is.

The other stages have one device with many readings, where a step more for each batch is not seen. Here each has
`POINTS`, and every step more is: so the budgets are what was counted, and a quarter.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Final

import numpy as np

from benchmarks.stages.core import HEADER
from benchmarks.stages.stage import Budget, Stage, Work
from gateway.contract.batch import Basis, Batch, ValueType
from gateway.log.codec import encode_segment
from gateway.log.records import BatchRecord
from gateway.publishing.encode_columns import encode_columns
from gateway.publishing.runs import gather, whole

POINTS: Final = 10
STREAM: Final = "01K9B0QD4T8Z6M3V5X7C1N2P4R"
NOW: Final = 1_763_700_000_123_456_789


def _records(readings: int) -> list[BatchRecord]:
    """Of as many devices as it takes, as a Modbus cycle of float32 makes them."""
    values = np.random.default_rng(1).normal(50, 10, readings).astype(np.float32)
    return [
        BatchRecord(STREAM, _batch(f"m{k // POINTS}", NOW + k, values[k : k + POINTS]), n=0)
        for k in range(0, readings, POINTS)
    ]


def _batch(device: str, time: int, values: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Batch:
    points = np.arange(POINTS, dtype=np.int32)
    return Batch.of(device, ValueType.FLOAT32, points, values, received_time=time, monotonic=time, basis=Basis.GATEWAY)


def _log_encode(readings: int, closing: ExitStack) -> Work:
    records = _records(readings)
    return Work(lambda: encode_segment(records, 1, 0), readings)


def _columns(readings: int, closing: ExitStack) -> Work:
    slices = [whole(record, 1) for record in _records(readings)]
    return Work(lambda: [encode_columns(HEADER, run) for run in gather(slices)], readings)


def _budget(opcodes: float) -> Budget:
    """CPU is not measured: it is of steps that are counted already."""
    return Budget(opcodes, objects=math.inf, loops=math.inf)


STAGES: Final = [
    Stage("small devices: log encode", _log_encode, _budget(100)),
    Stage("small devices: columns", _columns, _budget(57)),
]
