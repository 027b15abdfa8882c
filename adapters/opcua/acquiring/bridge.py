"""Outages that the server's queues bridged: they must not stand as missing data. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.contract import Filled, OpenGap, Sink


class Bridge:
    """Knows of which outages every reading came after all, and says so; outlives connections.

    An outage is bridged when each subscription was taken up again and has delivered what the server had queued, with
    no number missing. An outage that begins before that is known of the last one is bridged together with it.
    """

    def __init__(self) -> None:
        self._outages: dict[str, OpenGap] = {}
        self._waiting: set[int] = set()
        self._points: tuple[int, ...] = ()

    def begin(self, outage: OpenGap | None, subscriptions: Iterable[int], points: tuple[int, ...]) -> None:
        """A connection takes up these subscriptions. `outage`: as the sink had it before anything was offered.

        `points`: which of the device's points the subscriptions carry, () = all.
        """
        if outage is not None:
            self._outages[outage.id] = outage
        self._waiting = set(subscriptions)
        self._points = points

    def broken(self) -> None:
        """Something was lost: the outages stand."""
        self._outages.clear()
        self._waiting.clear()

    def settled(self, subscription: int, whole: bool) -> None:
        """A subscription has delivered what was queued; not `whole` = a part of it never came."""
        if whole:
            self._waiting.discard(subscription)
        else:
            self.broken()

    def tell(self, sink: Sink, now: int) -> None:
        """Report what is known to be bridged and is over. `now`: ns since the epoch."""
        if self._waiting or not self._outages:
            return
        still_open = sink.outage()
        for outage in list(self._outages.values()):
            if still_open is None or still_open.id != outage.id:
                del self._outages[outage.id]
                start = now if outage.start is None else min(outage.start, now)
                sink.filled(Filled(outage.id, start, now, None, self._points))
