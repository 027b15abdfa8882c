"""Which outages are told to be filled: those whose every reading came after all."""

from __future__ import annotations

from adapters.opcua.acquiring.bridge import Bridge
from gateway.contract import Filled, OpenGap
from tests.support.fake_sink import FakeSink

OUTAGE = OpenGap("a", 1000, "device-down")


def test_an_outage_is_filled_when_all_subscriptions_have_delivered() -> None:
    sink, bridge = FakeSink(), Bridge()
    bridge.begin(OUTAGE, [1, 2], ())
    bridge.settled(1, True)
    bridge.tell(sink, 2000)
    assert sink.fills == []
    bridge.settled(2, True)
    bridge.tell(sink, 3000)
    bridge.tell(sink, 4000)
    assert sink.fills == [Filled("a", 1000, 3000, None)]


def test_not_before_data_has_ended_it() -> None:
    sink, bridge = FakeSink(open=OUTAGE), Bridge()
    bridge.begin(OUTAGE, [1], ())
    bridge.settled(1, True)
    bridge.tell(sink, 2000)
    assert sink.fills == []
    sink.open = OpenGap("b", 2500, "device-down")
    bridge.tell(sink, 3000)
    assert sink.fills == [Filled("a", 1000, 3000, None)]


def test_not_when_a_part_never_came() -> None:
    sink, bridge = FakeSink(), Bridge()
    bridge.begin(OUTAGE, [1, 2], ())
    bridge.settled(1, False)
    bridge.settled(2, True)
    bridge.tell(sink, 2000)
    assert sink.fills == []


def test_not_when_a_subscription_was_lost() -> None:
    sink, bridge = FakeSink(), Bridge()
    bridge.begin(OUTAGE, [1], ())
    bridge.broken()
    bridge.tell(sink, 2000)
    assert sink.fills == []


def test_a_second_outage_before_the_first_is_known_to_be_bridged() -> None:
    sink, bridge = FakeSink(), Bridge()
    bridge.begin(OUTAGE, [1], (7, 8))
    bridge.begin(OpenGap("b", None, "device-down"), [1], (7, 8))
    bridge.settled(1, True)
    bridge.tell(sink, 3000)
    assert sink.fills == [Filled("a", 1000, 3000, None, (7, 8)), Filled("b", 3000, 3000, None, (7, 8))]


def test_nothing_to_tell_without_an_outage() -> None:
    sink, bridge = FakeSink(), Bridge()
    bridge.begin(None, [1], ())
    bridge.settled(1, True)
    bridge.tell(sink, 2000)
    assert sink.fills == []
