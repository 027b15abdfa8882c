"""The device's monitored items: created in batches that the server can bear; refused ones are tried again, slowly."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable, Sequence
from typing import Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from adapters.opcua import stack
from adapters.opcua.batches import BatchBuilder, Moment
from adapters.opcua.config import NodeAddress, OpcUaPointConfig, SubscribeConfig
from adapters.opcua.errors import service_failed, status_name
from adapters.opcua.session import Session
from gateway.contract import Clock, Sink
from gateway.contract.status import BAD, BAD_NODE_ID_UNKNOWN

_logger = logging.getLogger(__name__)

RETRY_S: Final = 30.0
_TOO_MUCH: Final = frozenset({0x80100000, 0x80080000, 0x80B80000, 0x80B90000})
"""BadTooManyOperations, BadEncodingLimitsExceeded, BadRequestTooLarge, BadResponseTooLarge: halve the batch"""
_QUEUE_LIMIT: Final = 65_535
_KINDS: Final = {
    "i": ua.NodeIdType.Numeric,
    "s": ua.NodeIdType.String,
    "g": ua.NodeIdType.Guid,
    "b": ua.NodeIdType.ByteString,
}


class MonitoredItems:
    """Creates and watches over the items of one subscription; a client handle is the point's permanent index.

    Kept from one connection to the next, as long as the server keeps the subscription: see `attach`.
    """

    def __init__(
        self,
        subscription: int,
        config: SubscribeConfig,
        points: dict[int, OpcUaPointConfig],
        builder: BatchBuilder,
        clock: Clock,
        retry_s: float = RETRY_S,
    ) -> None:
        self._session: Session
        self._sink: Sink
        self._subscription = subscription
        self._config = config
        self._points = points
        self._builder = builder
        self._clock = clock
        self._retry_s = retry_s
        self._per_call = 1
        self._ids: dict[int, int] = {}
        self._bad: dict[int, int] = {}
        self._revised = 0
        self._certain = True
        self.complete = False
        """every item has been created, or refused"""

    @property
    def certain(self) -> bool:
        """Whether the server has exactly the items that we know of.

        Not so when a connection ended while it was creating some: they would send everything twice.
        """
        return self._certain

    def attach(self, session: Session, sink: Sink) -> None:
        """Go on over this session; before `run`."""
        self._session = session
        self._sink = sink
        self._per_call = session.items_per_call

    async def run(self) -> None:
        """Create the items that are not there, then try the bad ones again every `retry_s`. Raises AdapterError."""
        if not self.complete:
            await self._create([point for point in self._points if point not in self._ids])
            self._tell()
            self.complete = True
        while True:
            await asyncio.sleep(self._retry_s)
            if self._bad:
                await self._retry()

    def vanished(self, points: Iterable[int]) -> None:
        """These points' nodes are gone: their items stay dead even when the nodes return, so make new ones."""
        for point in points:
            self._bad.setdefault(point, BAD_NODE_ID_UNKNOWN)

    def node_ids(self) -> dict[int, ua.NodeId]:
        """Node ids of the points that have an item and are not bad."""
        nodes = {point: self._node_id(self._points[point].node) for point in self._ids if point not in self._bad}
        return {point: node for point, node in nodes.items() if node is not None}

    def nodes_of(self, points: Iterable[int]) -> list[ua.NodeId]:
        """Node ids of some of our points, whether their items are made already or not."""
        nodes = (self._node_id(self._points[point].node) for point in points if point in self._points)
        return [node for node in nodes if node is not None]

    def _tell(self) -> None:
        _logger.info("%s: subscribed to %d of %d points", self._session.url, len(self._ids), len(self._points))
        if self._revised:
            _logger.warning(
                "%s: the server samples slower or queues less than asked for at %d points",
                self._session.url,
                self._revised,
            )

    async def _retry(self) -> None:
        again = list(self._bad)
        dead = [self._ids.pop(point) for point in again if point in self._ids]
        for start in range(0, len(dead), self._per_call):
            request = ua.DeleteMonitoredItemsRequest()
            request.Parameters.SubscriptionId = self._subscription
            request.Parameters.MonitoredItemIds = dead[start : start + self._per_call]
            self._certain = False
            await self._session.call("removing dead monitored items", request, ua.DeleteMonitoredItemsResponse)
            self._certain = True
        await self._session.inspect()
        before = len(self._bad)
        await self._create(again)
        if len(self._bad) < before:
            _logger.info("%s: %d points have returned", self._session.url, before - len(self._bad))

    async def _create(self, points: Sequence[int]) -> None:
        """Create items, good or bad; each point's first failure becomes one Bad reading."""
        known: list[tuple[int, ua.NodeId]] = []
        refused: dict[int, int] = {}
        for point in points:
            node = self._node_id(self._points[point].node)
            if node is None:
                refused[point] = BAD_NODE_ID_UNKNOWN
            else:
                known.append((point, node))
        start = 0
        while start < len(known):
            chunk = known[start : start + self._per_call]
            results = await self._call(chunk)
            if results is None:
                self._per_call = max(1, len(chunk) // 2)
                continue
            start += len(chunk)
            for (point, _), result in zip(chunk, results, strict=True):
                self._take(point, result, refused)
        await self._report(refused)

    def _take(self, point: int, result: ua.MonitoredItemCreateResult, refused: dict[int, int]) -> None:
        code = result.StatusCode.value
        if code >> 30:
            refused[point] = code
            return
        self._ids[point] = result.MonitoredItemId
        self._bad.pop(point, None)
        sampling_s, queue = self._sampling(point)
        if result.RevisedSamplingInterval > sampling_s * 1010 or result.RevisedQueueSize < queue:
            self._revised += 1

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
            self._points[example].point,
            self._points[example].node,
            status_name(code),
            self._retry_s,
        )
        moment = Moment(self._clock.time_ns(), self._clock.monotonic_ns())
        await self._sink.offer(self._builder.bad(list(new), list(new.values()), moment))

    async def _call(self, chunk: Sequence[tuple[int, ua.NodeId]]) -> list[ua.MonitoredItemCreateResult] | None:
        """One CreateMonitoredItems; None if it was too much for the server."""
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters = ua.CreateMonitoredItemsParameters(
            SubscriptionId=self._subscription,
            TimestampsToReturn=ua.TimestampsToReturn.Both,
            ItemsToCreate=[self._item(point, node) for point, node in chunk],
        )
        self._builder.created(point for point, _ in chunk)
        self._certain = False
        answer = await self._session.attempt(
            "creating monitored items", request, ua.CreateMonitoredItemsResponse, _TOO_MUCH
        )
        if answer is None and len(chunk) > 1:
            self._certain = True
            return None
        if answer is None or len(answer.Results) != len(chunk):
            raise service_failed(f"{self._session.url}: creating monitored items", BAD)
        self._certain = True
        results: list[ua.MonitoredItemCreateResult] = answer.Results
        return results

    def _item(self, point: int, node: ua.NodeId) -> ua.MonitoredItemCreateRequest:
        sampling_s, queue = self._sampling(point)
        return ua.MonitoredItemCreateRequest(
            ItemToMonitor=ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value),
            MonitoringMode=ua.MonitoringMode.Reporting,
            RequestedParameters=ua.MonitoringParameters(
                ClientHandle=point, SamplingInterval=sampling_s * 1000, QueueSize=queue, DiscardOldest=True
            ),
        )

    def _sampling(self, point: int) -> tuple[float, int]:
        """Sampling interval (s) and the queue that holds `subscribe.queue` of it."""
        sampling_s = self._points[point].sampling or self._config.sampling
        return sampling_s, min(math.ceil(self._config.queue / sampling_s) + 1, _QUEUE_LIMIT)

    def _node_id(self, text: str) -> ua.NodeId | None:
        address = NodeAddress(text)
        namespace: int | None = address.namespace
        if address.uri is not None:
            namespace = self._session.namespace(address.uri)
        if namespace is None:
            return None
        return stack.node_id(address.identifier, namespace, _KINDS[address.kind])
