"""The batch: one device's readings of one value type, as parallel numpy columns.

Columns, not objects: a reading never exists as a Python object of its own on the data path.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum, IntFlag
from typing import Any, Final

import numpy as np
import numpy.typing as npt


class ValueType(IntEnum):
    """Type of a batch's values. The numbers are written to disk: never change or re-use one."""

    BOOL = 0
    INT64 = 1
    UINT64 = 2
    FLOAT32 = 3
    FLOAT64 = 4
    STRING = 5
    """object column of str"""
    BYTES = 6
    """object column of bytes; base64 on the wire"""
    JSON = 7
    """object column of JSON-able values: arrays as lists, structures as dicts"""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of a column of this type."""
        return _DTYPES[self]

    @property
    def wire_name(self) -> str:
        """The name used in the catalogue and in point entries."""
        return self.name.lower()


_DTYPES: dict[ValueType, np.dtype[Any]] = {
    ValueType.BOOL: np.dtype(np.bool_),
    ValueType.INT64: np.dtype(np.int64),
    ValueType.UINT64: np.dtype(np.uint64),
    ValueType.FLOAT32: np.dtype(np.float32),
    ValueType.FLOAT64: np.dtype(np.float64),
    ValueType.STRING: np.dtype(object),
    ValueType.BYTES: np.dtype(object),
    ValueType.JSON: np.dtype(object),
}


class Basis(IntEnum):
    """Whose clock a reading's time comes from (OPC UA Part 4, 7.11: source, else server; Modbus has neither)."""

    SOURCE = 0
    SERVER = 1
    GATEWAY = 2


class Flag(IntFlag):
    """Circumstances of a reading, as bits of the `flags` column."""

    BACKFILLED = 1
    OVERFLOW = 2
    """the server's queue overflowed before this reading (status bit 7 with InfoType DataValue)"""
    INITIAL = 4
    """sent by the server because the item was new, not because the value changed"""
    MAINTENANCE = 8
    WRAPPED = 16
    """a totaliser went beyond its range and began anew"""
    RESET = 32
    """a totaliser went back without having wrapped"""


NO_TIME: Final = -(2**63)
"""in `Batch.original_time`: the reading has none"""


@dataclass(frozen=True, slots=True)
class Batch:
    """One device's readings of one value type. All columns have the same length n >= 1 and are never written again.

    Order is promised per point, not across points.
    """

    device: str
    type: ValueType
    points: npt.NDArray[np.int32]
    """int32[n]: each reading's point, by its permanent index"""
    values: npt.NDArray[Any]
    """[n] of `type.dtype`; the content where `valid` is False means nothing"""
    valid: npt.NDArray[np.bool_]
    """bool[n]: there is a value. A Bad reading may have one, a Good one may be null"""
    status: npt.NDArray[np.uint32]
    """uint32[n]: OPC UA status codes, 0 = Good"""
    source_time: npt.NDArray[np.int64]
    """int64[n]: ns since the Unix epoch, UTC"""
    basis: npt.NDArray[np.uint8]
    """uint8[n] of `Basis`"""
    flags: npt.NDArray[np.uint8]
    """uint8[n] of `Flag` bits"""
    received_time: int
    """ns since the Unix epoch, gateway clock, when the bytes arrived"""
    monotonic: int
    """ns of the boot's monotonic clock at the same moment"""
    original_time: npt.NDArray[np.int64] | None = None
    """int64[n]: 100 ns since the Unix epoch, UTC, or `NO_TIME`: the time that came with the reading where it is not
    credible and `source_time` is another. None = no reading has one, which is the rule.

    Not in ns: OPC UA's years 1601 to 9999 (Part 6, 5.2.2.5) do not fit. In its unit, so that it is exact.
    """

    def __len__(self) -> int:
        return len(self.points)

    @property
    def nbytes(self) -> int:
        """Memory held by the columns, in bytes; object values are estimated at 64 bytes each."""
        values, n = self.values, len(self.points)
        size = 64 * n if values.dtype.hasobject else values.nbytes
        return size + n * (19 if self.original_time is None else 27)

    def take(self, rows: npt.NDArray[Any]) -> Batch:
        """The readings that `rows` (bool mask or index array) selects, in order."""
        return replace(
            self,
            points=self.points[rows],
            values=self.values[rows],
            valid=self.valid[rows],
            status=self.status[rows],
            source_time=self.source_time[rows],
            basis=self.basis[rows],
            flags=self.flags[rows],
            original_time=None if self.original_time is None else _unless_empty(self.original_time[rows]),
        )

    @classmethod
    def of(
        cls,
        device: str,
        type: ValueType,
        points: npt.ArrayLike,
        values: npt.ArrayLike,
        *,
        received_time: int,
        monotonic: int,
        valid: npt.ArrayLike = True,
        status: npt.ArrayLike = 0,
        source_time: npt.ArrayLike | None = None,
        basis: npt.ArrayLike = Basis.SOURCE,
        flags: npt.ArrayLike = 0,
        original_time: npt.ArrayLike | None = None,
    ) -> Batch:
        """Build a batch from columns or scalars; a scalar stands for a whole column.

        Without `source_time` the time is `received_time`, and `basis` should say so. `values` of an object type must
        already be an object array, because numpy would read a list of lists as a matrix.
        """
        index = np.ascontiguousarray(points, dtype=np.int32)
        n = len(index)
        times = received_time if source_time is None else source_time
        return cls(
            device=device,
            type=type,
            points=index,
            values=_column(values, type.dtype, n),
            valid=_column(valid, np.dtype(np.bool_), n),
            status=_column(status, np.dtype(np.uint32), n),
            source_time=_column(times, np.dtype(np.int64), n),
            basis=_column(basis, np.dtype(np.uint8), n),
            flags=_column(flags, np.dtype(np.uint8), n),
            received_time=received_time,
            monotonic=monotonic,
            original_time=None
            if original_time is None
            else _unless_empty(_column(original_time, np.dtype(np.int64), n)),
        )


def _column(content: npt.ArrayLike, dtype: np.dtype[Any], n: int) -> npt.NDArray[Any]:
    if isinstance(content, np.ndarray) and content.dtype == dtype and content.shape == (n,):
        return content
    column = np.empty(n, dtype)
    column[:] = content
    return column


def _unless_empty(original_time: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
    return original_time if (original_time != NO_TIME).any() else None
