"""What a server says with a value about the value itself: that its meaning or its structure has changed.

Bits 14 and 15 of a status code (Part 4, 7.39.1). They stand beside InfoType and its InfoBits and not among them, so
they count whatever InfoType says; most servers leave it at zero when they set them. They stay in the status as sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

SEMANTICS_CHANGED: Final = 1 << 14
"""EURange, EngineeringUnits, or the texts of an enumeration are not what they were (Part 8, 5.2)"""
STRUCTURE_CHANGED: Final = 1 << 15
"""the DataType of the value has changed, or its definition"""


class Statuses(Protocol):
    """Decoded items of one type."""

    @property
    def handles(self) -> npt.NDArray[np.uint32]:
        """The points."""

    @property
    def status(self) -> npt.NDArray[np.uint32]:
        """Their status codes, as many."""


def changed_points(decoded: Iterable[Statuses], bit: int) -> list[int]:
    """The points of which a reading has `bit` set, in order; one look at the status column where none has."""
    found: set[int] = set()
    for items in decoded:
        if int(np.bitwise_or.reduce(items.status)) & bit:
            found.update(items.handles[(items.status & np.uint32(bit)) != 0].tolist())
    return sorted(found)
