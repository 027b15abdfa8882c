"""What readings mean, kept in step with the server: texts of enumerations, and units that differ from the device file.

Asked for once per connection, in the background, and again for a point whose readings say SemanticsChanged. Values are
never converted: the unit that travels is the device file's, so a difference is said.
"""

from __future__ import annotations

import asyncio
import logging
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from asyncua import ua

from adapters.opcua.config import NodeAddress, OpcUaPointConfig
from adapters.opcua.connecting.trust import printable
from adapters.opcua.decoding.decode import Items
from adapters.opcua.model.changes import SEMANTICS_CHANGED, changed_points
from adapters.opcua.model.enumerations import Texts, read_texts
from adapters.opcua.model.lookups import Asks, Lookup
from adapters.opcua.session.nodes import Namespaces, node_id
from gateway.contract import Sink

_logger = logging.getLogger(__name__)

SETTLE_S: Final = 2.0
"""after connecting: subscriptions come first"""
_GATHER_S: Final = 1.0
"""a change of many points comes in several notifications"""
_AGAIN_S: Final = 10.0
"""between two rounds: a server that sets the bit with every value is not asked more often"""
_MOST_LINES: Final = 10
_UNIT: Final = "EngineeringUnits"
_RANGE: Final = "EURange"


class Asked(Asks, Namespaces, Protocol):
    """What is needed of a session."""


class Semantics:
    """One device's; outlives connections, so that only differences are told."""

    def __init__(self, points: Mapping[int, OpcUaPointConfig], *, settle_s: float = SETTLE_S) -> None:
        self._points = points
        self._addresses = {index: NodeAddress(point.node) for index, point in points.items()}
        self._settle_s = settle_s
        self._texts: dict[int, Texts] = {}
        self._units: dict[int, str] = {}
        """the server's unit, of points where it differs and that has been told"""
        self._changed: set[int] = set()
        self._wake = asyncio.Event()

    def look(self, decoded: Sequence[Items]) -> None:
        """Take note of readings that say that their meaning has changed; cheap, for every notification."""
        changed = changed_points(decoded, SEMANTICS_CHANGED)
        if changed:
            self._changed.update(changed)
            self._wake.set()

    async def run(self, session: Asked, sink: Sink) -> None:
        """Over one connection, until cancelled. Raises AdapterError when the link fails."""
        lookup = Lookup(session)
        await asyncio.sleep(self._settle_s)
        await self._describe(lookup, sink, self._nodes(session, self._points))
        while True:
            await self._wake.wait()
            await asyncio.sleep(_GATHER_S)
            await self._renew(lookup, session, sink)
            await asyncio.sleep(_AGAIN_S)

    async def _renew(self, lookup: Lookup, session: Asked, sink: Sink) -> None:
        changed, self._changed = self._changed, set()
        self._wake.clear()
        answered = False
        try:
            nodes = self._nodes(session, sorted(changed & self._points.keys()))
            await self._describe(lookup, sink, nodes)
            await self._compare(lookup, session.url, nodes)
            answered = True
        finally:
            if not answered:  # the next connection asks
                self._changed |= changed
                self._wake.set()

    def _nodes(self, session: Asked, points: Sequence[int] | Mapping[int, OpcUaPointConfig]) -> dict[int, ua.NodeId]:
        located = ((point, node_id(session, self._addresses[point])) for point in points)
        return {point: node for point, node in located if node is not None}

    async def _describe(self, lookup: Lookup, sink: Sink, nodes: Mapping[int, ua.NodeId]) -> None:
        found = await read_texts(lookup, nodes)
        new = {point: texts for point, texts in found.items() if texts != self._texts.get(point, {})}
        if new:
            sink.describe(new)
            self._texts.update(new)

    async def _compare(self, lookup: Lookup, url: str, nodes: Mapping[int, ua.NodeId]) -> None:
        """Say where a point's unit at the server is not that of the device file."""
        points = list(nodes)
        properties = await lookup.properties(list(nodes.values()))
        asked = [
            (point, name, of[name])
            for point, of in zip(points, properties, strict=True)
            for name in (_UNIT, _RANGE)
            if of and name in of
        ]
        values = await lookup.attributes([node for _, _, node in asked])
        ranges = {}
        units = {}
        for (point, name, _), value in zip(asked, values, strict=True):
            if name == _UNIT and isinstance(value, ua.EUInformation) and value.DisplayName.Text:
                units[point] = printable(value.DisplayName.Text)
            elif name == _RANGE and isinstance(value, ua.Range):
                ranges[point] = f"{value.Low:g} to {value.High:g}"
        if points:
            self._tell(url, points, units, ranges)
        self._differ(url, units)

    def _tell(self, url: str, points: Sequence[int], units: Mapping[int, str], ranges: Mapping[int, str]) -> None:
        example = points[0]
        _logger.info(
            "%s: the server says that the meaning of %d points has changed, for example of %s: its unit is %s, its "
            "range %s",
            url,
            len(points),
            self._points[example].point,
            units.get(example, "not told"),
            ranges.get(example, "not told"),
        )

    def _differ(self, url: str, units: Mapping[int, str]) -> None:
        new = []
        for point, unit in units.items():
            ours = self._points[point].unit
            if ours is None or _same(ours, unit):
                self._units.pop(point, None)
            elif self._units.get(point) != unit:
                self._units[point] = unit
                new.append(point)
        for point in new[:_MOST_LINES]:
            config = self._points[point]
            _logger.warning(
                "%s: point %s: the unit is %s at the server and %s in the device file; values are passed on as they "
                "come: %s",
                url,
                config.point,
                units[point],
                config.unit,
                f"set unit: {units[point]}, or a scale and offset that make {config.unit} of them"
                if config.scale is None and config.offset is None
                else f"look whether scale and offset still make {config.unit} of them",
            )
        if len(new) > _MOST_LINES:
            _logger.warning(
                "%s: %d more points have another unit than the device file says; `edge-gateway browse` lists them",
                url,
                len(new) - _MOST_LINES,
            )


def _same(ours: str, theirs: str) -> bool:
    """Whether two units are written with the same letters; ℃ and °C are."""
    return _plain(ours) == _plain(theirs)


def _plain(unit: str) -> str:
    return "".join(unicodedata.normalize("NFKC", unit).split())
