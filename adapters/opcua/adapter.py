"""One OPC UA device: a connection's life from login to loss. The gateway's supervisor runs it again.

What the server keeps over a lost connection is taken up by the next one in the order of Part 4, 6.7: the session, else
a new session and its subscription transferred, then every notification that was sent meanwhile. Only when that fails
the subscription is made anew, and a gap says from when on readings are missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

from adapters.opcua import layouts
from adapters.opcua.batches import BUILT_IN, BatchBuilder
from adapters.opcua.config import OpcUaDeviceConfig, OpcUaPointConfig
from adapters.opcua.items import RETRY_S, ItemKit, MonitoredItems, Ramp
from adapters.opcua.limits import Limits, ServerSays
from adapters.opcua.plan import make_plan
from adapters.opcua.profiles import PROFILES
from adapters.opcua.progress import Progress
from adapters.opcua.publish import PublishLoop, SubscriptionEnded
from adapters.opcua.revised import Revised
from adapters.opcua.session import Memory, Session, open_session
from adapters.opcua.structures import Structures
from gateway.contract import AdapterError, Clock, Point, Refused, Sink

_logger = logging.getLogger(__name__)


class _Kept(NamedTuple):
    """A subscription, on our side."""

    progress: Progress
    items: MonitoredItems


class OpcUaAdapter:
    """Acquisition from one server; see `gateway.contract.Adapter`."""

    def __init__(
        self, config: OpcUaDeviceConfig, points: Sequence[Point], clock: Clock, *, retry_s: float = RETRY_S
    ) -> None:
        """`retry_s`: how often nodes that the server refused are tried again."""
        self._config = config
        self._clock = clock
        self._retry_s = retry_s
        self._points: dict[int, OpcUaPointConfig] = {
            point.index: point.config for point in points if isinstance(point.config, OpcUaPointConfig)
        }
        types = {
            index: BUILT_IN[config.type] if config.type else layouts.NULL for index, config in self._points.items()
        }
        self._builder = BatchBuilder(config.device, types, config.clock, clock.time_ns())
        self._memory = Memory()
        self._structures = Structures()
        self._kept: _Kept | None = None
        self._ended: int | None = None
        """id of a subscription that is of no use any more and may still be at the server"""
        self._lost_since: int | None = None
        """ns; the last covered moment of a subscription that is gone, while no new one has taken its place"""

    async def run(self, sink: Sink) -> None:
        """Connect, subscribe and receive until cancelled; raises AdapterError when the link fails."""
        async with open_session(self._config.connection, self._config.load, self._memory) as session:
            try:
                await self._receive(session, sink)
            except SubscriptionEnded:
                self._lose()
                raise
            except (Refused, asyncio.CancelledError):
                self._lose()  # the session is closed, and the server deletes the subscription with it
                raise

    async def _receive(self, session: Session, sink: Sink) -> None:
        publish = await self._resume(session, sink) or await self._begin(session, sink)
        assert self._kept is not None
        device = self._config.device
        try:
            async with asyncio.TaskGroup() as group:
                # Publishing begins before the items exist: creating many takes longer than a small queue lasts.
                group.create_task(publish.run(), name=f"{device}: publish")
                group.create_task(publish.acknowledge(), name=f"{device}: acknowledge")
                group.create_task(publish.refresh(), name=f"{device}: refresh")
                group.create_task(self._kept.items.run(), name=f"{device}: items")
                group.create_task(session.stay_alive(), name=f"{device}: session")
        except BaseExceptionGroup as failures:
            cause = _cause(failures)
            if cause is None:
                raise
            raise cause from failures

    async def _resume(self, session: Session, sink: Sink) -> PublishLoop | None:
        """Take up the subscription of the connection before; None if there is none that can be."""
        if self._kept is None:
            return None
        kept = self._kept
        if kept.items.certain and await session.take_over(kept.progress.id):
            kept.items.attach(session, sink)
            publish = self._loop(session, kept, sink)
            if await publish.resume():
                return publish
            _logger.info("%s: the server has lost our subscription; making a new one", session.url)
        self._lose()
        return None

    async def _begin(self, session: Session, sink: Sink) -> PublishLoop:
        if self._ended is not None:
            await session.delete(self._ended)
            self._ended = None
        made = await session.subscribe(self._config.subscribe)
        progress = Progress(made, self._clock.time_ns(), self._lost_since)
        limits = Limits.of(ServerSays(subscriptions=1), PROFILES[self._config.profile], self._config.load)
        plan = make_plan(self._config, self._points, limits)
        revised = Revised(session.url, self._points)
        revised.start(plan)
        ramp = Ramp(plan.items, limits.ramp)
        kit = ItemKit(self._points, self._builder, self._clock, revised, ramp, self._retry_s)
        items = MonitoredItems(progress.id, plan.subscriptions[0], kit)
        items.attach(session, sink)
        self._kept, self._lost_since = _Kept(progress, items), None
        return self._loop(session, self._kept, sink)

    def _loop(self, session: Session, kept: _Kept, sink: Sink) -> PublishLoop:
        return PublishLoop(session, kept.progress, self._builder, sink, self._clock, kept.items, self._structures)

    def _lose(self) -> None:
        if self._kept is not None:
            progress = self._kept.progress
            self._lost_since = progress.covered if progress.lost_since is None else progress.lost_since
            self._ended = progress.id
            self._kept = None


def _cause(failures: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """What the supervisor should act on: a refusal rather than the lost links that follow; None for a bug."""
    leaves = _leaves(failures)
    if not all(isinstance(leaf, AdapterError) for leaf in leaves):
        return None
    for kind in (Refused, SubscriptionEnded):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def _leaves(failures: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in failures.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
