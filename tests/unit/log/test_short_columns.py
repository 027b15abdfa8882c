"""Columns of few values have the same bytes, whether numpy makes them or plain Python."""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.log import columns, encodings, short_columns


@settings(max_examples=600)
@given(data=st.data())
def test_short_columns_are_the_same_bytes_as_numpy_makes(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, short_columns.MOST))
    dtype = np.dtype(data.draw(st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])))
    encode = columns.encode_floats if dtype.kind == "f" else columns.encode_integers
    column = data.draw(_column(dtype, count))
    short = encode(column)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(short_columns, "MOST", 0)
        assert encode(column) == short
    assert columns.decode_column(columns.Reader(short), count, dtype).tobytes() == column.tobytes()


def _column(dtype: np.dtype[Any], count: int) -> st.SearchStrategy[npt.NDArray[Any]]:
    """Noise, counters, clocks, decimals."""
    lists = partial(st.lists, min_size=count, max_size=count)
    if dtype.kind == "f":
        decimals = st.tuples(st.integers(0, 7), lists(st.integers(-40_000, 40_000))).map(
            lambda found: np.array(found[1]) / 10.0 ** found[0]
        )
        anything = lists(st.floats(width=dtype.itemsize * 8)).map(np.array)
        return st.one_of(decimals, anything).map(lambda values: values.astype(dtype))
    limits = np.iinfo(dtype)
    anything = lists(st.integers(int(limits.min), int(limits.max)))
    start = st.integers(int(limits.min), int(limits.max))
    unit = st.sampled_from([1, 3, 100, 1_000_000, 1_000_000_000, 7_000_000_000, 6_000_000_001])
    steps = st.tuples(start, unit, lists(st.integers(-300, 70_000)))
    even = st.tuples(start, unit, lists(st.integers(1000, 1003)))
    counted = st.one_of(steps, even).map(
        lambda found: [_wrapped(found[0] + found[1] * step, dtype) for step in accumulate(found[2])]
    )
    offsets = steps.map(lambda found: [_wrapped(found[0] + found[1] * step, dtype) for step in found[2]])
    return st.one_of(anything, counted, offsets).map(lambda values: np.array(values, dtype))


def _wrapped(value: int, dtype: np.dtype[Any]) -> int:
    limits = np.iinfo(dtype)
    return (value - int(limits.min)) % (1 << 8 * dtype.itemsize) + int(limits.min)


def test_a_single_float_that_fills_its_bytes_stays_raw() -> None:
    """Else every measured value is turned into a decimal of nine digits first, which gains nothing."""
    measured = np.random.default_rng(3).uniform(0, 1000, 200).astype(np.float32)
    for column in (measured, measured[:10]):
        assert columns.encode_floats(column)[0] == encodings.RAW
