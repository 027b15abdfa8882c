"""The point table: what every permanent index means, now and formerly, and each device's catalogue version."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from gateway.log.records import DeviceRecord, Labels, PointRecord, Record, StreamRecord


class PointTable:
    """Everything that point, device and stream records say, kept up to date as they are written.

    Used on the event loop only.
    """

    def __init__(self) -> None:
        self._points: defaultdict[str, dict[int, PointRecord]] = defaultdict(dict)
        self._versions: defaultdict[str, int] = defaultdict(int)
        self._devices: dict[str, DeviceRecord] = {}
        self._streams: dict[str, StreamRecord] = {}

    def apply(self, records: Iterable[Record]) -> None:
        """Take over stream, device and point records; others are passed over."""
        for record in records:
            match record:
                case PointRecord():
                    self._points[record.device][record.index] = record
                    self._versions[record.device] = max(self._versions[record.device], record.catalogue)
                case DeviceRecord():
                    self._devices[record.device] = record
                case StreamRecord():
                    self._streams[record.stream] = record
                case _:
                    pass

    def points(self, device: str) -> Mapping[int, PointRecord]:
        """All of a device's entries by index, retired ones included."""
        return self._points[device]

    def version(self, device: str) -> int:
        """The device's catalogue version; grows by one with every change, 0 = nothing known."""
        return self._versions[device]

    def device(self, device: str) -> DeviceRecord | None:
        """The device's last record."""
        return self._devices.get(device)

    def devices(self) -> Iterable[str]:
        """Names of all devices that ever had a point."""
        return tuple(self._points)

    def stream(self, stream: str) -> StreamRecord:
        """A stream by id. Raises KeyError when the log never announced it."""
        return self._streams[stream]

    def streams(self) -> Iterable[StreamRecord]:
        """All streams ever announced, oldest first."""
        return tuple(self._streams.values())

    def labels(self, stream: str) -> Labels:
        """A stream's labels. Raises KeyError when the log never announced it."""
        return self._streams[stream].labels
