"""A device's servers: which one is tried next, and what each has of ours from one connection to the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from adapters.opcua.session import stack
from adapters.opcua.session.pace import Pace
from gateway.contract import AdapterError, LinkLost, Refused

_logger = logging.getLogger(__name__)

LONGEST_AWAY_S: Final = 600.0
"""a server that says it will be away for longer is asked again all the same: its clock or its plans may be wrong"""
_REFUSED_S: Final = 2.0
"""least time between two attempts at a server that answers and lets nobody in, as while it starts"""
_UNWELL_S: Final = 300.0
"""for how long a server that said it has no data is tried after the others, and kept if they cannot be used"""
_KEPT_S: Final = 600.0


class Unwell(LinkLost):
    """The server says itself that another one should be used."""


class ServerMemory:
    """What one server has of ours while we are away, and what it said when we last saw it. Times are loop times."""

    def __init__(self) -> None:
        self.login: stack.Login | None = None
        """None when no session of ours is left at the server"""
        self.kept_s = _KEPT_S
        """how long it keeps our subscriptions without us; whoever makes them writes down what the server granted"""
        self.kept_until = 0.0
        """until when what was left there may be taken up"""
        self.not_before = 0.0
        """not to be connected to before"""
        self.unwell_until = 0.0

    @property
    def avoided(self) -> bool:
        """Whether the others come first because it said that it has no data."""
        return self.unwell_until > _now()

    def away(self, seconds: float) -> bool:
        """It has announced to be back in so many seconds; False if that is not credible."""
        if not 0 < seconds <= LONGEST_AWAY_S:
            return False
        self.not_before = _now() + seconds
        return True


class Memory:
    """What connections leave for the next one to the same device."""

    def __init__(self) -> None:
        self.pace: Pace | None = None
        """the device's budget, from the first connection on"""
        self.clock_offset_s: float | None = None
        """the server's clock minus ours; None until the connection in use has measured it"""
        self._servers: dict[str, ServerMemory] = {}
        self._last: str | None = None

    def of(self, url: str) -> ServerMemory:
        """What is known of one server."""
        return self._servers.setdefault(url, ServerMemory())

    async def wait(self, urls: Sequence[str]) -> None:
        """Return as soon as one of the servers may be asked."""
        earliest = min(self.of(url).not_before for url in urls)
        await asyncio.sleep(max(0.0, earliest - _now()))

    def order(self, urls: Sequence[str]) -> list[str]:
        """Those that may be asked now, as they are to be tried.

        As configured, except that the last one comes first as long as what we left there can be taken up, and those
        that said that they have no data come last.
        """
        now = _now()

        def rank(url: str) -> int:
            if self.of(url).avoided:
                return 2
            return 0 if url == self._last and self.of(url).kept_until > now else 1

        return sorted((url for url in urls if self.of(url).not_before <= now), key=rank)

    def left(self, url: str) -> None:
        """A connection has ended, and our session and subscriptions are left at the server."""
        self.of(url).kept_until = _now() + self.of(url).kept_s

    def failed(self, url: str, error: AdapterError, *, refused: bool = False) -> None:
        """A server could not be used, or not any more; `refused`: it answered, and yet there is no session."""
        server = self.of(url)
        if isinstance(error, Unwell):
            server.unwell_until = _now() + _UNWELL_S
        elif refused or isinstance(error, Refused):
            server.not_before = max(server.not_before, _now() + _REFUSED_S)

    def connected(self, url: str, urls: Sequence[str], failures: Mapping[str, AdapterError]) -> None:
        """A server is in use from now on; tells when it is another one."""
        before, self._last = self._last, url
        if url == (before or urls[0]):
            return
        for other, memory in self._servers.items():
            if other != url:
                memory.login = None  # what it has of ours is of no use any more, and expires there
        why = "; ".join(str(error) for error in failures.values())
        if url == urls[0]:
            _logger.info("%s: in use again instead of %s", url, before)
        else:
            _logger.warning("%s: in use instead of %s%s", url, before or urls[0], f" ({why})" if why else "")


def none_of_them(failures: Mapping[str, AdapterError]) -> AdapterError:
    """Why none of a device's servers can be used: each one's error."""
    errors = list(failures.values())
    if len(errors) == 1:
        return errors[0]
    kind = Refused if any(isinstance(error, Refused) for error in errors) else LinkLost
    return kind("none of the servers can be used: " + "; ".join(str(error) for error in errors))


def _now() -> float:
    return asyncio.get_running_loop().time()
