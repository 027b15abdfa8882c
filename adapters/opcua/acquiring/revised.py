"""What a server has made of the plan: revised sampling and queues, and how long an outage it really bridges.

A server may change what it is asked for (Part 4, 5.12.2 and 7.21). That is its right, and nothing that an engineer
should learn from missing readings: every difference is said once, and again only when it is another one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from adapters.opcua.acquiring.plan import Plan, PlannedItem
from adapters.opcua.config import OpcUaPointConfig
from adapters.opcua.errors import status_name

_logger = logging.getLogger(__name__)

_SAME: Final = 1.01
"""intervals travel as milliseconds in a Double; a hundredth is rounding"""


class RevisedItem(NamedTuple):
    """One monitored item as the server has made it, and as it was asked for."""

    asked: PlannedItem
    sampling: float
    """seconds; 0 = the server says that it reports changes as they come"""
    queue: int
    """samples"""

    @property
    def slower(self) -> bool:
        """Whether the server samples slower than it was asked to."""
        return self.sampling > self.asked.sampling * _SAME

    @property
    def shorter(self) -> bool:
        """Whether the queue holds less time than it was to: it has fewer samples, or they come faster."""
        return self.bridged * _SAME < self.wished

    @property
    def bridged(self) -> float:
        """Seconds of samples that the queue holds; of an item that reports changes as they come, at the rate asked."""
        return self.queue * (self.sampling or self.asked.sampling)

    @property
    def wished(self) -> float:
        """Seconds that the queue was to hold."""
        return (self.asked.queue - 1) * self.asked.sampling


class Revised:
    """Of one device. It outlives connections, so that nothing is said twice."""

    def __init__(self, url: str, points: Mapping[int, OpcUaPointConfig]) -> None:
        self._url = url
        self._points = points
        self._items: dict[int, RevisedItem] = {}
        self._unfiltered: dict[int, int] = {}
        self._lifetime: float | None = None
        self._planned: set[str] = set()
        self._complete: set[str] = set()
        """digests of subscriptions: those of the plan, those whose items are made"""
        self._adopted: dict[str, float | None] = {}
        """those of them whose items a process before this one made, with the outage that loses nothing, seconds"""
        self._told: dict[str, str | None] = {}
        self._weakest: RevisedItem | None = None
        self._changed = True

    @property
    def items(self) -> Mapping[int, RevisedItem]:
        """By point, as far as they are made."""
        return self._items

    @property
    def unfiltered(self) -> Mapping[int, int]:
        """Points whose filter the server refuses, with the status of the refusal; they have an item without it."""
        return self._unfiltered

    @property
    def bridged(self) -> float | None:
        """How long an outage of the link loses nothing, seconds; None = not known."""
        if None in self._adopted.values() or not self._complete >= self._planned:
            return None
        weakest = self._weak()
        found = (weakest and weakest.bridged, self._lifetime, *self._adopted.values())
        return min((seconds for seconds in found if seconds is not None), default=None)

    def bridged_by(self, digest: str, points: Iterable[int], lifetime: float) -> float | None:
        """The same of one subscription with these points, which lives for `lifetime` seconds."""
        if digest not in self._complete or (digest in self._adopted and self._adopted[digest] is None):
            return None
        items = (self._items[point] for point in points if point in self._items)
        timed = [item.bridged for item in items if item.sampling > 0]
        adopted = self._adopted.get(digest)
        return min(*timed, lifetime, lifetime if adopted is None else adopted)

    def start(self, plan: Plan) -> None:
        """A connection is about to work after this plan; says how it differs from the device file.

        What is known of subscriptions that are in it and were complete stays.
        """
        self._planned = {each.digest for each in plan.subscriptions}
        self._complete &= self._planned
        self._adopted = {digest: seconds for digest, seconds in self._adopted.items() if digest in self._planned}
        if not self._complete:
            self._lifetime = None
        points = {item.point for each in plan.subscriptions for item in each.items}
        self.gone([point for point in self._items if point not in points])
        self._tell("plan", logging.WARNING, "; ".join(plan.remarks) or None)

    def subscription(self, lifetime: float) -> None:
        """A subscription is there; the server keeps it for `lifetime` seconds while nobody fetches."""
        self._lifetime = lifetime if self._lifetime is None else min(lifetime, self._lifetime)

    def made(self, item: RevisedItem) -> None:
        """The server has made an item."""
        self._items[item.asked.point] = item
        self._changed = True

    def refused_filter(self, point: int, status: int) -> None:
        """The server will not have the filter of a point."""
        self._unfiltered[point] = status

    def gone(self, points: Iterable[int]) -> None:
        """These points have no item any more."""
        for point in points:
            self._items.pop(point, None)
        self._changed = True

    def begin(self, digest: str) -> None:
        """The items of a subscription are about to be made."""
        self._complete.discard(digest)
        self._adopted.pop(digest, None)

    def adopted(self, digest: str, bridged: float | None) -> None:
        """The items of a subscription were made by a process before this one.

        `bridged`: how long an outage loses nothing of them, seconds, as that process wrote it down; None = it did not.
        """
        self._adopted[digest] = bridged
        self.finished(digest)

    def finished(self, digest: str) -> None:
        """The items of a subscription are made; after the last one the log learns what came of the plan."""
        self._complete.add(digest)
        if not self._complete >= self._planned:
            return
        self._tell("revised", logging.WARNING, self._differences())
        self._tell("filters", logging.WARNING, self._filters())
        self._tell("bridged", logging.INFO, self._bridge())

    def _tell(self, about: str, level: int, text: str | None) -> None:
        if text != self._told.get(about):
            self._told[about] = text
            if text is not None:
                _logger.log(level, "%s: %s", self._url, text)

    def _weak(self) -> RevisedItem | None:
        if self._changed:
            # An item that reports changes as they come has a queue too, but nobody knows how soon it is full.
            timed = (item for item in self._items.values() if item.sampling > 0)
            self._weakest = min(timed, key=lambda item: item.bridged, default=None)
            self._changed = False
        return self._weakest

    def _differences(self) -> str | None:
        found = []
        slower = [item for item in self._items.values() if item.slower]
        if slower:
            worst = max(slower, key=lambda item: item.sampling / item.asked.sampling)
            found.append(
                f"the server samples {len(slower)} of {len(self._items)} points slower than asked, so that it misses "
                f"changes in between; the worst is {self._name(worst)}, every {worst.sampling:.3g} s instead of "
                f"{worst.asked.sampling:.3g} s"
            )
        shorter = [item for item in self._items.values() if item.shorter]
        if shorter:
            worst = min(shorter, key=lambda item: item.bridged / item.wished)
            found.append(
                f"the queues of {len(shorter)} of {len(self._items)} points hold less time than asked, so that long "
                f"outages lose readings; the worst is {self._name(worst)}, {worst.queue} samples every "
                f"{worst.sampling:.3g} s or {worst.bridged:.3g} s instead of {worst.wished:.3g} s"
            )
        return "; ".join(found) or None

    def _filters(self) -> str | None:
        points = [point for point in self._unfiltered if point in self._items]
        if not points:
            return None
        return (
            f"the server refuses the trigger or the deadband of {len(points)} of {len(self._items)} points, for "
            f"example {self._points[points[0]].point}: {status_name(self._unfiltered[points[0]])}; these send every "
            "change of value or status, so take trigger and deadband out of their lines, or set another one"
        )

    def _bridge(self) -> str | None:
        weakest, seconds = self._weak(), self.bridged
        if seconds is None:
            return None
        if seconds < min(weakest.bridged if weakest else math.inf, self._lifetime or math.inf):
            return f"an outage of up to {seconds:.3g} s loses no reading, as the gateway noted before it was restarted"
        if weakest is None or weakest.bridged > seconds:
            return f"an outage of up to {seconds:.3g} s loses no reading: then the server deletes the subscription"
        return (
            f"an outage of up to {seconds:.3g} s loses no reading: then the queue of {self._name(weakest)} is full "
            f"({weakest.queue} samples, one every {weakest.sampling:.3g} s)"
        )

    def _name(self, item: RevisedItem) -> str:
        return self._points[item.asked.point].point
