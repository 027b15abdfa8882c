"""Counts what arrives over an outage of the broker, value by value, and comes back when the broker does.

    python -m benchmarks.receive.outage --port 1883 --items 100 --reader benchmarks.receive.ticks:readings

The broker keeps what it has for this subscriber, so that nothing is lost between the two. Commands on standard input:
`newest` (tick), `mark TICK` (from now on wait for the first message with a later tick), `marked` (monotonic seconds of
it, or null), `account FIRST LAST PERIOD_NS` (ticks).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import orjson

from benchmarks.receive import arrivals
from benchmarks.receive.mqtt import Message, Subscriber
from benchmarks.receive.ticks import Reader, Ticks, reader_of
from benchmarks.rig import control

KEEP_S = 3600
AGAIN_S = 0.01


class Returning:
    """A subscriber that comes back; see `Subscriber`."""

    def __init__(self, port: int, topic: str) -> None:
        self._port, self._topic = port, topic

    def messages(self, wait_s: float) -> Iterator[Message | None]:
        """See `Subscriber.messages`; None also while the broker is away."""
        while True:
            try:
                subscriber = Subscriber("127.0.0.1", self._port, self._topic, keep_s=KEEP_S)
                try:
                    yield from subscriber.messages(wait_s)
                finally:
                    subscriber.close()
            except OSError:
                time.sleep(AGAIN_S)
                yield None


class Account:
    """What came, and the first of it after a mark."""

    def __init__(self, items: int, reader: Reader) -> None:
        self._ticks = Ticks(items)
        self._reader = reader
        self._mark: int | None = None
        self._marked: float | None = None

    def take(self, message: Message) -> None:
        """Account for one message."""
        arrival = time.monotonic()
        if message.topic.endswith("/events"):
            self._ticks.told(orjson.loads(message.payload))
            return
        found = self._reader(message.topic, bytes(message.payload))
        if found is None:
            return
        highest = self._ticks.take(found)
        if self._mark is not None and highest > self._mark:
            self._mark, self._marked = None, arrival

    def commands(self) -> control.Commands:
        """See the module's text."""
        return {
            "newest": lambda: self._ticks.newest,
            "mark": self._wait_beyond,
            "marked": lambda: self._marked,
            "account": self._account,
        }

    def _wait_beyond(self, tick: float) -> dict[str, float]:
        self._mark, self._marked = int(tick), None
        return {"mark": tick}

    def _account(self, first: float, last: float, period_ns: float) -> dict[str, Any]:
        return self._ticks.snapshot(int(first), int(last), int(period_ns))


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic", default="#")
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--reader", default="benchmarks.receive.ticks:readings", help="module:function")
    arguments = parser.parse_args()
    account = Account(arguments.items, reader_of(arguments.reader))
    control.say({"subscribing": arguments.topic})
    arrivals.count(Returning(arguments.port, arguments.topic), account.take, account.commands())


if __name__ == "__main__":
    main()
