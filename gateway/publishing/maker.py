"""Makes readings messages: how many readings fit, in which format, how compressed. Pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from gateway.points.table import PointTable
from gateway.publishing.compress import compressor
from gateway.publishing.config import DestinationConfig
from gateway.publishing.documents import Origin
from gateway.publishing.encode_columns import encode_columns, encode_image_columns
from gateway.publishing.encode_json import Header, PointPrefixes, encode_image, encode_readings
from gateway.publishing.mqtt import LARGEST_PACKET, publish_properties
from gateway.publishing.runs import Run

_FIRST_GUESS = {"json": 150.0, "columns": 40.0}  # bytes per reading
_AIM = 0.95
"""share of the limit to aim for: readings differ in length, and a message that came out too large is encoded twice"""
_LEAST_BYTES = 1000
_BESIDE_LIVE = 8
"""a message of the backlog takes at most this part of a second of the bandwidth: so long a live one may wait for it"""
_OVERHEAD_BYTES = 512  # topic, properties and fixed header of a publish packet


class Made(NamedTuple):
    """A message, what it carries, and what is still to be sent."""

    payload: bytes
    run: Run
    rest: Run | None


class Learned:
    """What a broker turned out to find too large; it outlives connections, because Mosquitto cuts them for that."""

    def __init__(self) -> None:
        self.most_bytes = LARGEST_PACKET
        """aim for payloads of at most so many bytes"""
        self.payload_bytes = LARGEST_PACKET
        """a larger payload is certain to be refused"""

    def too_large(self, nbytes: int, readings: int) -> None:
        """The broker refused a payload of `nbytes`."""
        self.payload_bytes = min(self.payload_bytes, nbytes - 1)
        if readings > 1:
            self.most_bytes = max(_LEAST_BYTES, min(self.most_bytes, nbytes // 2))

    def took(self, nbytes: int) -> None:
        """The broker took a payload of `nbytes`: it may have been given a larger limit since."""
        if nbytes > self.payload_bytes:
            self.most_bytes = self.payload_bytes = LARGEST_PACKET


class Maker:
    """Encodes runs for one connection."""

    def __init__(
        self, config: DestinationConfig, origin: Origin, points: PointTable, packet_bytes: int, learned: Learned
    ) -> None:
        """`packet_bytes`: the largest packet that the broker says it takes."""
        self._origin = origin
        self._header = Header(*origin, "live", 0)
        self._points = points
        self._format = config.format
        self._compress = compressor(config.compression)
        self._payload_bytes = packet_bytes - _OVERHEAD_BYTES
        self._learned = learned
        bandwidth = config.bandwidth or 2 * LARGEST_PACKET
        self._configured_bytes = max(_LEAST_BYTES, min(config.batch.max_bytes, bandwidth // 2))
        beside = bandwidth // _BESIDE_LIVE if config.catch_up == "live-first" else self._configured_bytes
        self._beside_live_bytes = max(_LEAST_BYTES, min(self._configured_bytes, beside))
        self.schema = "readings/1" if config.format == "json" else "columns/1"
        self.properties = publish_properties(config.mqtt, self.schema, config.compression)
        image = "image/1" if config.format == "json" else "image-columns/1"
        self.image_properties = publish_properties(config.mqtt, image, config.compression)
        self._reading_bytes: dict[str, float] = {}
        self._prefixes: dict[str, tuple[int, PointPrefixes]] = {}

    @property
    def packet_bytes(self) -> int:
        """No payload may be larger, whatever the broker refused before."""
        return self._payload_bytes

    @property
    def payload_bytes(self) -> int:
        """No payload may be larger."""
        return min(self._payload_bytes, self._learned.payload_bytes)

    @property
    def most_bytes(self) -> int:
        """No payload of more than one reading is larger, before compression."""
        learned = self._learned
        return min(self._configured_bytes, self._payload_bytes, learned.payload_bytes, learned.most_bytes)

    def make(self, run: Run, lane: str, catalogue: int) -> Made:
        """A message of as many readings from the run's start as fit."""
        header = self._header
        if header.lane != lane or header.catalogue != catalogue:  # which a thousand devices of one kind share
            header = self._header = Header(*self._origin, lane, catalogue)
        return self._fit(run, lane == "live", partial(self._encode, header))

    def image(self, run: Run, catalogue: int, time: int) -> Made:
        """A message of an image, taken at `time` (ns), with as many readings from the run's start as fit."""
        return self._fit(run, False, partial(self._encode_image, Header(*self._origin, "image", catalogue), time))

    def _fit(self, run: Run, live: bool, encode: Callable[[Run], bytes]) -> Made:
        device = run.series.device
        most_bytes = self.most_bytes if live else min(self.most_bytes, self._beside_live_bytes)
        guess = self._reading_bytes.get(device, _FIRST_GUESS[self._format])
        piece, rest = run.split(max(1, int(_AIM * most_bytes / guess)))
        payload = encode(piece)
        while len(payload) > most_bytes and piece.count > 1:
            fitting = piece.count * most_bytes // len(payload)
            piece, more = piece.split(max(1, min(fitting, piece.count - 1)))
            rest = _joined(more, rest)
            payload = encode(piece)
        self._reading_bytes[device] = 0.5 * guess + 0.5 * len(payload) / piece.count
        return Made(self._compress(payload), piece, rest)

    def too_large(self, nbytes: int, readings: int) -> None:
        """The broker refused a payload of `nbytes` with `readings` readings."""
        self._learned.too_large(nbytes, readings)

    def took(self, nbytes: int) -> None:
        """The broker took a payload of `nbytes`."""
        self._learned.took(nbytes)

    def _encode(self, header: Header, run: Run) -> bytes:
        if self._format == "columns":
            return encode_columns(header, run)
        return encode_readings(header, run, self._prefixes_of(run.series.device))

    def _encode_image(self, header: Header, time: int, run: Run) -> bytes:
        if self._format == "columns":
            return encode_image_columns(header, run, time)
        return encode_image(header, run, self._prefixes_of(run.series.device), time)

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
