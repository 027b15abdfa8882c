"""One OPC UA device: a connection's life from login to loss. The gateway's supervisor runs it again.

What outlives a connection is kept here: the subscriptions that the server still has, what readings were like, and the
login of a session that a lost link left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import Sequence

from asyncua import ua

from adapters.opcua.acquiring.items import RETRY_S, ItemKit, Ramp
from adapters.opcua.acquiring.plan import ORDER_PAYS, Plan, make_plan
from adapters.opcua.acquiring.poll import PollCount, PollLoop
from adapters.opcua.acquiring.receiver import Stalled
from adapters.opcua.acquiring.revised import Revised
from adapters.opcua.acquiring.subscriptions import Subscriptions
from adapters.opcua.config import NodeAddress, OpcUaDeviceConfig, OpcUaPointConfig
from adapters.opcua.connecting.connect import open_session
from adapters.opcua.decoding import layouts
from adapters.opcua.decoding.batches import BUILT_IN, BatchBuilder
from adapters.opcua.decoding.clocks import SETTLE_S, ClockWatch
from adapters.opcua.decoding.structures import Structures
from adapters.opcua.history.backfill import Backfill
from adapters.opcua.history.gaps import GapLedger
from adapters.opcua.model.definitions import Definitions, learn_built_in
from adapters.opcua.model.semantics import Semantics
from adapters.opcua.profiles import PROFILES
from adapters.opcua.session.endpoints import Memory
from adapters.opcua.session.nodes import node_id
from adapters.opcua.session.session import Session
from gateway.contract import AdapterError, Clock, Facts, Point, Refused, Sink

_logger = logging.getLogger(__name__)

_FORGET_S = 0.3
"""for the last note of an orderly stop; it only spares the next start a question"""


_LEARNING_S = 1.0
_LEARNT_AT_ONCE = 500
"""points; the requests are smaller"""


class OpcUaAdapter:
    """Acquisition from one server; see `gateway.contract.Adapter`."""

    def __init__(
        self,
        config: OpcUaDeviceConfig,
        points: Sequence[Point],
        clock: Clock,
        *,
        retry_s: float = RETRY_S,
        settle_s: float = SETTLE_S,
    ) -> None:
        """`retry_s`: how often nodes that the server refused are tried again; `settle_s`: see `ClockWatch`."""
        self._config = config
        self._profile = PROFILES[config.profile]
        self._clock = clock
        self._retry_s = retry_s
        self._points: dict[int, OpcUaPointConfig] = {
            point.index: point.config for point in points if isinstance(point.config, OpcUaPointConfig)
        }
        types = {
            index: BUILT_IN[config.type] if config.type else layouts.NULL for index, config in self._points.items()
        }
        self._types = {index: type for index, type in types.items() if type != layouts.NULL}
        self._types_learnt = False
        self._clocks = ClockWatch(config.clock, self._name_of, self._say, settle_s=settle_s)
        self._builder = BatchBuilder(config.device, types, config.clock, clock.time_ns(), self._clocks.batch)
        self._memory = Memory()
        self._connected = False
        self._revised = Revised(config.connection.url, self._points)
        self._semantics = Semantics(self._points)
        self._structures = Structures()
        self._subscriptions = Subscriptions(clock, self._structures, self._semantics.look)
        self._polls: PollCount | None = None
        """None while nothing is polled"""
        self._ledger: GapLedger | None = None
        if config.backfill:
            intervals = {point.publishing or config.subscribe.publishing for point in self._points.values()}
            self._ledger = GapLedger(config.device, self._points, intervals, clock)
            past = BatchBuilder(config.device, types, config.clock, clock.time_ns())
            self._backfill = Backfill(
                config.device, self._ledger, past, config.clock, clock, self._structures, self._name_of
            )

    def facts(self) -> Facts:
        """See `gateway.contract.HasFacts`."""
        offset = self._memory.clock_offset_s
        if offset is None and self._connected:
            offset = self._clocks.readings_offset_s(self._clock.monotonic_ns())
        facts = Facts(offset, self._revised.bridged, self._subscriptions.lost_copies)
        if self._polls is None:
            return facts
        return dataclasses.replace(
            facts,
            polls=self._polls.cycles,
            polls_missed=self._polls.missed,
            poll_late_s=self._polls.late_s(self._clock.monotonic_ns() / 1e9),
            timeouts=self._polls.timeouts,
            bad_replies=self._polls.bad_replies,
        )

    async def run(self, sink: Sink) -> None:
        """Connect, subscribe and receive until cancelled; raises AdapterError when the link fails."""
        try:
            async with open_session(self._config.connection, self._config.load, self._memory, self._profile) as session:
                self._connected = True
                try:
                    await self._acquire(session, sink)
                except (Stalled, Refused, asyncio.CancelledError):
                    # Stalled: of no use. Else the session is closed, and the server deletes the subscriptions with it.
                    self._subscriptions.lose()
                    raise
        except asyncio.CancelledError:
            if self._connected:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_FORGET_S):
                        await self._subscriptions.forget(sink)
            raise
        finally:
            self._connected = False

    async def _acquire(self, session: Session, sink: Sink) -> None:
        limits = session.limits
        if self._subscriptions.most is not None:
            limits = dataclasses.replace(limits, subscriptions=self._subscriptions.most)
        await self._learn_types(session)
        plan = make_plan(self._config, self._points, limits, self._types)
        ramp = Ramp(plan.items, limits.ramp)
        kit = ItemKit(self._points, self._builder, self._clock, self._revised, ramp, self._retry_s)
        device = self._config.device
        live = sink if self._ledger is None else self._ledger.watch(sink)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(session.stay_alive(sink, self._clock, self._clocks), name=f"{device}: session")
                subscriptions = self._subscriptions.run(session, live, plan, kit, limits.transfer)
                group.create_task(subscriptions, name=f"{device}: subscriptions")
                group.create_task(self._polling(session, live, plan).run(), name=f"{device}: poll")
                group.create_task(self._semantics.run(session, sink), name=f"{device}: semantics")
                if self._ledger is not None:
                    backfill = self._backfill.run(session, sink, functools.partial(self._node_of, session))
                    group.create_task(backfill, name=f"{device}: backfill")
        except BaseExceptionGroup as failures:
            cause = _cause(failures)
            if cause is None:
                raise
            raise cause from failures

    async def _learn_types(self, session: Session) -> None:
        """Once, ask for the types that the device file leaves open, where there are so many points that it pays.

        As far as one second goes: the first data are worth more than the order of the last items.
        """
        wanted = [index for index in self._points if index not in self._types]
        if self._types_learnt or len(self._points) < ORDER_PAYS:
            return
        now = asyncio.get_running_loop().time
        until = now() + _LEARNING_S
        for part in (wanted[at : at + _LEARNT_AT_ONCE] for at in range(0, len(wanted), _LEARNT_AT_ONCE)):
            if now() > until:
                break
            nodes = {index: node for index in part if (node := self._node_of(session, index)) is not None}
            found = await learn_built_in(session, list(nodes.values()))
            self._types |= {index: type for index, type in zip(nodes, found, strict=True) if type is not None}
        self._types_learnt = True

    def _polling(self, session: Session, sink: Sink, plan: Plan) -> PollLoop:
        count = self._polls or PollCount()
        if plan.polls:
            self._polls = count
        return PollLoop(
            session,
            sink,
            self._builder,
            self._clock,
            self._points,
            plan.polls,
            Definitions(session, self._structures),
            count,
            retry_s=self._retry_s,
            look=self._semantics.look,
        )

    def _name_of(self, point: int) -> str:
        return self._points[point].point

    def _node_of(self, session: Session, point: int) -> ua.NodeId | None:
        return node_id(session, NodeAddress(self._points[point].node))

    def _say(self, level: int, text: str) -> None:
        _logger.log(level, "%s: %s", self._config.device, text)


def _cause(failures: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """What the supervisor should act on: a refusal rather than the lost links that follow; None for a bug."""
    leaves = _leaves(failures)
    if not all(isinstance(leaf, AdapterError) for leaf in leaves):
        return None
    for kind in (Refused, Stalled):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def _leaves(failures: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in failures.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
