"""What one attempt at delivering shares and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.contract import Clock
from gateway.publishing.books import Books
from gateway.publishing.catalogues import Catalogues
from gateway.publishing.config import DestinationConfig
from gateway.publishing.documents import Origin
from gateway.publishing.errors import BrokerError
from gateway.publishing.hidden import Hidden
from gateway.publishing.maker import Maker
from gateway.publishing.outbox import Outbox
from gateway.publishing.refusals import Refusals
from gateway.publishing.replays import Replays
from gateway.publishing.sources import Source


class Held(NamedTuple):
    """Nobody subscribes to what we sent."""

    topic: str


class Drained(NamedTuple):
    """Everything there was is delivered, and we were asked to stop; or there was no more time for it."""


Outcome = Held | Drained | BrokerError


@dataclass(slots=True)
class Progress:
    """What a publisher shows of its deliveries, beside the ledger."""

    delay_s: float | None = None
    """age of the newest reading of the last live message when it was delivered"""
    parking: set[str] = field(default_factory=set)
    """reasons for parking that were logged"""
    unconfirmed: int = 0
    """messages that the broker has taken and the centre has not answered for"""
    resent: int = 0
    """messages that were sent again because the centre did not answer in time"""
    ignored: int = 0
    """answers of the centre that named nothing that was waited for"""


class Tools(NamedTuple):
    """What one connection's deliveries share."""

    config: DestinationConfig
    origin: Origin
    topic: str
    answers: str
    """topic on which the centre answers"""
    source: Source
    books: Books
    replays: Replays
    outbox: Outbox
    catalogues: Catalogues
    hidden: Hidden
    maker: Maker
    clock: Clock
    stopping: asyncio.Event
    progress: Progress
    delivered: Callable[[], None]
    """called for every message that was delivered"""
    taken: Callable[[], None]
    """called for every message that the broker took and for which the centre is to answer"""
    unanswered: Callable[[str], None]
    """called with why and what to do when the centre, which is to confirm, is silent"""
    refusals: Refusals | None
