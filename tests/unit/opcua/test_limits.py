"""What may be asked of a server: the strictest of three, and nothing out of thin air."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from asyncua.ua.object_ids import ObjectIdNames
from hypothesis import given
from hypothesis import strategies as st

from adapters.opcua.config import LoadConfig
from adapters.opcua.profiles import PROFILES, Profile
from adapters.opcua.session.limits import OWN_PER_CALL, OWN_QUEUE, Limits, ServerSays

MAKE = Profile("make", "a make of server", "a source")


def test_the_node_ids_are_those_of_the_standard() -> None:
    names = {
        "items_per_call": "OperationLimits_MaxMonitoredItemsPerCall",
        "nodes_per_read": "OperationLimits_MaxNodesPerRead",
        "nodes_per_browse": "OperationLimits_MaxNodesPerBrowse",
        "nodes_per_history": "OperationLimits_MaxNodesPerHistoryReadData",
        "subscriptions": "MaxSubscriptions",
        "subscriptions_per_session": "MaxSubscriptionsPerSession",
        "items": "MaxMonitoredItems",
        "items_per_subscription": "MaxMonitoredItemsPerSubscription",
        "queue": "MaxMonitoredItemsQueueSize",
        "min_sampling": "MinSupportedSampleRate",
    }
    found = {name: ObjectIdNames[node] for name, node in ServerSays.NODES.items()}
    assert found == {name: f"Server_ServerCapabilities_{text}" for name, text in names.items()}


@pytest.mark.parametrize("value", [None, 0, 0.0, -1, float("nan"), float("inf"), True, "100", [1]])
def test_a_value_that_is_no_bound_bounds_nothing(value: object) -> None:
    assert ServerSays.of(dict.fromkeys(ServerSays.NODES.values(), value)) == ServerSays()
    assert ServerSays.of({}) == ServerSays()


def test_a_server_says_what_it_bears() -> None:
    says = ServerSays.of({11714: 500, 11705: 200, 24098: 3, 24096: 7, 2272: 250.0, 31916: 10})
    limits = Limits.of(says, MAKE, LoadConfig())
    assert (limits.items_per_call, limits.nodes_per_read, limits.subscriptions) == (500, 200, 3)
    assert (limits.min_sampling, limits.queue) == (0.25, 10)
    assert limits.items is limits.requests_per_s is None


def test_without_any_bound_requests_are_still_of_usual_size() -> None:
    limits = Limits.of(ServerSays(), MAKE, LoadConfig())
    assert limits == Limits()
    assert limits.items_per_call == limits.nodes_per_history == OWN_PER_CALL
    assert limits.queue == OWN_QUEUE


def test_the_default_profile_is_caution_that_the_device_file_may_lift_and_a_make_is_not() -> None:
    load = LoadConfig(requests_per_s=500)
    assert Limits.of(ServerSays(), PROFILES["default"], LoadConfig()).requests_per_s == 100
    assert Limits.of(ServerSays(), PROFILES["default"], load).requests_per_s == 500
    assert Limits.of(ServerSays(), PROFILES["beckhoff"], load).requests_per_s == 500, "nothing is known of its rate"
    assert Limits.of(ServerSays(), dataclasses.replace(MAKE, requests_per_s=10), load).requests_per_s == 10


count = st.none() | st.integers(1, 10**6)
seconds = st.none() | st.floats(0.001, 100)
_PROFILES = st.builds(
    Profile,
    st.just("make"),
    st.just(""),
    st.just(""),
    requests_per_s=seconds,
    items=count,
    items_per_subscription=count,
    items_per_call=count,
    nodes_per_read=count,
    nodes_per_browse=count,
    nodes_per_history=count,
    subscriptions=count,
    min_sampling=seconds,
    min_publishing=seconds,
    queue=count,
    ramp=st.floats(0, 100),
)
_SAYS = st.builds(ServerSays, *[count] * 9, min_sampling=seconds)
_LOADS = st.builds(LoadConfig.model_construct, requests_per_s=seconds, items=count, min_sampling=seconds, ramp=seconds)


@given(_SAYS, _PROFILES, _LOADS)
def test_the_strictest_of_three_holds(says: ServerSays, profile: Profile, load: LoadConfig) -> None:
    limits = Limits.of(says, profile, load)

    def bounds(*names: str) -> list[Any]:
        given = [getattr(each, name, None) for each in (says, profile, load) for name in names]
        return [bound for bound in given if bound is not None]

    for name in ("items", "items_per_subscription", "requests_per_s"):
        assert getattr(limits, name) == min(bounds(name), default=None)
    assert limits.subscriptions == min(bounds("subscriptions", "subscriptions_per_session"), default=None)
    for name in ("items_per_call", "nodes_per_read", "nodes_per_browse", "nodes_per_history"):
        assert getattr(limits, name) == min([*bounds(name), OWN_PER_CALL])
    assert limits.queue == min([*bounds("queue"), OWN_QUEUE])
    for name in ("min_sampling", "min_publishing", "ramp"):
        assert getattr(limits, name) == max(bounds(name), default=0)


def test_a_request_is_no_longer_than_the_server_bears() -> None:
    bounded = Limits(nodes_per_read=50).within(65_536)
    assert (bounded.items_per_call, bounded.nodes_per_read) == (256, 50)
    assert bounded.nodes_per_browse == bounded.nodes_per_history == 409
    assert Limits().within(100).items_per_call == 1
    assert Limits().within(None) == Limits()
