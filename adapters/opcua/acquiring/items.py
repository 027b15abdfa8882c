"""A subscription's monitored items: made in batches that the server can bear; refused ones are tried again, slowly."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from adapters.opcua.acquiring.plan import Plan, PlannedItem, PlannedSubscription
from adapters.opcua.acquiring.revised import Revised, RevisedItem
from adapters.opcua.config import NodeAddress, OpcUaPointConfig
from adapters.opcua.decoding.batches import BatchBuilder, Moment
from adapters.opcua.errors import TOO_MUCH, service_failed, status_name
from adapters.opcua.session.nodes import node_id
from adapters.opcua.session.pace import Priority
from adapters.opcua.session.session import Session
from gateway.contract import Clock, Sink
from gateway.contract.status import BAD, BAD_NODE_ID_UNKNOWN

_logger = logging.getLogger(__name__)

RETRY_S: Final = 30.0
BAD_TOO_MANY_MONITORED_ITEMS: Final = 0x80DB0000
_FILTER_REFUSED: Final = frozenset({0x80430000, 0x80440000, 0x80450000, 0x808E0000})
"""BadMonitoredItemFilterInvalid, BadMonitoredItemFilterUnsupported, BadFilterNotAllowed, BadDeadbandFilterInvalid"""
_RAMP_PARTS: Final = 10
"""batches that a ramp has at least: small ones, as the server is to feel it little"""
_TRIGGERS: Final = {
    "status": ua.DataChangeTrigger.Status,
    "value": ua.DataChangeTrigger.StatusValue,
    "timestamp": ua.DataChangeTrigger.StatusValueTimestamp,
}


class Ramp:
    """Spreads the making of a device's items evenly over some seconds, whatever subscriptions they belong to."""

    def __init__(self, items: int, over_s: float) -> None:
        self.batch = max(1, math.ceil(items / _RAMP_PARTS)) if over_s else max(1, items)
        """items of one batch at most"""
        self._item_s = over_s / max(1, items)
        self._next = 0.0

    async def turn(self, items: int) -> None:
        """Return when a batch of so many may be made."""
        now = asyncio.get_running_loop().time()
        at = max(self._next, now)
        self._next = at + items * self._item_s
        if at > now:
            await asyncio.sleep(at - now)


@dataclass(frozen=True, slots=True)
class ItemKit:
    """What the subscriptions of a device have in common."""

    points: Mapping[int, OpcUaPointConfig]
    builder: BatchBuilder
    clock: Clock
    revised: Revised
    ramp: Ramp
    retry_s: float = RETRY_S
    """how often points that the server refuses are tried again"""


class _Wanted(NamedTuple):
    item: PlannedItem
    node: ua.NodeId


async def report_left_out(plan: Plan, kit: ItemKit, sink: Sink) -> None:
    """Offer one Bad reading for each point that the plan leaves out; the plan's remarks say why."""
    if plan.left_out:
        moment = Moment(kit.clock.time_ns(), kit.clock.monotonic_ns())
        statuses = [BAD_TOO_MANY_MONITORED_ITEMS] * len(plan.left_out)
        await sink.offer(kit.builder.bad(plan.left_out, statuses, moment))


class MonitoredItems:
    """Creates and watches over the items of one subscription; a client handle is the point's permanent index.

    Kept from one connection to the next, as long as the server keeps the subscription: see `attach`.
    """

    def __init__(self, subscription: int, planned: PlannedSubscription, kit: ItemKit) -> None:
        self._session: Session
        self._sink: Sink
        self._subscription = subscription
        self._planned = {item.point: item for item in planned.items}
        self._digest = planned.digest
        self._kit = kit
        self._per_call = 1
        self._addresses = {point: NodeAddress(kit.points[point].node) for point in self._planned}
        self._uris = {address.uri for address in self._addresses.values() if address.uri is not None}
        self._namespaces: dict[str, int | None] = {}
        """namespace indexes with which the items were made"""
        self._ids: dict[int, int] = {}
        self._bad: dict[int, int] = {}
        self._dead: list[int] = []
        """points whose items have to go before new ones are made"""
        self._certain = True
        self.complete = False
        """every item has been created, or refused"""
        self.on_change: Callable[[], None] = lambda: None
        """called when the items are complete, and whenever they have changed since"""

    @property
    def certain(self) -> bool:
        """Whether the server has exactly the items that we know of.

        Not so when a connection ended while it was creating some: they would send everything twice.
        """
        return self._certain

    @property
    def ids(self) -> Mapping[int, int]:
        """The server's id of each point's item."""
        return self._ids

    def adopt(self, ids: Mapping[int, int], bridged_s: float | None) -> None:
        """Take up the items that a process before this one made, before `attach`; other points are the refused ones.

        `bridged_s`: how long an outage loses nothing of them, as that process knew it; None = it did not.
        The caller sees to it that they are those of this plan, and the server's namespaces numbered as they were.
        """
        self._ids = dict(ids)
        self._bad = {point: BAD_NODE_ID_UNKNOWN for point in self._planned if point not in ids}
        self.complete = True
        self._kit.revised.adopted(self._digest, bridged_s)

    def bridged_s(self, lifetime_s: float) -> float | None:
        """How long an outage loses nothing of a subscription that lives for `lifetime_s`; None = not known yet."""
        return self._kit.revised.bridged_by(self._digest, self._planned, lifetime_s)

    def attach(self, session: Session, sink: Sink) -> None:
        """Go on over this session; before `run`. Items whose namespace has moved are made anew there."""
        self._session = session
        self._sink = sink
        self._per_call = session.items_per_call
        self._remap()

    async def run(self) -> None:
        """Create the items that are not there, then try the bad ones again every `retry_s`. Raises AdapterError."""
        if not self.complete:
            self._kit.revised.begin(self._digest)
        changed = await self._renew()
        if not self.complete:
            _logger.info("%s: subscribed to %d of %d points", self._session.url, len(self._ids), len(self._planned))
            self._kit.revised.finished(self._digest)
            self.complete = True
            changed = True
        if changed:
            self.on_change()
        while True:
            await asyncio.sleep(self._kit.retry_s)
            if self._bad:
                await self._retry()
                self.on_change()

    def vanished(self, points: Iterable[int]) -> None:
        """These points' nodes are gone: their items stay dead even when the nodes return, so make new ones."""
        for point in points:
            if point in self._planned:
                self._bad.setdefault(point, BAD_NODE_ID_UNKNOWN)

    def node_ids(self) -> dict[int, ua.NodeId]:
        """Node ids of the points that have an item and are not bad."""
        nodes = {point: self._node_id(point) for point in self._ids if point not in self._bad}
        return {point: node for point, node in nodes.items() if node is not None}

    def nodes_of(self, points: Iterable[int]) -> list[ua.NodeId]:
        """Node ids of some of our points, whether their items are made already or not."""
        nodes = (self._node_id(point) for point in points if point in self._planned)
        return [node for node in nodes if node is not None]

    def _remap(self) -> None:
        """Learn the namespace indexes of now; items with other ones watch other nodes, or none, and have to go."""
        now = {uri: self._session.namespace(uri) for uri in self._uris}
        moved = {uri for uri, index in self._namespaces.items() if index is not None and index != now[uri]}
        left = set(self._dead)
        self._dead = [point for point in self._ids if point in left or self._addresses[point].uri in moved]
        self._namespaces = now
        if moved and self._dead:
            _logger.warning(
                "%s: the server has renumbered its namespaces; the items of %d points, for example %s, are made anew",
                self._session.url,
                len(self._dead),
                self._name(self._dead[0]),
            )

    async def _renew(self) -> bool:
        """Make the items that are not there, those of moved nodes among them; whether there were any."""
        await self._delete(self._dead)
        self._dead = []
        missing = [point for point in self._planned if point not in self._ids and point not in self._bad]
        if missing:
            await self._create(missing)
        return bool(missing)

    async def _retry(self) -> None:
        again = list(self._bad)
        await self._session.inspect()
        self._remap()
        await self._delete(again)
        await self._renew()
        before = len(self._bad)
        await self._create(again, Priority.BACKGROUND)
        if len(self._bad) < before:
            _logger.info("%s: %d points have returned", self._session.url, before - len(self._bad))

    async def _delete(self, points: Sequence[int]) -> None:
        points = [point for point in points if point in self._ids]
        for start in range(0, len(points), self._per_call):
            chunk = points[start : start + self._per_call]
            request = ua.DeleteMonitoredItemsRequest()
            request.Parameters.SubscriptionId = self._subscription
            request.Parameters.MonitoredItemIds = [self._ids[point] for point in chunk]
            self._certain = False
            await self._session.call("removing dead monitored items", request, ua.DeleteMonitoredItemsResponse)
            for point in chunk:
                del self._ids[point]
            self._certain = True
        self._kit.revised.gone(points)

    async def _create(self, points: Sequence[int], priority: Priority = Priority.ITEMS) -> None:
        """Create items, good or bad; each point's first failure becomes one Bad reading."""
        wanted: list[_Wanted] = []
        refused: dict[int, int] = {}
        for point in points:
            node = self._node_id(point)
            if node is None:
                refused[point] = BAD_NODE_ID_UNKNOWN
            else:
                wanted.append(_Wanted(self._planned[point], node))
        plain: list[_Wanted] = []
        await self._batches(wanted, refused, plain, priority)
        if plain:
            await self._batches(plain, refused, [], priority)
        await self._report(refused)

    async def _batches(
        self, wanted: Sequence[_Wanted], refused: dict[int, int], plain: list[_Wanted], priority: Priority
    ) -> None:
        """Create items batch by batch; `plain` grows by those that the server wants without their filter."""
        start = 0
        while start < len(wanted):
            chunk = wanted[start : start + min(self._per_call, self._kit.ramp.batch)]
            await self._kit.ramp.turn(len(chunk))
            results, fault = await self._call(chunk, priority)
            if fault and len(chunk) == 1:
                # Not one more: what is left need not be asked for piece by piece.
                refused |= {each.item.point: fault for each in wanted[start:]}
                self._per_call = self._session.items_per_call
                return
            if fault:
                self._per_call = max(1, len(chunk) // 2)
                continue
            start += len(chunk)
            for each, result in zip(chunk, results, strict=True):
                code = result.StatusCode.value
                if code in _FILTER_REFUSED and self._filtered(each.item):
                    self._kit.revised.refused_filter(each.item.point, code)
                    plain.append(each)
                else:
                    self._take(each.item, result, refused)

    def _take(self, item: PlannedItem, result: ua.MonitoredItemCreateResult, refused: dict[int, int]) -> None:
        code = result.StatusCode.value
        if code >> 30:
            refused[item.point] = code
            return
        self._ids[item.point] = result.MonitoredItemId
        self._bad.pop(item.point, None)
        sampling = max(0.0, result.RevisedSamplingInterval / 1000)
        self._kit.revised.made(RevisedItem(item, sampling, result.RevisedQueueSize))

    async def _report(self, refused: dict[int, int]) -> None:
        new = {point: code for point, code in refused.items() if point not in self._bad}
        self._bad.update(new)
        if not new:
            return
        example, code = next(iter(new.items()))
        _logger.warning(
            "%s: the server refuses %d points, for example %s (node %s): %s; check the node, it is "
            "tried again every %d s",
            self._session.url,
            len(new),
            self._name(example),
            self._kit.points[example].node,
            status_name(code),
            self._kit.retry_s,
        )
        moment = Moment(self._kit.clock.time_ns(), self._kit.clock.monotonic_ns())
        await self._sink.offer(self._kit.builder.bad(list(new), list(new.values()), moment))

    async def _call(
        self, chunk: Sequence[_Wanted], priority: Priority
    ) -> tuple[list[ua.MonitoredItemCreateResult], int]:
        """One CreateMonitoredItems; its results, or none and a status that says that it was too much."""
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters = ua.CreateMonitoredItemsParameters(
            SubscriptionId=self._subscription,
            TimestampsToReturn=ua.TimestampsToReturn.Both,
            ItemsToCreate=[self._request(each) for each in chunk],
        )
        self._kit.builder.created(each.item.point for each in chunk)
        self._certain = False
        answer, fault = await self._session.answer(
            "creating monitored items", request, ua.CreateMonitoredItemsResponse, priority=priority
        )
        if fault == BAD_TOO_MANY_MONITORED_ITEMS or fault in TOO_MUCH:
            self._certain = True
            return [], fault
        if answer is None or len(answer.Results) != len(chunk):
            raise service_failed(f"{self._session.url}: creating monitored items", fault or BAD)
        self._certain = True
        return list(answer.Results), 0

    def _request(self, wanted: _Wanted) -> ua.MonitoredItemCreateRequest:
        item = wanted.item
        parameters = ua.MonitoringParameters(
            ClientHandle=item.point,
            SamplingInterval=item.sampling * 1000,
            QueueSize=item.queue,
            DiscardOldest=item.discard == "oldest",
        )
        if self._filtered(item):
            parameters.Filter = _filter(item)
        return ua.MonitoredItemCreateRequest(
            ItemToMonitor=ua.ReadValueId(NodeId=wanted.node, AttributeId=AttributeIds.Value),
            MonitoringMode=ua.MonitoringMode.Reporting,
            RequestedParameters=parameters,
        )

    def _filtered(self, item: PlannedItem) -> bool:
        """Whether the item is asked for with a filter; status or value is what a server sends without one."""
        if item.point in self._kit.revised.unfiltered:
            return False
        return item.trigger != "value" or item.deadband is not None

    def _name(self, point: int) -> str:
        return self._kit.points[point].point

    def _node_id(self, point: int) -> ua.NodeId | None:
        return node_id(self._session, self._addresses[point])


def _filter(item: PlannedItem) -> ua.DataChangeFilter:
    """Part 4, 7.22.2; percent of the EURange: Part 8, 6.2."""
    made = ua.DataChangeFilter(Trigger=_TRIGGERS[item.trigger])
    if item.deadband is not None:
        made.DeadbandType = ua.DeadbandType.Percent if item.deadband.percent else ua.DeadbandType.Absolute
        made.DeadbandValue = item.deadband.value
    return made
