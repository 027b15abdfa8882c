"""What to ask of a server: which subscriptions with which items, which points to poll, what to leave out. Pure.

A plan keeps within the limits by itself, and says in its remarks what differs from the device file. The engine makes
one subscription per `PlannedSubscription` and reads each `PlannedPoll` as one group.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from adapters.opcua.config import Discard, OpcUaDeviceConfig, OpcUaPointConfig, Trigger, polled_every
from adapters.opcua.decoding import layouts
from adapters.opcua.session.limits import Limits
from gateway.contract.quantities import Deadband

ORDER_PAYS: Final = 500
"""points from which on the order of types is worth asking the server for it: measured, docs/opcua-subscriptions.md"""
_NUMBERS: Final = range(layouts.SBYTE, layouts.DOUBLE + 1)
"""built-in types that a deadband may stand on (Part 8, 6.2 and Part 4, 7.22.2: Number)"""


class PlannedItem(NamedTuple):
    """One monitored item. Its client handle is the point's permanent index."""

    point: int
    sampling: float
    """seconds"""
    queue: int
    """samples that the server is to keep"""
    discard: Discard
    trigger: Trigger
    deadband: Deadband | None


@dataclass(frozen=True, slots=True)
class PlannedSubscription:
    """One subscription, and its items in the order in which they are to be made."""

    publishing: float
    """seconds"""
    items: tuple[PlannedItem, ...]
    digest: str
    """the same for two plans only if the server would be asked for the same, whatever the order of the items"""


@dataclass(frozen=True, slots=True)
class PlannedPoll:
    """Points that are read together every so often, in the order in which they are to be read."""

    every: float
    """seconds"""
    points: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is asked of one server."""

    subscriptions: tuple[PlannedSubscription, ...]
    polls: tuple[PlannedPoll, ...]
    left_out: tuple[int, ...]
    """points beyond what the server can bear; each is a Bad reading with BadTooManyMonitoredItems"""
    remarks: tuple[str, ...]
    """sentences for the log: what differs from the device file, why, and what it means"""

    @property
    def items(self) -> int:
        """How many monitored items it has."""
        return sum(len(subscription.items) for subscription in self.subscriptions)


def make_plan(
    config: OpcUaDeviceConfig,
    points: Mapping[int, OpcUaPointConfig],
    limits: Limits,
    types: Mapping[int, int] | None = None,
) -> Plan:
    """Plan for `points` (by permanent index) within `limits`.

    `types`: built-in type ids of points as far as they are known; points of a type stand together, so that the
    decoder finds long runs. They change nothing else, but that a deadband is taken from a point that is no number.
    """
    return _Planner(config, points, limits, types or {}).plan()


class _Planner:
    def __init__(
        self,
        config: OpcUaDeviceConfig,
        points: Mapping[int, OpcUaPointConfig],
        limits: Limits,
        types: Mapping[int, int],
    ) -> None:
        self._config = config
        self._points = points
        self._limits = limits
        self._types = types
        self._remarks: list[str] = []

    def plan(self) -> Plan:
        subscribed: dict[float, list[int]] = {}
        polled: dict[float, list[int]] = {}
        for index, point in self._points.items():
            every = polled_every(self._config, point)
            if every is None:
                subscribed.setdefault(point.publishing or self._config.subscribe.publishing, []).append(index)
            else:
                polled.setdefault(every, []).append(index)
        left_out = self._leave_out(subscribed)
        subscribed = self._slowed(subscribed, self._limits.min_publishing, "is sent")
        polled = self._slowed(polled, self._limits.min_sampling, "is read")
        subscribed = self._merged(subscribed)
        subscribed, polled = self._within_budget(subscribed, polled)
        subscriptions = tuple(
            self._subscription(publishing, chunk)
            for publishing, members in sorted(subscribed.items())
            for chunk in self._split(members)
        )
        self._remark_items([(each.publishing, item) for each in subscriptions for item in each.items])
        polls = tuple(PlannedPoll(every, self._ordered(members)) for every, members in sorted(polled.items()))
        return Plan(subscriptions, polls, tuple(left_out), tuple(self._remarks))

    def _leave_out(self, subscribed: dict[float, list[int]]) -> list[int]:
        """Take the last points of the device file out until the rest is few enough."""
        limits = self._limits
        room = math.inf if limits.items is None else limits.items
        if limits.subscriptions is not None and limits.items_per_subscription is not None:
            room = min(room, limits.subscriptions * limits.items_per_subscription)
        chosen = {index for members in subscribed.values() for index in members}
        if len(chosen) <= room:
            return []
        inside = [index for index in self._points if index in chosen]
        left_out = inside[int(room) :]
        gone = set(left_out)
        for publishing, members in list(subscribed.items()):
            subscribed[publishing] = [index for index in members if index not in gone]
            if not subscribed[publishing]:
                del subscribed[publishing]
        self._remarks.append(
            f"{len(left_out)} of {len(inside)} points are not subscribed to, from {self._name(left_out[0])} on: the "
            f"server bears {int(room)} monitored items (its own limit, its profile's or load.items); they read bad "
            "until there is room, so raise load.items, split the device, or poll them"
        )
        return left_out

    def _slowed(self, groups: dict[float, list[int]], least: float, what: str) -> dict[float, list[int]]:
        """Groups with intervals of at least `least` seconds."""
        fast = [members for interval, members in groups.items() if interval < least]
        if not fast:
            return groups
        count = sum(map(len, fast))
        self._remarks.append(
            f"{_points(count)}, for example {self._name(fast[0][0])}, {what} every {_s(least)} and not every "
            f"{_s(min(groups))} as the device file says: the server, its profile or load.min_sampling allows no less"
        )
        made: dict[float, list[int]] = {}
        for interval, members in groups.items():
            made.setdefault(max(interval, least), []).extend(members)
        return made

    def _merged(self, groups: dict[float, list[int]]) -> dict[float, list[int]]:
        """Fewer publishing intervals, where the server allows fewer subscriptions: slow points join faster ones."""
        most = self._limits.subscriptions
        kept = sorted(groups)
        members = {interval: list(groups[interval]) for interval in kept}
        joined: list[float] = []
        while most is not None and len(kept) > 1 and sum(map(self._chunks, members.values())) > most:
            at = self._best_merge(kept, members)
            slow, fast = kept.pop(at), kept[at - 1]
            joined.append(slow)
            members[fast] += members.pop(slow)
        if joined:
            intervals = ", ".join(map(_s, sorted(joined)))
            count = sum(len(groups[slow]) for slow in joined)
            self._remarks.append(
                f"{_points(count)} with a publishing interval of {intervals} are sent more often, together with "
                f"faster ones: the server allows only {most} subscription{'s' * (most != 1)}"
            )
        return members

    def _best_merge(self, kept: Sequence[float], members: Mapping[float, Sequence[int]]) -> int:
        """Which interval to join with the one before it: the slowest that saves a subscription, else the slowest."""
        for at in range(len(kept) - 1, 0, -1):
            a, b = members[kept[at - 1]], members[kept[at]]
            if self._chunks([*a, *b]) < self._chunks(a) + self._chunks(b):
                return at
        return len(kept) - 1

    def _chunks(self, members: Sequence[int]) -> int:
        """How many subscriptions so many items need."""
        return math.ceil(len(members) / (self._limits.items_per_subscription or max(1, len(members))))

    def _split(self, members: list[int]) -> list[list[int]]:
        """Even parts in the order of the points, whatever their types: the same for every process that plans."""
        members = sorted(members)
        count = self._chunks(members)
        bounds = [i * len(members) // count for i in range(count + 1)]
        return [members[start:end] for start, end in itertools.pairwise(bounds)]

    def _within_budget(
        self, subscribed: dict[float, list[int]], polled: dict[float, list[int]]
    ) -> tuple[dict[float, list[int]], dict[float, list[int]]]:
        """Longer intervals, where PublishRequests and Reads would be more than `requests_per_s`."""
        budget = self._limits.requests_per_s
        wanted = requests_per_s(
            {interval: self._chunks(members) for interval, members in subscribed.items()},
            {every: math.ceil(len(members) / self._limits.nodes_per_read) for every, members in polled.items()},
        )
        if budget is None or wanted <= budget:
            return subscribed, polled
        factor = wanted / budget
        self._remarks.append(
            f"publishing and poll intervals are {factor:.1f} times as long as the device file says: they need "
            f"{wanted:.3g} requests a second, the profile or load.requests_per_s allows {budget:g}"
        )
        return (
            {interval * factor: members for interval, members in subscribed.items()},
            {every * factor: members for every, members in polled.items()},
        )

    def _subscription(self, publishing: float, members: list[int]) -> PlannedSubscription:
        items = {index: self._item(index, publishing) for index in members}
        digest = _digest([f"{publishing:.6g}", *(self._line(items[index]) for index in members)])
        return PlannedSubscription(publishing, tuple(items[index] for index in self._ordered(members)), digest)

    def _line(self, item: PlannedItem) -> str:
        """The wished deadband, not the planned one: types are not known to a process that has just begun."""
        wished = self._filter(item.point)[1]
        return f"{self._points[item.point].node} {tuple(item[:-1])} {wished and tuple(wished)}"

    def _item(self, index: int, publishing: float) -> PlannedItem:
        point, default = self._points[index], self._config.subscribe
        sampling = max(point.sampling or default.sampling, self._limits.min_sampling)
        duration = self._queue(index, publishing)
        trigger, deadband = self._filter(index)
        return PlannedItem(
            index,
            sampling,
            min(math.ceil(duration / sampling - 1e-9) + 1, self._limits.queue),
            point.discard or default.discard,
            trigger,
            deadband if self._types.get(index, layouts.DOUBLE) in _NUMBERS else None,
        )

    def _filter(self, index: int) -> tuple[Trigger, Deadband | None]:
        """As wished. A deadband works with the trigger "value" alone; what the point says itself goes before."""
        point, default = self._points[index], self._config.subscribe
        trigger = point.trigger or ("value" if point.deadband else default.trigger)
        return trigger, point.deadband or (default.deadband if trigger == "value" else None)

    def _ordered(self, members: Iterable[int]) -> tuple[int, ...]:
        """By type, points of unknown type last; within a type as they are numbered."""
        return tuple(sorted(members, key=lambda index: (self._types.get(index, 256), index)))

    def _remark_items(self, planned: Sequence[tuple[float, PlannedItem]]) -> None:
        default = self._config.subscribe
        items = [item for _, item in planned]
        slower = [item for item in items if item.sampling > (self._points[item.point].sampling or default.sampling)]
        if slower:
            self._remarks.append(
                f"{_points(len(slower))}, for example {self._name(slower[0].point)}, "
                f"{'is' if len(slower) == 1 else 'are'} sampled every {_s(slower[0].sampling)}, slower than the device "
                "file says: the server, its profile or load.min_sampling allows no less"
            )
        short = [
            (item.queue * item.sampling, wished, item.point)
            for publishing, item in planned
            if item.queue * item.sampling < (wished := self._queue(item.point, publishing)) - 1e-9
        ]
        if short:
            bridged, wished, weakest = min(short)
            self._remarks.append(
                f"{_points(len(short))} can have at most {self._limits.queue} samples queued at the server: "
                f"{self._name(weakest)} bridges an outage of {_s(bridged)} and not of {_s(wished)}; raise its sampling "
                "interval where that matters"
            )
        bare = [item.point for item in items if item.deadband is None and self._filter(item.point)[1]]
        if bare:
            self._remarks.append(
                f"{_points(len(bare))}, for example {self._name(bare[0])}, "
                f"{'is' if len(bare) == 1 else 'are'} sent at every change: a deadband needs a number"
            )

    def _queue(self, index: int, publishing: float) -> float:
        """Seconds that the queue is to hold: at the least what comes between two notifications."""
        return max(self._points[index].queue or self._config.subscribe.queue, publishing)

    def _name(self, index: int) -> str:
        return self._points[index].point


def requests_per_s(publishing: Mapping[float, int], polls: Mapping[float, int]) -> float:
    """Requests a second: by publishing interval the number of subscriptions, by poll interval the Reads of one round.

    A subscription asks once per interval as long as its points change; otherwise less.
    """
    return sum(count / interval for rounds in (publishing, polls) for interval, count in rounds.items())


def _digest(lines: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=12).hexdigest()


def _points(count: int) -> str:
    return "1 point" if count == 1 else f"{count} points"


def _s(seconds: float) -> str:
    return f"{seconds:.3g} s"
