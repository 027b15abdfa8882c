"""Makes readings messages: how many readings fit, in which format, how compressed. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.points.table import PointTable
from gateway.publishing.compress import compressor
from gateway.publishing.config import DestinationConfig
from gateway.publishing.documents import Origin
from gateway.publishing.encode_columns import encode_columns
from gateway.publishing.encode_json import Header, PointPrefixes, encode_readings
from gateway.publishing.mqtt import publish_properties
from gateway.publishing.runs import Run

_FIRST_GUESS = {"json": 150.0, "columns": 40.0}  # bytes per reading
_LEAST_BYTES = 1000
_OVERHEAD_BYTES = 512  # topic, properties and fixed header of a publish packet


class Made(NamedTuple):
    """A message, what it carries, and what is still to be sent."""

    payload: bytes
    run: Run
    rest: Run | None


class Maker:
    """Encodes runs for one connection."""

    def __init__(self, config: DestinationConfig, origin: Origin, points: PointTable, packet_bytes: int) -> None:
        """`packet_bytes`: the largest packet that the broker takes."""
        self._origin = origin
        self._points = points
        self._format = config.format
        self._compress = compressor(config.compression)
        self.packet_bytes = packet_bytes - _OVERHEAD_BYTES
        """no payload may be larger"""
        pace = config.batch.max_bytes if config.bandwidth is None else config.bandwidth // 2
        self._most_bytes = max(_LEAST_BYTES, min(config.batch.max_bytes, pace, self.packet_bytes))
        schema = "readings/1" if config.format == "json" else "columns/1"
        self.properties: Any = publish_properties(config.mqtt, schema, config.compression)
        self._reading_bytes: dict[str, float] = {}
        self._prefixes: dict[str, tuple[int, PointPrefixes]] = {}

    def make(self, run: Run, lane: str, catalogue: int) -> Made:
        """A message of as many readings from the run's start as fit."""
        device = run.series.device
        header = Header(*self._origin, lane, catalogue)
        guess = self._reading_bytes.get(device, _FIRST_GUESS[self._format])
        piece, rest = run.split(max(1, int(self._most_bytes / guess)))
        payload = self._encode(header, piece)
        while len(payload) > self._most_bytes and piece.count > 1:
            fitting = piece.count * self._most_bytes // len(payload)
            piece, more = piece.split(max(1, min(fitting, piece.count - 1)))
            rest = _joined(more, rest)
            payload = self._encode(header, piece)
        self._reading_bytes[device] = 0.5 * guess + 0.5 * len(payload) / piece.count
        return Made(self._compress(payload), piece, rest)

    def too_large(self, nbytes: int) -> None:
        """The broker found a payload of `nbytes` too large: make smaller ones from now on."""
        self._most_bytes = max(_LEAST_BYTES, min(self._most_bytes, nbytes // 2))

    def _encode(self, header: Header, run: Run) -> bytes:
        if self._format == "columns":
            return encode_columns(header, run)
        return encode_readings(header, run, self._prefixes_of(run.series.device))

    def _prefixes_of(self, device: str) -> PointPrefixes:
        version = self._points.version(device)
        known = self._prefixes.get(device)
        if known is None or known[0] != version:
            known = self._prefixes[device] = version, PointPrefixes(self._points.points(device))
        return known[1]


def _joined(first: Run | None, second: Run | None) -> Run | None:
    if first is None or second is None:
        return first or second
    return Run(first.series, first.slices + second.slices)
