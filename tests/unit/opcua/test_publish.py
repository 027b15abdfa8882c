"""Publishing against a scripted server: jumps in the sequence, faults, silence, back-pressure, siblings."""

from __future__ import annotations

import asyncio
import struct

import pytest

from adapters.opcua.acquiring.progress import Made, Progress
from adapters.opcua.acquiring.publish import MOST_OUTSTANDING
from adapters.opcua.acquiring.receiver import Stalled, SubscriptionEnded
from gateway.contract import LinkLost, Origin, Refused
from tests.support.opcua_scripted import (
    OUTSTANDING,
    SUBSCRIPTION,
    Rig,
    ScriptedServer,
    Sink,
    cause,
    ended,
    fault,
    made,
    one,
    published,
    publishing,
    republished,
)
from tests.support.wait import eventually


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


@pytest.fixture
def sink() -> Sink:
    return Sink()


async def test_offers_in_order_and_acknowledges(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink):
        for sequence in range(1, 5):
            server.answer(published(sequence, float(sequence)))
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        server.answer(published(5, 5.0))
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        assert sink.values == [1.0, 2.0, 3.0, 4.0, 5.0]
        assert sink.origins[2] == Origin("urn:server", SUBSCRIPTION, 3)
        assert sink.onlines == 5
        server.answer(published(6))
        await eventually(lambda: sorted(server.acknowledged) == [1, 2, 3, 4, 5])
        assert sink.gaps == []


async def test_a_jump_is_filled_by_republish(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink):
        server.kept = {2: republished(2, 2.0), 3: republished(3, 3.0)}
        server.answer(published(1, 1.0))
        server.answer(published(4, 4.0))
        await eventually(lambda: len(sink.values) == 4)
        assert sink.values == [1.0, 2.0, 3.0, 4.0]
        assert server.republished == [2, 3]
        assert sink.gaps == []


async def test_a_jump_that_the_server_cannot_fill_is_a_gap(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink):
        server.kept = {3: republished(3, 3.0)}
        server.answer(published(1, 1.0))
        server.answer(published(4, 4.0))
        await eventually(lambda: len(sink.values) == 3)
        (gap,) = sink.gaps
        assert (gap.points, gap.reason) == ((), "sequence-gap")
        assert gap.start <= gap.end


async def test_a_keep_alive_reveals_a_loss(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink):
        server.answer(published(1, 1.0))
        server.answer(published(3))
        await eventually(lambda: sink.gaps)
        server.answer(published(3, 3.0))
        await eventually(lambda: sink.values == [1.0, 3.0])
        assert len(sink.gaps) == 1


async def test_a_repetition_is_acknowledged_and_not_offered(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink):
        for sequence in (1, 2, 2, 1):
            server.answer(published(sequence, float(sequence)))
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        server.answer(published(3))
        await eventually(lambda: set(server.acknowledged) == {1, 2})
        assert sink.values == [1.0, 2.0]


async def test_a_new_connection_fetches_what_was_sent_and_not_received(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink) as first:
        server.answer(published(1, 1.0))
        await eventually(lambda: sink.values == [1.0])
        for future in server.waiting:
            future.set_exception(ConnectionError("connection lost"))
        server.waiting.clear()
        await eventually(first.task.done)
    server.kept = {2: republished(2, 2.0), 3: republished(3, 3.0)}
    async with publishing(Rig(server, sink)) as second:
        receiver = second.receiver(made(), first.receivers[0].progress)
        assert await receiver.resume()
        assert server.republished == [2, 3, 4]
        second.add(receiver)
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        server.answer(published(4, 3.0))  # under a new number, what has been fetched under the old one
        server.answer(published(5, 5.0))
        await eventually(lambda: sink.values == [1.0, 2.0, 3.0, 5.0])
        server.answer(published(6))
        await eventually(lambda: set(server.acknowledged) >= {1, 2, 3, 4, 5})
    assert sink.gaps == []


async def test_a_first_notification_that_was_lost_with_its_connection_is_a_gap(
    server: ScriptedServer, sink: Sink
) -> None:
    """The subscription's first one, of which nobody has seen a number, and which the server does not keep."""
    async with publishing(Rig(server, sink)) as rig:
        receiver = rig.receiver(made())
        assert await receiver.resume()
        rig.add(receiver)
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        server.answer(published(2, 2.0, available=(2,)))
        await eventually(lambda: sink.values == [2.0])
        assert [gap.reason for gap in sink.gaps] == ["sequence-gap"]
        assert rig.settled == [False]


async def test_a_new_process_takes_nothing_twice_that_the_log_has(server: ScriptedServer, sink: Sink) -> None:
    """Numbers 1 to 3 are in the log; the server keeps 2 to 4, and sends what 3 held once more as 5."""
    server.kept = {3: republished(3, 3.0), 4: republished(4, 3.0)}
    async with publishing(Rig(server, sink)) as rig:
        progress = Progress(made(), rig.now(), expected=4)
        progress.in_log((2, 3, 4))
        receiver = rig.receiver(made(), progress)
        await receiver.recall(3)
        assert await receiver.resume()
        assert server.republished == [3, 4, 5]
        rig.add(receiver)
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        assert set(server.acknowledged) == {2, 3, 4}
        server.answer(published(5, 5.0))
        await eventually(lambda: sink.values == [5.0])
    assert sink.gaps == []


async def test_a_subscription_that_the_server_forgot(server: ScriptedServer, sink: Sink) -> None:
    server.unknown = fault(0x80280000)
    rig = Rig(server, sink)
    assert not await rig.receiver(made()).resume()


async def test_what_cannot_be_decoded_is_a_gap_and_not_the_end(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink) as rig:
        server.answer(published(1, 1.0))
        broken = published(2, 2.0)
        at = broken.index(struct.pack("<Bd", 11, 2.0)) - 1
        server.answer(broken[:at] + b"\xff" + broken[at + 1 :])
        server.answer(published(3, 3.0))
        await eventually(lambda: sink.values == [1.0, 3.0])
        assert [gap.reason for gap in sink.gaps] == ["undecodable"]
        assert not rig.task.done()
        server.answer(published(4))
        await eventually(lambda: 2 in server.acknowledged)


async def test_an_unreadable_answer_is_a_lost_link(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink) as rig:
        server.answer(published(1, 1.0)[:-1])
        await eventually(rig.task.done)
        assert isinstance(cause(rig.task), LinkLost)
        assert "cannot be read" in str(cause(rig.task))


async def test_a_server_that_says_nothing_at_all_has_stalled(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink, keep_alive_s=0.02, timeout=0.05) as rig:
        await eventually(rig.watches[0].done)
        assert isinstance(cause(rig.watches[0]), Stalled)
        assert "silent" in str(cause(rig.watches[0]))


async def test_a_subscription_that_is_silent_beside_another_ends_alone(server: ScriptedServer, sink: Sink) -> None:
    async with publishing(Rig(server, sink, timeout=0.1)) as rig:
        silent = rig.add(rig.receiver(made(0.1, id=1)))
        alive = rig.add(rig.receiver(made(0.1, id=2)))
        sequence = 0

        def talking() -> bool:
            nonlocal sequence
            if server.waiting:
                sequence += 1
                server.answer(published(sequence, 1.0, 2))
            return silent.done()

        await eventually(talking)
        assert type(cause(silent)) is SubscriptionEnded
        assert not alive.done()
        assert not rig.task.done()


async def test_each_answer_goes_to_its_subscription(server: ScriptedServer, sink: Sink) -> None:
    async with publishing(Rig(server, sink)) as rig:
        for id in (1, 2, 3):
            rig.add(rig.receiver(made(id=id)))
        await eventually(lambda: len(server.waiting) == OUTSTANDING + 2)
        server.kept = {2: republished(2, 2.5)}
        for sequence, subscription in ((1, 1), (1, 2), (3, 2), (2, 1), (1, 3)):
            server.answer(published(sequence, sequence + subscription / 10, subscription))
        await eventually(lambda: len(sink.values) == 6)
        assert sink.values == [1.1, 1.2, 2.5, 3.2, 2.1, 1.3]
        assert sink.origins[2] == Origin("urn:server", 2, 2)
        assert sink.gaps == []
        server.answer(published(2, None, 3))
        wanted = {(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 1)}
        await eventually(lambda: set(server.acknowledgements) == wanted)
        assert len(server.acknowledgements) == len(wanted), "on whichever request is sent next, once"


async def test_a_subscription_that_the_server_ends_takes_no_other_with_it(server: ScriptedServer, sink: Sink) -> None:
    async with publishing(Rig(server, sink)) as rig:
        gone, alive = (rig.add(rig.receiver(made(id=id))) for id in (1, 2))
        await eventually(lambda: len(server.waiting) == OUTSTANDING + 1)
        server.answer(ended(1, 0x800A0000, 1))
        await eventually(gone.done)
        assert isinstance(cause(gone), SubscriptionEnded)
        rig.loop.remove(rig.receivers[0])
        server.answer(published(1, 7.0, 1))
        server.answer(published(1, 1.0, 2))
        await eventually(lambda: sink.values == [1.0])
        assert not alive.done()
        assert not rig.task.done()


async def test_a_subscription_that_another_session_has_is_not_lost(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink) as rig:
        server.answer(ended(77, 0x002D0000))
        await eventually(rig.task.done)
        assert "another session" in str(cause(rig.task))
        assert rig.receivers[0].progress.watch.expected == 1, "the number is none of the subscription's"
        assert not rig.watches[0].done()


async def test_no_subscription_left_ends_those_that_the_server_knew_of(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink) as rig:
        newer = rig.add(rig.receiver(made(id=10)))
        server.answer(fault(0x80790000))
        await eventually(rig.watches[0].done)
        assert isinstance(cause(rig.watches[0]), SubscriptionEnded)
        assert not newer.done(), "it came after the request that was answered"
        assert not rig.task.done()


@pytest.mark.parametrize(("code", "error"), [(0x80250000, LinkLost), (0x801F0000, Refused)])
async def test_faults_end_the_connection(server: ScriptedServer, sink: Sink, code: int, error: type[Exception]) -> None:
    async with one(server, sink) as rig:
        server.answer(fault(code))
        await eventually(rig.task.done)
        assert isinstance(cause(rig.task), error)


async def test_too_many_requests_means_fewer(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink) as rig:
        server.answer(fault(0x80780000))
        server.answer(published(1, 1.0))
        await eventually(lambda: sink.values == [1.0])
        await eventually(lambda: len(server.waiting) == OUTSTANDING - 1)
        assert rig.loop.wanted == OUTSTANDING - 1
        rig.add(rig.receiver(made(id=10)))
        assert len(server.waiting) == OUTSTANDING - 1, "nor for another subscription"
        assert not rig.task.done()


@pytest.mark.parametrize(
    ("commit_s", "publishing_s", "subscriptions", "requests"),
    [(0.2, 0.5, 1, 3), (0.2, 0.1, 1, 4), (2.0, 0.5, 3, 8), (2.0, 0.1, 1, 22), (10.0, 0.1, 5, MOST_OUTSTANDING)],
)
async def test_as_many_requests_as_a_commit_takes(
    server: ScriptedServer, sink: Sink, commit_s: float, publishing_s: float, subscriptions: int, requests: int
) -> None:
    sink.commit_s = commit_s
    async with publishing(Rig(server, sink)) as rig:
        for id in range(subscriptions):
            rig.add(rig.receiver(made(id=id, publishing_s=publishing_s * (1 + id))))
        await eventually(lambda: len(server.waiting) == requests)


async def test_a_request_that_waited_too_long_is_sent_again(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink) as rig:
        server.answer(fault(0x800A0000))
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        assert not rig.task.done()


async def test_a_server_to_which_every_request_has_waited_too_long_is_left(server: ScriptedServer, sink: Sink) -> None:
    """It answers, so it is not silent; with a small budget there is hardly ever a request of ours at the server."""
    async with one(server, sink) as rig:

        def ended() -> bool:
            while server.waiting:
                server.answer(fault(0x800A0000))
            return rig.task.done()

        await eventually(ended)
        assert "BadTimeout" in str(cause(rig.task))


async def test_what_was_acknowledged_with_a_request_that_is_refused_is_acknowledged_again(
    server: ScriptedServer, sink: Sink
) -> None:
    async with one(server, sink):
        server.answer(published(1, 1.0))
        await eventually(lambda: sink.values == [1.0])

        def acknowledged() -> bool:
            if not server.acknowledged and server.waiting:
                server.answer(published(2))
            return server.acknowledged == [1]

        await eventually(acknowledged)
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        for _ in range(OUTSTANDING):
            server.answer(fault(0x800A0000))
        await eventually(lambda: server.acknowledged == [1, 1])


async def test_a_server_that_numbers_anew_loses_its_subscription_and_no_reading_in_silence(
    server: ScriptedServer, sink: Sink
) -> None:
    """As after a change of the server behind an address. What it sends would pass for a repetition for hours."""
    async with publishing(Rig(server, sink)) as rig:
        watch = rig.add(rig.receiver(made(), Progress(made(), rig.now(), expected=1000)))
        for sequence in (1000, 1001, 1002):
            await eventually(lambda: len(server.waiting) == OUTSTANDING)
            server.answer(published(sequence, float(sequence), available=(sequence,)))

        def acknowledged() -> bool:
            if len(server.waiting) == OUTSTANDING:
                server.answer(published(1003, None, available=()))
            return len(server.acknowledged) >= 3

        await eventually(acknowledged)
        for _ in range(OUTSTANDING):  # the requests that carried the acknowledgements are answered
            await eventually(lambda: len(server.waiting) == OUTSTANDING)
            server.answer(published(1003, None, available=()))
        server.answer(published(1, 1.0, available=(1,)))
        await eventually(watch.done)
        assert "numbers its notifications anew, from 1 on" in str(cause(watch))
        assert not rig.task.done()


async def test_a_server_that_has_something_for_every_number_is_not_asked_for_ever(
    server: ScriptedServer, sink: Sink
) -> None:
    class Everything(dict[int, bytes]):
        def get(self, sequence: int, _: object = None) -> bytes:  # type: ignore[override]
            return republished(sequence, float(sequence))

    server.kept = Everything()
    short = Made(SUBSCRIPTION, 0.5, 5.0, 30.0)
    async with publishing(Rig(server, sink)) as rig:
        assert await rig.receiver(short).resume()
    assert len(server.republished) == 30 / 0.5 + 64
    assert sink.values == [float(sequence) for sequence in server.republished]


async def test_another_subscription_is_none_of_ours(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink):
        server.answer(published(1, 1.0, subscription=SUBSCRIPTION + 1))
        server.answer(published(1, 2.0))
        await eventually(lambda: sink.values == [2.0])


async def test_a_subscription_that_nobody_knows_is_deleted_and_one_message_is_no_proof(
    server: ScriptedServer, sink: Sink
) -> None:
    """Its making was cut off before the answer came; one that has just been deleted may send once more."""
    async with one(server, sink):
        for orphan in (30, 31, 31, 31):
            await eventually(lambda: len(server.waiting) == OUTSTANDING)
            server.answer(published(1, None, subscription=orphan))
        await eventually(lambda: server.deleted == [31])
        server.answer(published(1, 1.0))
        await eventually(lambda: sink.values == [1.0])
        assert server.deleted == [31]


async def test_a_server_that_makes_up_subscriptions_fills_no_memory(server: ScriptedServer, sink: Sink) -> None:
    """Of those that nobody knows 64 are remembered, the newest: 30 is forgotten before it comes again."""
    async with one(server, sink):
        for stranger in (30, *range(100, 165), 30, 400, 30):
            assert server.deleted == []
            await eventually(lambda: len(server.waiting) == OUTSTANDING)
            server.answer(published(1, None, subscription=stranger))
        await eventually(lambda: server.deleted == [30])


async def test_numbers_begin_anew_after_the_last_one(server: ScriptedServer, sink: Sink) -> None:
    last = 2**32 - 1
    async with publishing(Rig(server, sink)) as rig:
        rig.add(rig.receiver(made(), Progress(made(), rig.now(), expected=last - 1)))
        for sequence in (last - 1, last, 1, 2):
            await eventually(lambda: server.waiting)
            server.answer(published(sequence, float(sequence), available=()))
        await eventually(lambda: sink.values == [last - 1, last, 1, 2])

        def acknowledged() -> bool:
            if server.waiting:
                server.answer(published(3, None, available=()))  # for the next request to be sent
            return {last - 1, last, 1, 2} == set(server.acknowledged)

        await eventually(acknowledged)
    assert (server.republished, sink.gaps) == ([], [])


async def test_a_cut_connection(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink) as rig:
        server.waiting[0].set_exception(ConnectionError("connection lost"))
        await eventually(rig.task.done)
        assert "connection lost" in str(cause(rig.task))


async def test_a_sink_that_makes_us_wait_stops_the_requests(server: ScriptedServer, sink: Sink) -> None:
    """And it is us who are silent then, not the server."""
    async with one(server, sink, keep_alive_s=0.02, timeout=0.05) as rig:
        sink.room.clear()
        for sequence in range(1, OUTSTANDING + 1):
            server.answer(published(sequence, float(sequence)))
        await eventually(lambda: sink.blocked)
        loop = asyncio.get_running_loop()
        waited = loop.time() + 3 * rig.receivers[0].silence_s
        await eventually(lambda: loop.time() > waited)
        assert server.waiting == [], "no request while memory is spent"
        assert not rig.watches[0].done()
        sink.room.set()
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        assert sink.values == [1.0, 2.0, 3.0, 4.0]


async def test_requests_keep_to_the_budget_of_the_device(server: ScriptedServer, sink: Sink) -> None:
    async with publishing(Rig(server, sink, requests_per_s=20)) as rig:
        loop = asyncio.get_running_loop()
        started = loop.time()
        rig.add(rig.receiver(made()))
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        assert loop.time() - started > (OUTSTANDING - 1) / 20 * 0.95


async def test_copies_that_the_server_forgets_before_the_commit_are_counted_once(
    server: ScriptedServer, sink: Sink
) -> None:
    sink.commit.clear()
    async with one(server, sink) as rig:
        server.answer(published(1, 1.0, available=(1,)))
        server.answer(published(2, 2.0, available=(1, 2)))
        server.answer(published(3, 3.0, available=(2, 3)))
        server.answer(published(4, 4.0, available=(2, 3, 4)))
        await eventually(lambda: len(sink.values) == 4)
        assert rig.tally.lost_copies == 1
        sink.commit.set()
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        server.answer(published(5, 5.0, available=(5,)))
        await eventually(lambda: len(sink.values) == 5)
        assert rig.tally.lost_copies == 1, "what is committed may go"


async def test_what_was_queued_has_come_with_the_first_answer_that_says_so(server: ScriptedServer, sink: Sink) -> None:
    async with one(server, sink) as rig:
        server.answer(published(1, 1.0, more=True))
        server.answer(published(2, 2.0, more=True))
        await eventually(lambda: len(sink.values) == 2)
        assert rig.settled == []
        server.answer(published(3, 3.0))
        await eventually(lambda: rig.settled == [True])
        server.answer(published(4, 4.0))
        await eventually(lambda: len(sink.values) == 4)
        assert rig.settled == [True]


async def test_a_missing_number_means_that_not_all_has_come(server: ScriptedServer, sink: Sink) -> None:
    async with publishing(Rig(server, sink)) as rig:
        rig.add(rig.receiver(made(), Progress(made(), rig.now(), expected=5)))
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        server.answer(published(7, 7.0, more=True))
        await eventually(lambda: rig.settled == [False])
        assert [gap.reason for gap in sink.gaps] == ["sequence-gap"]
