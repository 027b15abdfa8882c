"""Points whose label was raised above a destination's clearance: what they said before is withheld too. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gateway.contract.batch import Batch
from gateway.points.table import PointTable
from gateway.publishing.clearance import Clearance

_NONE: frozenset[int] = frozenset()


class Hidden:
    """Which indexes of a device a destination may see no more, though their stream is open to it.

    An entry is hidden when a later entry of the same point lies in a stream that is closed to the destination. A
    label that is lowered again later reveals nothing: what was accepted before stays withheld.
    """

    def __init__(self, points: PointTable, clearance: Clearance) -> None:
        self._points = points
        self._clearance = clearance
        self._known: dict[str, tuple[int, frozenset[int]]] = {}

    def indexes(self, device: str) -> frozenset[int]:
        """The device's hidden indexes; cheap while its catalogue does not change."""
        version = self._points.version(device)
        known = self._known.get(device)
        if known is None or known[0] != version:
            known = self._known[device] = version, self._find(device)
        return known[1]

    def rows(self, batch: Batch) -> npt.NDArray[np.bool_] | None:
        """bool[n]: which readings of a batch are hidden; None when none is."""
        hidden = self.indexes(batch.device)
        if not hidden:
            return None
        rows = np.isin(batch.points, np.fromiter(hidden, np.int32, len(hidden)))
        return rows if rows.any() else None

    def _find(self, device: str) -> frozenset[int]:
        raised: set[str] = set()
        hidden: set[int] = set()
        for index, record in sorted(self._points.points(device).items(), reverse=True):
            # A stream may be younger than the last look at the log.
            self._clearance.learn(self._points.stream(record.stream))
            if not self._clearance.sees(record.stream):
                raised.add(record.point)
            elif record.point in raised:
                hidden.add(index)
        return frozenset(hidden) if hidden else _NONE
