"""What is asked of a server: within its limits, nothing silently left out, and in an order that decodes fast."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.opcua.acquiring.plan import Plan, make_plan, requests_per_s
from adapters.opcua.config import OpcUaDeviceConfig
from adapters.opcua.decoding import layouts
from adapters.opcua.session.limits import Limits
from gateway.contract.quantities import Deadband, parse_duration

UNBOUNDED = Limits(queue=10**6)


def planned(
    points: Iterable[Mapping[str, Any]], limits: Limits = UNBOUNDED, types: Mapping[int, int] | None = None, **keys: Any
) -> Plan:
    """A plan for points 0, 1, ... of a device file."""
    config = OpcUaDeviceConfig.model_validate(
        {
            "device": "reactor",
            "adapter": "opcua",
            "connection": {"url": "opc.tcp://h:4840"},
            "points": [{"point": f"p{i}", "node": f"ns=2;s=p{i}", **point} for i, point in enumerate(points)],
            **keys,
        }
    )
    return make_plan(config, dict(enumerate(config.points)), limits, types)


def shape(plan: Plan) -> list[tuple[float, list[int]]]:
    return [(each.publishing, [item.point for item in each.items]) for each in plan.subscriptions]


def digests(plan: Plan) -> list[str]:
    return [each.digest for each in plan.subscriptions]


def test_one_subscription_of_one_interval_needs_no_remark() -> None:
    plan = planned([{}, {}])
    assert shape(plan) == [(0.5, [0, 1])]
    item = plan.subscriptions[0].items[1]
    assert item == (1, 1.0, 31, "oldest", "value", None)
    assert (plan.remarks, plan.left_out, plan.polls) == ((), (), ())


def test_points_go_by_publishing_interval_each_with_what_it_says_itself() -> None:
    own = {"sampling": "100ms", "publishing": "2s", "queue": "1s", "discard": "newest", "deadband": "1%"}
    plan = planned([own, {}, {"publishing": "2s"}], subscribe={"deadband": 0.5})
    assert shape(plan) == [(0.5, [1]), (2.0, [0, 2])]
    # The queue holds what is sampled between two notifications, even where less was asked for.
    assert plan.subscriptions[1].items[0] == (0, 0.1, 21, "newest", "value", Deadband(1.0, True))
    assert plan.subscriptions[1].items[1].deadband == Deadband(0.5, False)


def test_of_trigger_and_deadband_the_points_own_goes_before_that_of_all() -> None:
    found = planned([{"trigger": "timestamp"}, {}], subscribe={"deadband": 1}).subscriptions[0].items
    assert [(item.trigger, item.deadband) for item in found] == [("timestamp", None), ("value", Deadband(1, False))]
    found = planned([{"deadband": 1}, {}], subscribe={"trigger": "status"}).subscriptions[0].items
    assert [(item.trigger, item.deadband) for item in found] == [("value", Deadband(1, False)), ("status", None)]


def test_no_point_is_sampled_faster_than_allowed_and_the_log_says_so() -> None:
    plan = planned([{"sampling": "50ms"}, {}], Limits(min_sampling=0.25))
    assert [item.sampling for item in plan.subscriptions[0].items] == [0.25, 1.0]
    assert [item.queue for item in plan.subscriptions[0].items] == [121, 31]
    assert len(plan.remarks) == 1
    assert "1 point, for example p0, is sampled every 0.25 s" in plan.remarks[0]


def test_a_queue_that_the_server_does_not_have_is_not_asked_for() -> None:
    plan = planned([{}, {"sampling": "100ms"}], Limits(queue=20))
    assert [item.queue for item in plan.subscriptions[0].items] == [20, 20]
    assert "p1 bridges an outage of 2 s and not of 30 s" in plan.remarks[0]


def test_publishing_faster_than_the_server_can_is_not_asked_for() -> None:
    plan = planned([{}, {"publishing": "100ms"}, {"publishing": "1s"}], Limits(min_publishing=0.5))
    assert shape(plan) == [(0.5, [0, 1]), (1.0, [2])]
    assert "p1, is sent every 0.5 s and not every 0.1 s" in plan.remarks[0]


def test_items_beyond_what_the_server_bears_are_named() -> None:
    plan = planned([{}] * 5, Limits(items=3))
    assert plan.items == 3
    assert plan.left_out == (3, 4)
    assert "2 of 5 points are not subscribed to, from p3 on" in plan.remarks[0]
    both = planned([{}] * 5, Limits(subscriptions=2, items_per_subscription=2))
    assert (both.items, both.left_out) == (4, (4,))


def test_polled_points_are_no_items() -> None:
    points = [{"poll": "5s"}, {}, {"poll": "never"}, {"poll": "1s"}]
    plan = planned(points, Limits(items=1))
    assert shape(plan) == [(0.5, [1])]
    assert plan.left_out == (2,)
    assert [(each.every, each.points) for each in plan.polls] == [(1.0, (3,)), (5.0, (0,))]
    everything = planned(points, poll="2s")
    assert [(each.every, each.points) for each in everything.polls] == [(1.0, (3,)), (2.0, (1,)), (5.0, (0,))]
    assert shape(everything) == [(0.5, [2])]


def test_polling_faster_than_the_least_sampling_is_slowed() -> None:
    plan = planned([{"poll": "100ms"}], Limits(min_sampling=1.0))
    assert [each.every for each in plan.polls] == [1.0]
    assert "p0, is read every 1 s" in plan.remarks[0]


def test_with_too_few_subscriptions_the_slow_ones_join_the_faster() -> None:
    intervals = [{"publishing": f"{s}s"} for s in (1, 2, 5, 10)]
    plan = planned(intervals, Limits(subscriptions=2))
    assert shape(plan) == [(1.0, [0]), (2.0, [1, 2, 3])]
    assert "2 points with a publishing interval of 5 s, 10 s are sent more often" in plan.remarks[0]
    assert "only 2 subscriptions" in plan.remarks[0]
    assert shape(planned(intervals, Limits(subscriptions=1))) == [(1.0, [0, 1, 2, 3])]


def test_a_join_that_saves_nothing_is_not_made_while_another_does() -> None:
    # 2 + 2 + 1 items, two a subscription: only the last two intervals are of use to each other with the first one.
    points = [{"publishing": "1s"}] * 3 + [{"publishing": "2s"}] + [{"publishing": "5s"}] * 2
    plan = planned(points, Limits(subscriptions=3, items_per_subscription=2))
    assert shape(plan) == [(1.0, [0, 1]), (1.0, [2, 3]), (5.0, [4, 5])]


def test_too_many_items_for_one_subscription_are_split_evenly() -> None:
    plan = planned([{}] * 7, Limits(items_per_subscription=3))
    assert [len(each.items) for each in plan.subscriptions] == [2, 2, 3]


def test_intervals_are_stretched_where_the_requests_would_be_too_many() -> None:
    points = [{"publishing": "100ms"}, {"poll": "100ms"}]
    plan = planned(points, Limits(requests_per_s=5))
    assert (plan.subscriptions[0].publishing, plan.polls[0].every) == pytest.approx((0.4, 0.4))
    assert "4.0 times as long" in plan.remarks[0]


def test_points_of_a_type_stand_together_and_unknown_ones_last() -> None:
    types = {0: layouts.DOUBLE, 1: layouts.INT32, 2: layouts.DOUBLE, 4: layouts.INT32}
    assert shape(planned([{}] * 5, types=types)) == [(0.5, [1, 4, 0, 2, 3])]
    polled = planned([{"poll": "1s"}] * 5, types=types)
    assert polled.polls[0].points == (1, 4, 0, 2, 3)


def test_types_change_the_order_and_nothing_else() -> None:
    points = [{"deadband": 1}, {}, {}, {}, {}]
    limits = Limits(items_per_subscription=2)
    plain, typed = planned(points, limits), planned(points, limits, {0: layouts.STRING, 1: layouts.BOOLEAN})
    assert digests(typed) == digests(plain)
    assert [set(members) for _, members in shape(plain)] == [set(members) for _, members in shape(typed)]


def test_a_deadband_is_taken_from_a_point_that_is_no_number() -> None:
    plan = planned([{}] * 3, types={0: layouts.STRING, 1: layouts.FLOAT}, subscribe={"deadband": 2})
    found = {item.point: item.deadband for item in plan.subscriptions[0].items}
    assert found == {0: None, 1: Deadband(2, False), 2: Deadband(2, False)}
    assert "1 point, for example p0, is sent at every change" in plan.remarks[0]


@pytest.mark.parametrize(
    "change",
    [
        {"sampling": "2s"},
        {"queue": "5s"},
        {"discard": "newest"},
        {"trigger": "timestamp"},
        {"node": "ns=3;s=p1"},
        {"deadband": 1},
        {"publishing": "1s"},
    ],
)
def test_the_digest_tells_another_plan_from_this_one(change: dict[str, Any]) -> None:
    assert digests(planned([{}, change])) != digests(planned([{}, {}]))
    assert digests(planned([{}, change])) == digests(planned([{}, change]))


durations = st.sampled_from(["50ms", "100ms", "500ms", "1s", "2s", "10s", "60s"])
_POINTS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "publishing": durations,
            "sampling": durations,
            "queue": durations,
            "poll": st.just("never"),
        },
    )
    | st.fixed_dictionaries({"poll": durations}),
    min_size=1,
    max_size=60,
)
bound = st.none() | st.integers(1, 40)
_LIMITS = st.builds(
    Limits,
    nodes_per_read=st.integers(1, 20),
    subscriptions=bound,
    items=bound,
    items_per_subscription=bound,
    queue=st.integers(1, 1000),
    min_sampling=st.sampled_from([0.0, 0.1, 1.0]),
    min_publishing=st.sampled_from([0.0, 0.2, 3.0]),
    requests_per_s=st.sampled_from([None, 1.0, 20.0, 1000.0]),
)


@given(_POINTS, _LIMITS, st.none() | durations, st.dictionaries(st.integers(0, 60), st.integers(1, 12)))
def test_every_point_has_one_place_and_every_limit_holds(
    points: list[dict[str, Any]], limits: Limits, poll: str | None, types: dict[int, int]
) -> None:
    keys = {} if poll is None else {"poll": poll}
    if poll is not None:
        points = [point if point.keys() <= {"poll"} else {**point, "poll": "never"} for point in points]
    plan = planned(points, limits, types, **keys)
    subscribed = [index for _, members in shape(plan) for index in members]
    polled = [index for group in plan.polls for index in group.points]
    assert sorted([*subscribed, *polled, *plan.left_out]) == list(range(len(points)))
    assert len(plan.subscriptions) <= (limits.subscriptions or math.inf)
    assert len(subscribed) <= (limits.items or math.inf)
    for each in plan.subscriptions:
        assert 0 < len(each.items) <= (limits.items_per_subscription or math.inf)
        assert each.publishing >= limits.min_publishing
        for item in each.items:
            assert item.sampling >= limits.min_sampling
            assert 1 <= item.queue <= limits.queue
            wished = parse_duration(points[item.point].get("queue", "30s"))
            assert plan.remarks or item.queue * item.sampling >= max(wished, each.publishing)
        known = [types[item.point] for item in each.items if item.point in types]
        assert [kind for kind, _ in itertools.groupby(known)] == sorted(set(known))
    for group in plan.polls:
        assert group.every >= limits.min_sampling
    reads: dict[float, int] = {}
    for group in plan.polls:
        reads[group.every] = math.ceil(len(group.points) / limits.nodes_per_read)
    wanted = sum(1 / each.publishing for each in plan.subscriptions) + requests_per_s({}, reads)
    assert wanted <= (limits.requests_per_s or math.inf) * 1.0001
    if plan.left_out:
        room = min(
            limits.items or math.inf, (limits.subscriptions or math.inf) * (limits.items_per_subscription or math.inf)
        )
        assert len(subscribed) == room, "a point is left out although there is room"
        assert max(subscribed) < min(plan.left_out)
    unbounded = planned(points, UNBOUNDED, types, **keys)
    same = (plan.polls, essence(plan)) == (unbounded.polls, essence(unbounded))
    assert same or plan.remarks, "the plan differs from the wish and says nothing"


def essence(plan: Plan) -> dict[int, tuple[float, float]]:
    """What differs where a wish is not granted: by point how often it is sent and sampled."""
    return {item.point: (each.publishing, item.sampling) for each in plan.subscriptions for item in each.items}
