"""Readings as Apache Parquet, row group by row group (an extra: pip install 'edge-gateway[parquet]')."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, Final, cast

import numpy as np

from gateway.commands.log_query import Rows
from gateway.contract import ConfigError
from gateway.contract.batch import ValueType
from gateway.contract.status import quality
from gateway.publishing.fragments import value_fragments

if TYPE_CHECKING:
    from arro3.core import RecordBatch, Schema

ROWS: Final = 100_000
"""of a row group: what is in memory at once"""
BATCH: Final = 10_000
"""of what is handed over at once"""
_EXACT: Final = 2**53
"""integers up to here are doubles to the digit (IEEE 754, binary64)"""
_NUMBERS: Final = (ValueType.BOOL, ValueType.INT64, ValueType.UINT64, ValueType.FLOAT32, ValueType.FLOAT64)


def write_parquet(rows: Iterable[Rows], file: IO[bytes]) -> int:
    """Write all rows; returns how many. Raises ConfigError without the extra, OSError, and what `rows` raises."""
    try:
        from arro3.core import DataType, Field, RecordBatchReader, Schema  # noqa: PLC0415 - an extra
        from arro3.io import write_parquet as write  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(
            "--format parquet: needs the extra: pip install 'edge-gateway[parquet]'; or use csv or jsonl"
        ) from None
    text, time = DataType.utf8(), DataType.timestamp("ns", tz="UTC")
    schema = Schema([
        Field("source_time", time, nullable=False), Field("received_time", time, nullable=False),
        Field("device", text, nullable=False), Field("point", text, nullable=False), Field("id", text),
        Field("value", DataType.float64()), Field("value_text", text), Field("unit", text),
        Field("status", DataType.uint32(), nullable=False), Field("quality", text, nullable=False),
        Field("stream", text, nullable=False), Field("n", DataType.int64(), nullable=False),
    ])  # fmt: skip
    batches = _Batches(rows, schema)
    target = cast(IO[bytes], _Target(file, batches))
    try:
        # Bit-identical neighbours are the rule in a plant, so dictionaries and zstd both pay.
        write(
            RecordBatchReader.from_batches(schema, iter(batches)),
            target,
            compression="zstd(3)",
            max_row_group_size=ROWS,
        )
    except Exception:
        # The library tells errors of ours as texts of its own.
        if batches.failure is None:
            raise
    if batches.failure is not None:
        raise batches.failure
    return batches.count


class _Batches:
    """Rows as record batches; keeps what went wrong, ours or the file's."""

    def __init__(self, rows: Iterable[Rows], schema: Schema) -> None:
        self._rows = rows
        self._schema = schema
        self.count = 0
        self.failure: BaseException | None = None

    def __iter__(self) -> Iterator[RecordBatch]:
        try:
            yield from self._all()
        except BaseException as error:
            self.failure = error
            raise

    def _all(self) -> Iterator[RecordBatch]:
        gathered: list[Rows] = []
        size = 0
        for rows in self._rows:
            if self.failure is not None:
                return
            gathered.append(rows)
            size += len(rows.batch)
            if size >= BATCH:
                yield self._batch(gathered)
                gathered, size = [], 0
        if gathered:
            yield self._batch(gathered)

    def _batch(self, gathered: list[Rows]) -> RecordBatch:
        from arro3.core import Array, RecordBatch  # noqa: PLC0415 - see above

        columns: dict[str, list[Any]] = {name: [] for name in self._schema.names}
        for rows in gathered:
            _extend(columns, rows)
        times = np.concatenate([rows.batch.source_time for rows in gathered])
        received = np.repeat(
            np.array([rows.batch.received_time for rows in gathered], np.int64), [len(rows.batch) for rows in gathered]
        )
        whole = {
            "source_time": times,
            "received_time": received,
            "status": np.concatenate([rows.batch.status for rows in gathered]),
            "n": np.concatenate([rows.n for rows in gathered]).astype(np.int64),
        }
        arrays = []
        for name in self._schema.names:
            kind = self._schema.field(name).type
            if name in whole:
                arrays.append(Array.from_numpy(np.ascontiguousarray(whole[name])).cast(kind))
            else:
                arrays.append(Array(columns[name], kind))
        self.count += len(times)
        return RecordBatch.from_arrays(arrays, schema=self._schema)


def _extend(columns: dict[str, list[Any]], rows: Rows) -> None:
    batch = rows.batch
    entries = {index: rows.points.get(index) for index in set(batch.points.tolist())}
    names = {
        index: (one.point, one.id, one.unit) if one else (str(index), None, None) for index, one in entries.items()
    }
    known = [names[index] for index in batch.points.tolist()]
    columns["device"] += [batch.device] * len(batch)
    columns["point"] += [one[0] for one in known]
    columns["id"] += [one[1] for one in known]
    columns["unit"] += [one[2] for one in known]
    words = {code: quality(code) for code in set(batch.status.tolist())}
    columns["quality"] += [words[code] for code in batch.status.tolist()]
    columns["stream"] += [rows.stream] * len(batch)
    numbers, texts = _values(rows)
    columns["value"] += numbers
    columns["value_text"] += texts


def _values(rows: Rows) -> tuple[list[float | None], list[str | None]]:
    """What a double says to the digit is a number, all else is text; float32 as its shortest text reads."""
    batch = rows.batch
    valid = batch.valid.tolist()
    if batch.type is ValueType.STRING:
        texts = [value.encode("utf-8", "replace").decode() for value in batch.values.tolist()]
        return [None] * len(batch), [text if ok else None for text, ok in zip(texts, valid, strict=True)]
    if batch.type not in _NUMBERS:
        found = [text.decode() for text in value_fragments(batch.type, batch.values, batch.valid)]
        if batch.type is ValueType.BYTES:
            found = [text.strip('"') for text in found]
        return [None] * len(batch), [text if ok else None for text, ok in zip(found, valid, strict=True)]
    if batch.type is ValueType.FLOAT32:
        fragments = value_fragments(batch.type, batch.values, batch.valid)
        numbers = [float(text.strip(b'"')) if ok else None for text, ok in zip(fragments, valid, strict=True)]
        return numbers, [None] * len(batch)
    values = batch.values.tolist()
    large = batch.type in (ValueType.INT64, ValueType.UINT64)
    exact = [ok and not (large and abs(value) > _EXACT) for value, ok in zip(values, valid, strict=True)]
    return (
        [float(value) if fits else None for value, fits in zip(values, exact, strict=True)],
        [str(value) if ok and not fits else None for value, ok, fits in zip(values, valid, exact, strict=True)],
    )


class _Target(io.RawIOBase):
    """The file as the library sees it: an error here would end in a panic there, so it ends the rows instead."""

    def __init__(self, file: IO[bytes], batches: _Batches) -> None:
        self._file = file
        self._batches = batches

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Write, or remember why not."""
        if self._batches.failure is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._batches.failure = error
        return len(data)

    def flush(self) -> None:
        """Flush, or remember why not."""
        if self._batches.failure is None:
            try:
                self._file.flush()
            except OSError as error:
                self._batches.failure = error
