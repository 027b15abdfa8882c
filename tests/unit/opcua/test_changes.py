"""Bits 14 and 15 of a status: which points have changed in what they mean, or in how they are built."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.opcua.decoding import layouts
from adapters.opcua.decoding.decode import Items
from adapters.opcua.model.changes import SEMANTICS_CHANGED, STRUCTURE_CHANGED, changed_points


def items(*statuses: int, first: int = 0) -> Items:
    n = len(statuses)
    zeros = np.zeros(n, np.int64)
    handles = np.arange(first, first + n, dtype=np.uint32)
    return Items(layouts.DOUBLE, False, np.arange(n), handles, zeros, np.array(statuses, np.uint32), zeros, zeros)


@pytest.mark.parametrize("info", [0, 0x400, 0x480], ids=["no info type", "data value", "with overflow"])
@pytest.mark.parametrize("severity", [0, 0x40900000, 0x808C0000], ids=["good", "uncertain", "bad"])
def test_the_points_of_changed_readings(info: int, severity: int) -> None:
    decoded = [
        items(0, severity | info | SEMANTICS_CHANGED, 0),
        items(severity | info | STRUCTURE_CHANGED, info, first=7),
        items(severity | info | SEMANTICS_CHANGED | STRUCTURE_CHANGED, first=1),
    ]
    assert changed_points(decoded, SEMANTICS_CHANGED) == [1]
    assert changed_points(decoded, STRUCTURE_CHANGED) == [1, 7]


def test_other_bits_mean_other_things() -> None:
    assert changed_points([items(0x480, 0x80340000, 0x300, 0xFFFF3FFF)], SEMANTICS_CHANGED | STRUCTURE_CHANGED) == []
    assert changed_points([], SEMANTICS_CHANGED) == []
