"""After an outage: live first beside the backlog under the bandwidth cap, or all in order."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

from tests.support.broker import Mosquitto
from tests.support.destination import Plant, delivered, running
from tests.support.fakelog import readings
from tests.support.machine import Stalls
from tests.support.subscriber import Subscriber
from tests.support.wait import eventually

MAX_WAIT_S = 0.3
COMMIT_S = 0.2
"""of an SSD, the shorter default"""
BOUND_S = MAX_WAIT_S + 2 * COMMIT_S
"""of the delay of a live reading, in the time of our event loop; what the machine takes from the broker comes on top"""
BANDWIDTH = 100_000
MESSAGE = 16_000
"""bytes of the largest"""
BURST = BANDWIDTH // 2 + MESSAGE
"""half a second's worth may be saved up, and overdrawn by a message"""
BACKLOG = 6_000
READING = 90
"""bytes of one, at least"""
LEAST_LIVE = 5
"""a quiet machine has time for twenty before the backlog is nearly gone"""
WINDOW_S = 0.5


def rates(looks: list[tuple[float, int]]) -> list[float]:
    """Bytes per second from each look to the first one that is a window later."""
    found = []
    for at, sent in looks:
        later = [look for look in looks if look[0] - at >= WINDOW_S]
        found += [(later[0][1] - sent) / (later[0][0] - at)] if later else []
    return found


async def test_live_readings_keep_their_delay_while_the_backlog_drains_under_the_cap() -> None:
    plant = Plant()
    for k in range(BACKLOG // 100):
        plant.log.append(readings(100, start=k * 100))
    appended: dict[int, float] = {}
    arrived: dict[int, float] = {}
    stalls, loop = Stalls(), asyncio.get_running_loop()
    async with Mosquitto() as broker:
        with Subscriber(broker.port) as centre:

            def look() -> bool:
                seen = centre.offsets()
                now = loop.time()
                for n in appended:
                    if n in seen:
                        arrived.setdefault(n, now)
                return len(arrived) == len(appended)

            keys = {"bandwidth": f"{BANDWIDTH}B/s", "batch": {"max_wait": f"{MAX_WAIT_S}s", "max_bytes": f"{MESSAGE}B"}}
            async with running(plant.publisher(broker, **keys)) as publisher:
                await eventually(lambda: centre.of("readings/1"))
                start, since = publisher.statistics().nbytes, time.monotonic()
                while publisher.statistics().nbytes - start < 0.6 * BACKLOG * READING:
                    begun = loop.time()
                    end = BACKLOG + len(appended) * 10
                    appended[end] = begun
                    plant.log.append(readings(10, start=end))
                    while loop.time() - begun < COMMIT_S:
                        look()
                        await stalls.sleep(0.01)
                async with asyncio.timeout(20):
                    while not look():
                        await stalls.sleep(0.01)
                assert publisher.statistics().total.waiting > BACKLOG / 10, "the backlog was there all the time"
                assert len(appended) >= LEAST_LIVE
                delays = sorted(arrived[n] - appended[n] for n in appended)
                assert delays[-1] <= BOUND_S + stalls.worst_s(BOUND_S), delays
                total = BACKLOG + len(appended) * 10
                looks: list[tuple[float, int]] = []

                def done() -> bool:
                    looks.append((time.monotonic(), publisher.statistics().nbytes))
                    return delivered(publisher, total)

                await eventually(done, 60)
                assert looks[-1][1] - start <= BANDWIDTH * (looks[-1][0] - since) + BURST
                assert max(rates(looks)) > 0.6 * BANDWIDTH, "but while the machine holds the broker up"
            await eventually(lambda: set(centre.offsets()) == set(range(total)))


async def test_oldest_first_delivers_in_the_order_of_offsets() -> None:
    plant = Plant()
    for k in range(100):
        plant.log.append(readings(100, start=k * 100))
    async with Mosquitto() as broker:
        with Subscriber(broker.port) as centre:
            publisher = plant.publisher(broker, catch_up="oldest-first", bandwidth="500KB/s")
            async with running(publisher):
                await eventually(lambda: centre.of("readings/1"))
                for k in range(100, 110):
                    plant.log.append(readings(100, start=k * 100))
                assert not delivered(publisher, 11_000)
                await eventually(lambda: delivered(publisher, 11_000), 60)
            await eventually(lambda: centre.offsets() == dict.fromkeys(range(11_000), 1))
            messages = [message.document for message in centre.of("readings/1")]
            first = [message["n"] for message in messages]
            assert first == sorted(first)
            lanes = [message["lane"] for message in messages]
            assert lanes == sorted(lanes), "backlog, and then live"
            assert set(lanes) == {"backlog", "live"}
    assert publisher.statistics().total.unbalanced == 0


async def test_oldest_first_over_a_broken_connection_begins_at_the_oldest_again() -> None:
    plant = Plant()
    for k in range(100):
        plant.log.append(readings(100, start=k * 100))
    async with Mosquitto() as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker, catch_up="oldest-first", bandwidth="500KB/s")) as publisher:
                await eventually(lambda: publisher.statistics().total.delivered > 1000)
                centre.forget()
                broker.kill()
                for k in range(100, 110):
                    plant.log.append(readings(100, start=k * 100))
                broker.start()
                centre.resubscribed()
                await eventually(lambda: delivered(publisher, 11_000), 60)
            await eventually(lambda: 10_999 in centre.offsets())
            # What the killed broker had acknowledged and not passed on is lost with it: no set is expected here.
            first = [message.document["n"] for message in centre.of("readings/1")]
            back = [place for place, (before, after) in enumerate(pairwise(first), 1) if after < before]
            assert len(back) <= 1, "in order before the connection broke, and in order again from where it began anew"
            assert first.count(0) == 1, "not from the beginning"
    assert publisher.statistics().total.unbalanced == 0
