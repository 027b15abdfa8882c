"""Subscriptions of the load server: what is queued, sent, acknowledged, thrown away."""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np

from benchmarks.load import kinds
from benchmarks.load.notifications import SOURCE, VALUE, Part, filetime, notification, parts
from benchmarks.rig import control

GOOD: Final = 0
BAD_MONITORED_ITEM_ID_INVALID: Final = 0x80420000
BAD_SEQUENCE_NUMBER_UNKNOWN: Final = 0x807A0000

QUEUE_BYTES: Final = 64 << 20
"""a subscription's queue: this much, encoded, then the oldest is thrown away"""
ITEM_BYTES: Final = 32
CAUGHT_UP_S: Final = 0.1
"""ticks that are late by no more come at once: a full queue takes longer to send than the shortest period"""
FIFTHS: Final = 5
"""of a plant's items one in so many changes per tick, and each once in as many ticks"""
_KEEP_ALIVE: Final = struct.pack("<i", -1)
_ONE: Final = struct.pack("<i", 1)


class Publisher(Protocol):
    """The connection, as its subscriptions see it."""

    publish_requests: deque[tuple[int, int, bytes]]

    def publish(
        self, subscription: int, sequence: int, more: bool, notifications: bytes, available: Mapping[int, None]
    ) -> None:
        """Answer the oldest PublishRequest; `notifications` is the encoded NotificationData array."""
        ...


class Stats:
    """Counts values (not notifications), except where the name says otherwise."""

    def __init__(self) -> None:
        self.generated = self.sent = self.dropped = 0
        self.notifications = self.acknowledged = self.unknown_acknowledgements = 0
        self.ticks = self.late_ticks = 0


class Subscription:
    """Items, a bounded queue of what they reported, and the sequence numbers that wait for acknowledgement."""

    def __init__(
        self, id: int, publishing_s: float, keep_alive: int, most: int, load: Load, connection: Publisher
    ) -> None:
        """`most`: items that the client takes in one notification."""
        self.id = id
        self._most = min(most or load.most, load.most)
        self.publishing_s = publishing_s
        self.enabled = True
        self._keep_alive = keep_alive
        self._load = load
        self._connection = connection
        self._items: dict[int, tuple[int, int]] = {}
        self._mask = VALUE | SOURCE
        self._alternatives: list[list[Part]] = []
        self._queue: deque[tuple[Part, int, int]] = deque()
        self._queued_bytes = 0
        self._due = False
        self._quiet = keep_alive  # the first publishing cycle answers at once (Part 4, 5.14.1.2)
        self._sequence = 0
        self._unacknowledged: dict[int, None] = {}
        self._timer = asyncio.get_running_loop().call_later(publishing_s, self._cycle)

    @property
    def item_count(self) -> int:
        """How many items it has."""
        return len(self._items)

    @property
    def pending(self) -> int:
        """Values in the queue."""
        return sum(part.count for part, _, _ in self._queue)

    @property
    def unacknowledged(self) -> int:
        """Notifications sent and not acknowledged."""
        return len(self._unacknowledged)

    def add(self, new: list[tuple[int, int, int]], mask: int) -> None:
        """Add (monitored item id, client handle, item); their present values are reported at once."""
        self._mask = mask
        self._items.update({id: (handle, item) for id, handle, item in new})
        self._alternatives = []
        tick = self._load.tick
        self._put(self._parts([(handle, item) for _, handle, item in new], tick), tick, time.time_ns())

    def remove(self, ids: list[int]) -> list[int]:
        """Remove items; a status for each."""
        self._alternatives = []
        return [GOOD if self._items.pop(id, None) else BAD_MONITORED_ITEM_ID_INVALID for id in ids]

    def sample(self, tick: int, now_ns: int) -> None:
        """Queue what changed at `tick`."""
        if not self._items:
            return
        if not self._alternatives:
            self._alternatives = self._plan()
        self._put(self._alternatives[(tick - 1) % len(self._alternatives)], tick, now_ns)
        if self.publishing_s <= self._load.period_s:
            self.flush()

    def acknowledge(self, sequence: int) -> int:
        """Forget a notification; the status of the acknowledgement."""
        if sequence in self._unacknowledged:
            del self._unacknowledged[sequence]
            self._load.stats.acknowledged += 1
            return GOOD
        self._load.stats.unknown_acknowledgements += 1
        return BAD_SEQUENCE_NUMBER_UNKNOWN

    def flush(self) -> None:
        """Send what is queued as far as there are requests for it, as much at once as the client takes (5.14.1.2)."""
        while self.enabled and self._queue and self._connection.publish_requests:
            count, content = 0, []
            while self._queue and (not count or count + self._queue[0][0].count <= self._most):
                part, tick, now_ns = self._queue.popleft()
                count += part.count
                content.append(part.items(*kinds.moment(self._load.type, tick, filetime(now_ns))))
            stats = self._load.stats
            stats.sent += count
            stats.notifications += 1
            self._queued_bytes -= count * ITEM_BYTES
            self._sequence = self._sequence % 0xFFFFFFFF + 1
            data = notification(content, count)
            self._connection.publish(self.id, self._sequence, bool(self._queue), _ONE + data, self._unacknowledged)
            self._unacknowledged[self._sequence] = None
            self._quiet = 0
        self._due = bool(self._queue)

    def flush_late(self) -> None:
        """A request came: it is answered at once if a publishing cycle has waited for it."""
        if self._due:
            self.flush()

    def close(self) -> None:
        """Stop the publishing cycle."""
        self._timer.cancel()

    def _cycle(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.publishing_s, self._cycle)
        self._quiet += 1
        self.flush()
        if self._quiet > self._keep_alive and not self._queue and self._connection.publish_requests:
            self._quiet = 0
            self._connection.publish(self.id, self._sequence + 1, False, _KEEP_ALIVE, self._unacknowledged)

    def _put(self, new: list[Part], tick: int, now_ns: int) -> None:
        for part in new:
            self._queue.append((part, tick, now_ns))
            self._queued_bytes += part.count * ITEM_BYTES
            self._load.stats.generated += part.count
        while self._queued_bytes > QUEUE_BYTES:
            lost, _, _ = self._queue.popleft()
            self._queued_bytes -= lost.count * ITEM_BYTES
            self._load.stats.dropped += lost.count

    def _parts(self, items: list[tuple[int, int]], tick: int) -> list[Part]:
        load = self._load
        handles, numbers = zip(*items, strict=True)
        return parts(handles, numbers, load.type, self._mask, self._most, tick)

    def _plan(self) -> list[list[Part]]:
        """What to send at tick 1, 2 ...: everything, or of a plant a random fifth of what is left of the items."""
        items = list(self._items.values())
        if self._load.type != "plant":
            return [self._parts(items, 0)]
        random = np.random.default_rng(len(items))
        plan: list[list[Part]] = []
        for _ in range(kinds.ORDERS // FIFTHS):
            for changed in np.array_split(random.permutation(len(items)), FIFTHS):
                part = [items[k] for k in changed.tolist()]
                plan.append(self._parts(part, len(plan) + 1) if part else [])
        return plan


class Load:
    """What all connections share: the items, their rate, the counts."""

    def __init__(self, items: int, rate: float, type: str, most: int) -> None:
        self.items, self.type, self.most = items, type, most
        self.stats = Stats()
        self.tick = 0
        self.rate = 0.0
        self.subscriptions: dict[int, Subscription] = {}
        self.ids = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0
        self.set_rate(rate)

    @property
    def period_s(self) -> float:
        """Time between two ticks."""
        return 1.0 / self.rate if self.rate else 3600.0

    def set_rate(self, rate: float) -> dict[str, float]:
        """Change every item at `rate` Hz from now on; 0 = not at all."""
        self.rate = rate
        if self._timer is not None:
            self._timer.cancel()
        if rate:
            loop = asyncio.get_running_loop()
            self._next = loop.time() + self.period_s
            self._timer = loop.call_at(self._next, self._on_tick)
        return {"rate": rate}

    def snapshot(self) -> dict[str, Any]:
        """Counts so far."""
        subscriptions = self.subscriptions.values()
        return {
            **vars(self.stats),
            "pending": sum(subscription.pending for subscription in subscriptions),
            "unacknowledged": sum(subscription.unacknowledged for subscription in subscriptions),
            "subscriptions": len(self.subscriptions),
            "items": sum(subscription.item_count for subscription in subscriptions),
            "cpu_s": control.cpu_s(),
            "time": time.monotonic(),
        }

    def _on_tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self.tick += 1
        self.stats.ticks += 1
        self.stats.late_ticks += now > self._next + self.period_s
        # A server that cannot keep its rate skips ticks, visibly, instead of running after them for long
        self._next = max(self._next + self.period_s, now - CAUGHT_UP_S)
        self._timer = loop.call_at(self._next, self._on_tick)
        now_ns = time.time_ns()
        for subscription in self.subscriptions.values():
            subscription.sample(self.tick, now_ns)
