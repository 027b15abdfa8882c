"""Messages under way on one connection: each gets a slot of the window and, in the end, the broker's reason code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gateway.contract import Clock
from gateway.publishing.client import Acknowledgement
from gateway.publishing.window import Window

Done = Callable[[int], None]
"""gets the reason code of the PUBACK; called on the event loop, must not block"""


class Link(Protocol):
    """What takes messages: a `Connection`."""

    def publish(self, topic: str, payload: bytes, retain: bool, properties: bytes) -> int:
        """Hand a message over; returns the id of its acknowledgement."""
        ...


@dataclass(slots=True)
class Traffic:
    """Counts since the publisher began."""

    messages: int = 0
    nbytes: int = 0
    acknowledged: int = 0
    latency_ns: int = 0
    """sum over acknowledged messages, from hand-over to PUBACK"""


class _Sent(NamedTuple):
    nbytes: int
    backlog: bool
    done: Done
    time_ns: int
    keep: bool


class Outbox:
    """Sends through a window and matches acknowledgements; dies with its connection."""

    def __init__(self, window: Window, clock: Clock, traffic: Traffic) -> None:
        self.window = window
        self._clock = clock
        self._traffic = traffic
        self._sent: dict[int, _Sent] = {}
        self._link: Link | None = None
        self.last_progress_ns = clock.monotonic_ns()
        """when the window was last empty or an acknowledgement came, monotonic"""

    def attach(self, link: Link) -> None:
        """Name the connection that messages go to."""
        self._link = link

    async def send(
        self, topic: str, payload: bytes, done: Done, *, retain: bool = False, backlog: bool = False, properties: bytes
    ) -> None:
        """Wait for a slot and hand over; `done` is called when the PUBACK comes. Raises BrokerError when cut."""
        await self.window.acquire(len(payload), backlog)
        self.hand_over(topic, payload, done, retain=retain, backlog=backlog, properties=properties)

    def hand_over(
        self,
        topic: str,
        payload: bytes,
        done: Done,
        *,
        retain: bool = False,
        backlog: bool = False,
        properties: bytes,
        keep: bool = False,
    ) -> None:
        """The same with a slot that was taken already. `keep`: the PUBACK does not give it back, the caller does."""
        if self._link is None:
            raise RuntimeError("the outbox has no connection")
        nbytes = len(payload)
        now = self._clock.monotonic_ns()
        if not self._sent:
            self.last_progress_ns = now
        mid = self._link.publish(topic, payload, retain, properties)
        self._sent[mid] = _Sent(nbytes, backlog, done, now, keep)
        self._traffic.messages += 1
        self._traffic.nbytes += nbytes

    async def call(
        self, topic: str, payload: bytes, *, retain: bool = False, backlog: bool = False, properties: bytes
    ) -> int:
        """Send and wait for the PUBACK; returns its reason code."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def done(code: int) -> None:
            if not answer.done():
                answer.set_result(code)

        await self.send(topic, payload, done, retain=retain, backlog=backlog, properties=properties)
        return await answer

    def acknowledged(self, batch: list[Acknowledgement]) -> None:
        """PUBACKs came."""
        now = self._clock.monotonic_ns()
        self.last_progress_ns = now
        for mid, code in batch:
            sent = self._sent.pop(mid, None)
            if sent is None:
                continue
            self._traffic.acknowledged += 1
            self._traffic.latency_ns += now - sent.time_ns
            if not sent.keep:
                self.window.release(sent.nbytes, sent.backlog)
            sent.done(code)

    def silent_s(self) -> float:
        """For how long something has been under way without any acknowledgement."""
        return (self._clock.monotonic_ns() - self.last_progress_ns) / 1e9 if self._sent else 0.0
