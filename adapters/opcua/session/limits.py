"""What may be asked of a server: what it says of itself, what is known of its make, what the device file allows. Pure.

The strictest of the three holds. The one exception: where a profile's rate of requests is caution and no knowledge,
`load` may go beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Final, TypeVar

from adapters.opcua.config import LoadConfig
from adapters.opcua.profiles import Profile

T = TypeVar("T", int, float)

OWN_PER_CALL: Final = 1000
"""items, nodes of one request where nobody names a bound: keeps a request well below usual message sizes"""
_ITEM_BYTES: Final = 256
_NODE_BYTES: Final = 160
"""of one more item or node in a request; with a node id of 100 letters they take 170 and 120"""
OWN_QUEUE: Final = 65_535
"""samples per item: more is memory that a server will not spend on one client"""


@dataclass(frozen=True, slots=True)
class ServerSays:
    """The server's own limits, from ServerCapabilities and its OperationLimits (Part 5, 6.3.2 and 6.3.11).

    None = it names no bound: the node is missing, or its value is 0 (Part 5, 6.3.11).
    """

    items_per_call: int | None = None
    nodes_per_read: int | None = None
    nodes_per_browse: int | None = None
    nodes_per_history: int | None = None
    subscriptions: int | None = None
    subscriptions_per_session: int | None = None
    items: int | None = None
    items_per_subscription: int | None = None
    queue: int | None = None
    """samples per monitored item"""
    min_sampling: float | None = None
    """seconds"""

    NODES: ClassVar[dict[str, int]] = {
        "items_per_call": 11714,  # MaxMonitoredItemsPerCall
        "nodes_per_read": 11705,  # MaxNodesPerRead
        "nodes_per_browse": 11710,  # MaxNodesPerBrowse
        "nodes_per_history": 12165,  # MaxNodesPerHistoryReadData
        "subscriptions": 24096,  # MaxSubscriptions
        "subscriptions_per_session": 24098,  # MaxSubscriptionsPerSession
        "items": 24097,  # MaxMonitoredItems
        "items_per_subscription": 24104,  # MaxMonitoredItemsPerSubscription
        "queue": 31916,  # MaxMonitoredItemsQueueSize
        "min_sampling": 2272,  # MinSupportedSampleRate, milliseconds
    }
    """numeric node ids in namespace 0 (Part 6, annex A: NodeIds.csv)"""

    @classmethod
    def of(cls, values: Mapping[int, object]) -> ServerSays:
        """From the values of `NODES` as the server sent them, by node id; missing and senseless ones bound nothing."""
        found = {name: _positive(values.get(node)) for name, node in cls.NODES.items()}
        sampling_ms = found.pop("min_sampling")
        return cls(
            **{name: int(value) for name, value in found.items() if value is not None},
            min_sampling=None if sampling_ms is None else sampling_ms / 1000,
        )


def _positive(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 < value < float("inf") else None


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for one connection. None = no bound. Intervals are seconds."""

    items_per_call: int = OWN_PER_CALL
    nodes_per_read: int = OWN_PER_CALL
    nodes_per_browse: int = OWN_PER_CALL
    nodes_per_history: int = OWN_PER_CALL
    subscriptions: int | None = None
    """of our session"""
    items: int | None = None
    """monitored items of our session"""
    items_per_subscription: int | None = None
    queue: int = OWN_QUEUE
    """samples per monitored item"""
    min_sampling: float = 0.0
    min_publishing: float = 0.0
    requests_per_s: float | None = None
    """requests of any kind, Publish included"""
    ramp: float = 0.0
    """over how many seconds the making of items is spread"""
    transfer: bool = True
    """whether TransferSubscriptions is worth trying"""

    @classmethod
    def of(cls, says: ServerSays, profile: Profile, load: LoadConfig) -> Limits:
        """The strictest of what the server says, what is known of its make, and what the device file allows."""
        return cls(
            items_per_call=_least(says.items_per_call, profile.items_per_call, OWN_PER_CALL) or OWN_PER_CALL,
            nodes_per_read=_least(says.nodes_per_read, profile.nodes_per_read, OWN_PER_CALL) or OWN_PER_CALL,
            nodes_per_browse=_least(says.nodes_per_browse, profile.nodes_per_browse, OWN_PER_CALL) or OWN_PER_CALL,
            nodes_per_history=_least(says.nodes_per_history, profile.nodes_per_history, OWN_PER_CALL) or OWN_PER_CALL,
            subscriptions=_least(says.subscriptions, says.subscriptions_per_session, profile.subscriptions),
            items=_least(says.items, profile.items, load.items),
            items_per_subscription=_least(says.items_per_subscription, profile.items_per_subscription),
            queue=_least(says.queue, profile.queue, OWN_QUEUE) or OWN_QUEUE,
            min_sampling=max(says.min_sampling or 0.0, profile.min_sampling or 0.0, load.min_sampling or 0.0),
            min_publishing=profile.min_publishing or 0.0,
            requests_per_s=allowed_rate(profile, load),
            ramp=max(profile.ramp, load.ramp or 0.0),
            transfer=profile.transfer,
        )

    def within(self, most_bytes: int | None) -> Limits:
        """With no request longer than `most_bytes`, as far as that can be said before it is made."""
        if most_bytes is None:
            return self
        items, nodes = max(1, most_bytes // _ITEM_BYTES), max(1, most_bytes // _NODE_BYTES)
        return replace(
            self,
            items_per_call=min(self.items_per_call, items),
            nodes_per_read=min(self.nodes_per_read, nodes),
            nodes_per_browse=min(self.nodes_per_browse, nodes),
            nodes_per_history=min(self.nodes_per_history, nodes),
        )


def allowed_rate(profile: Profile, load: LoadConfig) -> float | None:
    """Requests per second, before the server has said anything: none of its nodes bounds them."""
    if "requests_per_s" in profile.cautious and load.requests_per_s is not None:
        return load.requests_per_s
    return _least(profile.requests_per_s, load.requests_per_s)


def _least(*bounds: T | None) -> T | None:
    return min((bound for bound in bounds if bound is not None), default=None)
