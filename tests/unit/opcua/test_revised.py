"""What the server made of the plan: said once, with the worst point by name, and how long an outage may last."""

from __future__ import annotations

import dataclasses

import pytest

from adapters.opcua.acquiring.plan import Plan, PlannedItem, PlannedSubscription
from adapters.opcua.acquiring.revised import Revised, RevisedItem
from adapters.opcua.config import OpcUaPointConfig

POINTS = {i: OpcUaPointConfig(point=f"p{i}", node=f"i={i + 1}") for i in range(4)}
FILTER_NOT_ALLOWED = 0x80450000


def asked(point: int) -> PlannedItem:
    return PlannedItem(point, 1.0, 31, "oldest", "value", None)


def plan_of(*subscriptions: tuple[int, ...], remarks: tuple[str, ...] = ()) -> Plan:
    planned = [PlannedSubscription(0.5, tuple(map(asked, each)), f"digest {each}") for each in subscriptions]
    return Plan(tuple(planned), (), (), remarks)


def created(revised: Revised, points: tuple[int, ...], **revision: tuple[float, int]) -> None:
    """A subscription's items are made, as asked for unless p0=(sampling, queue) says otherwise."""
    revised.begin(f"digest {points}")
    for point in points:
        revised.made(RevisedItem(asked(point), *revision.get(f"p{point}", (1.0, 31))))
    revised.finished(f"digest {points}")


@pytest.fixture
def revised(caplog: pytest.LogCaptureFixture) -> Revised:
    caplog.set_level("INFO")
    return Revised("opc.tcp://h:1", POINTS)


def test_as_asked_for_is_one_line_about_outages(revised: Revised, caplog: pytest.LogCaptureFixture) -> None:
    revised.start(plan_of((0, 1)))
    revised.subscription(600)
    created(revised, (0, 1))
    assert caplog.messages == [
        "opc.tcp://h:1: an outage of up to 31 s loses no reading: then the queue of p0 is full (31 samples, one every "
        "1 s)"
    ]
    assert revised.bridged == 31


def test_slower_and_shorter_name_the_worst_point(revised: Revised, caplog: pytest.LogCaptureFixture) -> None:
    revised.start(plan_of((0, 1, 2, 3)))
    created(revised, (0, 1, 2, 3), p1=(2.0, 31), p2=(5.0, 10), p3=(1.0, 4))
    line = caplog.messages[0]
    assert "samples 2 of 4 points slower than asked" in line
    assert "p2, every 5 s instead of 1 s" in line
    assert "the queues of 1 of 4 points hold less time than asked" in line
    assert "p3, 4 samples every 1 s or 4 s instead of 30 s" in line
    assert "up to 4 s" in caplog.messages[1]
    assert "the queue of p3" in caplog.messages[1]
    assert revised.bridged == 4
    assert revised.items[2].slower
    assert revised.items[2].queue == 10


def test_a_queue_is_also_short_when_samples_come_faster_than_asked(
    revised: Revised, caplog: pytest.LogCaptureFixture
) -> None:
    revised.start(plan_of((0, 1)))
    created(revised, (0, 1), p1=(0.1, 31))
    assert "p1, 31 samples every 0.1 s or 3.1 s instead of 30 s" in caplog.messages[0]
    assert revised.bridged == pytest.approx(3.1)


def test_a_short_lifetime_ends_what_a_long_queue_would_bridge(
    revised: Revised, caplog: pytest.LogCaptureFixture
) -> None:
    revised.start(plan_of((0,)))
    revised.subscription(10)
    created(revised, (0,))
    assert caplog.messages == [
        "opc.tcp://h:1: an outage of up to 10 s loses no reading: then the server deletes the subscription"
    ]
    assert revised.bridged == 10


def test_nothing_is_said_before_all_subscriptions_are_made(revised: Revised, caplog: pytest.LogCaptureFixture) -> None:
    revised.start(plan_of((0, 1), (2, 3)))
    created(revised, (0, 1), p1=(2.0, 31))
    assert caplog.messages == []
    assert revised.bridged is None
    created(revised, (2, 3))
    assert len(caplog.messages) == 2


def test_the_same_is_not_said_again_after_the_next_connection(
    revised: Revised, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_of((0, 1), remarks=("1 point is slow", "another is left out"))
    for _ in range(3):
        revised.start(plan)
        created(revised, (0, 1), p1=(2.0, 31))
    assert len(caplog.messages) == 3
    assert caplog.messages[0] == "opc.tcp://h:1: 1 point is slow; another is left out"
    revised.start(dataclasses.replace(plan, remarks=()))
    created(revised, (0, 1), p1=(4.0, 31))
    assert len(caplog.messages) == 4
    assert "every 4 s" in caplog.messages[3]


def test_a_subscription_that_was_taken_up_again_stays_known(revised: Revised) -> None:
    plan = plan_of((0,), (1,))
    revised.start(plan)
    created(revised, (0,), p0=(1.0, 5))
    created(revised, (1,))
    revised.start(plan)
    assert revised.bridged == 5
    created(revised, (1,))
    assert revised.bridged == 5
    revised.start(plan_of((1,)))
    assert revised.bridged == 31
    assert set(revised.items) == {1}


def test_items_of_a_process_before_bridge_what_it_wrote_down(
    revised: Revised, caplog: pytest.LogCaptureFixture
) -> None:
    before = Revised("opc.tcp://h:1", POINTS)
    before.start(plan_of((0,), (1,)))
    assert before.bridged_by("digest (0,)", [0], 600.0) is None
    created(before, (0,), p0=(1.0, 5))
    created(before, (1,), p1=(0.0, 5))
    assert (before.bridged_by("digest (0,)", [0], 600.0), before.bridged_by("digest (1,)", [1], 600.0)) == (5, 600)
    caplog.clear()
    revised.start(plan_of((0,), (1,)))
    revised.adopted("digest (0,)", before.bridged_by("digest (0,)", [0], 600.0))
    created(revised, (1,))
    assert revised.bridged == 5
    assert revised.bridged_by("digest (0,)", [0], 600.0) == 5
    assert caplog.messages == [
        "opc.tcp://h:1: an outage of up to 5 s loses no reading, as the gateway noted before it was restarted"
    ]
    created(revised, (0,))
    assert revised.bridged == 31


def test_items_of_a_process_that_wrote_nothing_down_bridge_nobody_knows_what(revised: Revised) -> None:
    revised.start(plan_of((0,), (1,)))
    revised.adopted("digest (0,)", None)
    created(revised, (1,))
    assert revised.bridged is None
    assert revised.bridged_by("digest (0,)", [0], 600.0) is None
    created(revised, (0,))
    assert revised.bridged == 31


def test_a_refused_filter_is_named_with_what_follows(revised: Revised, caplog: pytest.LogCaptureFixture) -> None:
    revised.start(plan_of((0, 1)))
    revised.refused_filter(1, FILTER_NOT_ALLOWED)
    created(revised, (0, 1))
    assert (
        "refuses the trigger or the deadband of 1 of 2 points, for example p1: BadFilterNotAllowed"
        in (caplog.messages[0])
    )
    assert "send every change" in caplog.messages[0]


def test_an_item_that_reports_changes_as_they_come_is_no_measure(revised: Revised) -> None:
    revised.start(plan_of((0, 1)))
    created(revised, (0, 1), p0=(0.0, 31))
    assert revised.bridged == 31
    revised.gone([1])
    assert revised.bridged is None
