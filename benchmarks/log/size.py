"""Bytes per reading in the log, fresh and as blocks, of a plant of mixed devices: `python -m benchmarks.log.size`.

The plant: four Modbus devices (40 float32 that drift with noise, 20 scaled 16-bit values, one time per cycle of 1 s)
and two OPC UA servers (150 doubles with two to four digits, of which a third changes each second, with their own times
in 100 ns; 30 bools and 20 counters that change now and then). About 470 readings a second.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from gateway.contract.adapter import Origin
from gateway.contract.batch import Batch, ValueType
from gateway.log import blocks, codec
from gateway.log.records import BatchRecord, Segment, Series

STREAM: Final = "01KAAAAAAAAAAAAAAAAAAAAAAA"
T0: Final = 1_790_000_000_000_000_000
SECOND: Final = 1_000_000_000
ROUNDS: Final = 5


class Size(NamedTuple):
    """What a plant's readings take."""

    readings: int
    segments: int
    fresh_bytes: int
    block_bytes: int
    encode_s: float
    """processor time of making the blocks"""
    decode_s: float


class Plant:
    """Readings second by second, the same for a seed."""

    def __init__(self, seed: int = 7) -> None:
        self._random = np.random.default_rng(seed)
        self._drift = [self._random.normal(50, 20, 40).astype(np.float32) for _ in range(4)]
        self._raw = [self._random.integers(100, 4000, 20) for _ in range(4)]
        self._doubles = [self._random.normal(80, 30, 150) for _ in range(2)]
        self._digits = [self._random.integers(2, 5, 150) for _ in range(2)]
        self._counters = [self._random.integers(0, 100_000, 20) for _ in range(2)]
        self._sequence = 0

    def second(self, index: int) -> Iterator[BatchRecord]:
        """All batches of one second."""
        at = T0 + index * SECOND
        for number in range(4):
            yield from self._modbus(number, at)
        for number in range(2):
            yield from self._opcua(number, at)

    def _modbus(self, number: int, at: int) -> Iterator[BatchRecord]:
        received = at + int(self._random.integers(10**6, 3 * 10**7))
        device = f"plc-{number}"
        self._drift[number] = (self._drift[number] + self._random.normal(0, 0.02, 40)).astype(np.float32)
        yield self._record(device, ValueType.FLOAT32, np.arange(40), self._drift[number].copy(), received, received)
        self._raw[number] = self._raw[number] + self._random.integers(-1, 2, 20)
        yield self._record(device, ValueType.FLOAT64, np.arange(40, 60), self._raw[number] * 0.1, received, received)

    def _opcua(self, number: int, at: int) -> Iterator[BatchRecord]:
        received = at + int(self._random.integers(10**6, 3 * 10**7))
        device = f"dcs-{number}"
        self._sequence += 1
        origin = Origin("urn:plant:dcs", number + 1, self._sequence)
        self._doubles[number] = self._doubles[number] + self._random.normal(0, 0.05, 150)
        for type, first, count, part in (
            (ValueType.FLOAT64, 0, 150, 0.33),
            (ValueType.BOOL, 150, 30, 0.02),
            (ValueType.INT64, 180, 20, 0.3),
        ):
            chosen = np.flatnonzero(self._random.random(count) < part)
            if not len(chosen):
                continue
            if type is ValueType.FLOAT64:
                digits = self._digits[number][chosen]
                values = np.rint(self._doubles[number][chosen] * 10.0**digits) / 10.0**digits
            elif type is ValueType.BOOL:
                values = self._random.random(len(chosen)) < 0.5
            else:
                self._counters[number][chosen] += self._random.integers(1, 4, len(chosen))
                values = self._counters[number][chosen]
            times = received - self._random.integers(0, 10**7, len(chosen)) * 100
            yield self._record(device, type, first + chosen, values, times, received, origin)

    @staticmethod
    def _record(
        device: str, type: ValueType, points: Any, values: Any, times: Any, received: int,
        origin: Origin | None = None,
    ) -> BatchRecord:  # fmt: skip
        batch = Batch.of(
            device, type, points, values, source_time=times, received_time=received, monotonic=received - T0
        )
        return BatchRecord(STREAM, batch, origin)


def sources(seconds: int, commit_s: float) -> Iterator[blocks.Source]:
    """The plant's segments, one for each commit; commits below a second split the devices over them."""
    plant = Plant()
    next_n: dict[Series, int] = {}
    position = 1
    gathered: list[BatchRecord] = []
    for index in range(seconds):
        records = list(plant.second(index))
        parts = 1 if commit_s >= 1 else round(1 / commit_s)
        for part in range(parts):
            gathered += records[part::parts]
            if commit_s > 1 and (index + 1) % round(commit_s):
                continue
            for record in gathered:
                record.n = next_n.get(record.series, 0)
                next_n[record.series] = record.n + len(record.batch)
            now = T0 + int((index + (part + 1) / parts) * SECOND)
            head, body, _ = codec.encode_segment(gathered, position, now)
            yield blocks.Source(codec.decode_head(head, position), len(head) + len(body), list(gathered))
            gathered = []
            position += 1


def measure(seconds: int, commit_s: float) -> Size:
    """Encode the plant's readings in both ways, and see that the same come back."""
    found = list(sources(seconds, commit_s))
    began = time.process_time()
    packed = [blocks.encode_block(part) for part in blocks.blockwise(found)]
    encoded = time.process_time()
    back: list[Segment] = []
    for head, body in packed:
        checked = blocks.decode_block_head(head, int.from_bytes(head[8:16], "little"))
        back += blocks.decode_block(checked, body)
    decoded = time.process_time()
    if [segment.heads for segment in back] != [source.head.series for source in found]:
        raise AssertionError("blocks gave back other segments than went in")
    return Size(
        sum(source.head.readings for source in found),
        len(found),
        sum(source.nbytes for source in found),
        sum(len(head) + len(body) for head, body in packed),
        encoded - began,
        decoded - encoded,
    )


def main() -> None:
    """Print a line for each commit interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="of the plant")
    seconds = parser.parse_args().seconds
    print("commit   readings  segments  fresh B/reading  blocks B/reading  encode us/reading  decode us/reading")
    for commit_s in (0.2, 1.0, 2.0):
        size = measure(seconds, commit_s)
        print(
            f"{commit_s:4.1f} s {size.readings:10,} {size.segments:9,} {size.fresh_bytes / size.readings:16.2f} "
            f"{size.block_bytes / size.readings:17.2f} {size.encode_s / size.readings * 1e6:18.3f} "
            f"{size.decode_s / size.readings * 1e6:18.3f}"
        )


if __name__ == "__main__":
    main()
