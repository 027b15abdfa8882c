"""One OPC UA device: a connection's life from login to loss. The gateway's supervisor runs it again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from adapters.opcua import layouts
from adapters.opcua.batches import BUILT_IN, BatchBuilder
from adapters.opcua.config import OpcUaDeviceConfig, OpcUaPointConfig
from adapters.opcua.items import RETRY_S, MonitoredItems
from adapters.opcua.publish import PublishLoop
from adapters.opcua.session import open_session
from gateway.contract import AdapterError, Clock, Point, Refused, Sink


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

    async def run(self, sink: Sink) -> None:
        """Connect, subscribe and receive until cancelled; raises AdapterError when the link fails."""
        config = self._config
        async with open_session(config.connection, config.load) as session:
            subscription = await session.subscribe(config.subscribe)
            items = MonitoredItems(
                session,
                subscription.SubscriptionId,
                config.subscribe,
                self._points,
                self._builder,
                sink,
                self._clock,
                self._retry_s,
            )
            publish = PublishLoop(session, subscription, self._builder, sink, self._clock, items.vanished)
            try:
                async with asyncio.TaskGroup() as group:
                    # Publishing begins before the items exist: creating many takes longer than a small queue lasts.
                    group.create_task(publish.run(), name=f"{config.device}: publish")
                    group.create_task(publish.acknowledge(), name=f"{config.device}: acknowledge")
                    group.create_task(items.run(), name=f"{config.device}: items")
                    group.create_task(session.stay_alive(), name=f"{config.device}: session")
            except BaseExceptionGroup as failures:
                cause = _cause(failures)
                if cause is None:
                    raise
                raise cause from failures


def _cause(failures: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """What the supervisor should act on: a refusal rather than the lost links that follow; None for a bug."""
    leaves = _leaves(failures)
    if not all(isinstance(leaf, AdapterError) for leaf in leaves):
        return None
    return next((leaf for leaf in leaves if isinstance(leaf, Refused)), leaves[0])


def _leaves(failures: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in failures.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
