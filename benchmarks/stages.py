"""What each stage of the path costs by itself, in us of CPU per value, on one notification of 10,000 items."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from adapters.modbus.address import Table
from adapters.modbus.decode import Layout, Replies
from adapters.modbus.planner import Limits, Span, plan
from adapters.modbus.point import ModbusPointConfig
from adapters.opcua.decoding.batches import BatchBuilder, Moment
from adapters.opcua.decoding.decode import decode_items
from adapters.opcua.decoding.fallback import decode_other
from benchmarks.load import modbus_devices
from benchmarks.load.notifications import SOURCE, VALUE, Part, filetime
from benchmarks.rig.measure import progress
from benchmarks.rig.outcome import Figure, Outcome
from gateway.contract import Batch, Point, PointConfig, SystemClock
from gateway.log.codec import decode_body, decode_head, encode_segment
from gateway.log.records import BatchRecord, Labels, Record, Segment, StreamRecord
from gateway.log.store import LogStore
from gateway.normalise import Normaliser
from gateway.points.registry import DeviceDefinition, PointDefinition, Registry
from gateway.points.streams import Streams
from gateway.points.table import PointTable
from gateway.publishing.encode_columns import encode_columns
from gateway.publishing.encode_json import Header, PointPrefixes, encode_readings
from gateway.publishing.runs import Run, whole

ITEMS: Final = 10_000
SECONDS: Final = 0.5
LABELS: Final = Labels("production", 1, "general")
HEADER: Final = Header("91370200MA3C00000K", "bench", "live", 1)
PER_COMMIT: Final = 10
"""segments in one commit: 100,000 readings"""

Results = dict[str, dict[str, float]]


def run(_: float) -> Outcome:
    """A figure for each stage."""
    results = measure()
    return Outcome([Figure(name, stage["us"], "us/value") for name, stage in results.items()], dict(results))


def measure() -> Results:
    """Stage name to us of CPU per value, and bytes per value where the stage makes bytes."""
    results: Results = {}
    for type in ("double", "mix"):
        _opcua(type, results)
    _modbus(results)
    return results


def _time(results: Results, name: str, values: int, work: Callable[[], Any], size: int | None = None) -> None:
    """Best of five: CPU per call over a fifth of `SECONDS` each."""
    work()
    best = float("inf")
    for _ in range(5):
        calls, start = 0, time.process_time()
        while (elapsed := time.process_time() - start) < SECONDS / 5:
            work()
            calls += 1
        best = min(best, elapsed / calls)
    results[name] = {"us": best / values * 1e6}
    if size is not None:
        results[name]["bytes"] = size / values
    progress(f"  {name:<40}{best / values * 1e6:8.4f} us/value")


def _opcua(type: str, results: Results) -> None:
    part = Part(range(ITEMS), range(ITEMS), type, VALUE | SOURCE)
    data = part.encode(7, filetime(time.time_ns()))
    start = 9  # type id, encoding and length of the extension object
    builder = BatchBuilder("load", dict.fromkeys(range(ITEMS), 0), "trust", 0)
    moment = Moment(time.time_ns(), time.monotonic_ns())
    _time(
        results, f"opcua {type}: decode", ITEMS, lambda: decode_items(data, start, len(data), decode_other), len(data)
    )
    items = decode_items(data, start, len(data), decode_other)
    _time(results, f"opcua {type}: batches", ITEMS, lambda: builder.build(items, moment))
    batches = builder.build(items, moment).batches
    _core(f"opcua {type}", batches, results)


def _modbus(results: Results) -> None:
    points = [
        Point(k, ModbusPointConfig.model_validate({"point": f"p{k}", "address": f"holding {2 * k}", "type": "float32"}))
        for k in range(ITEMS // 2)
    ]
    image = modbus_devices.Image()
    blocks = plan(Table.HOLDING, [Span(2 * k, 2, k) for k in range(len(points))], Limits())
    layout = Layout("load", points, blocks)
    payloads = [image.data[2 * block.start : 2 * (block.start + block.cells)] for block in blocks]
    n = len(blocks)
    now = time.time_ns()
    replies = Replies(payloads, [0] * n, [True] * n, [now] * n)
    _time(results, "modbus: decode, per register", ITEMS, lambda: layout.decode(replies, now, 0))
    _core("modbus", layout.decode(replies, now, 0), results)


def _core(name: str, batches: list[Batch], results: Results) -> None:
    """Everything behind the adapter."""
    values = sum(map(len, batches))
    table, written = PointTable(), list[Record]()

    def begin(stream: StreamRecord) -> None:
        table.apply([stream])

    streams = Streams(table, continue_old=True, now=time.time_ns, begin=begin)
    registry = Registry(table, streams, now=time.time_ns, write=written.extend)
    definitions = [PointDefinition(PointConfig(point=f"p{k}"), LABELS, f"88.118.8/load.p{k}") for k in range(ITEMS)]
    registry.bind(DeviceDefinition("load", None, "bench", definitions))
    normaliser = Normaliser("load", table, registry)
    _time(results, f"{name}: normalise", values, lambda: normaliser.records(batches))
    records = normaliser.records(batches)
    _number(records)
    head, body, _ = encode_segment(records, 1, 0)
    _time(results, f"{name}: log encode", values, lambda: encode_segment(records, 1, 0), len(head) + len(body))
    _commit(name, records, values, results)
    parsed = decode_head(head, 1)
    _time(results, f"{name}: log decode", values, lambda: decode_body(parsed, body))
    runs = [Run(record.series, (whole(record, 1),)) for record in records]
    prefixes = PointPrefixes(table.points("load"))
    columns = sum(len(encode_columns(HEADER, run)) for run in runs)
    _time(results, f"{name}: columns", values, lambda: [encode_columns(HEADER, run) for run in runs], columns)
    json = sum(len(encode_readings(HEADER, run, prefixes)) for run in runs)
    _time(results, f"{name}: json", values, lambda: [encode_readings(HEADER, run, prefixes) for run in runs], json)


def _number(records: list[BatchRecord], first: int = 0) -> int:
    for record in records:
        record.n = first
        first += len(record.batch)
    return first


def _commit(name: str, records: list[BatchRecord], values: int, results: Results) -> None:
    with tempfile.TemporaryDirectory(prefix="edge-gateway-bench-") as folder:
        store, _ = LogStore.open(Path(folder), identity="bench", clock=SystemClock())
        n = 0

        def commit() -> None:
            nonlocal n
            position = store.bounds().end
            segments = []
            for k in range(PER_COMMIT):
                copies = [BatchRecord(record.stream, record.batch) for record in records]
                n = _number(copies, n)
                segments.append(Segment(position + k, list[Record](copies)))
            store.append(segments, position)

        try:
            _time(results, f"{name}: log encode + commit", PER_COMMIT * values, commit)
        finally:
            store.close()
