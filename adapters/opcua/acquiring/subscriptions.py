"""All subscriptions of one device, over all its connections and the gateway's own restarts.

What the server keeps over a lost connection is taken up by the next one in the order of Part 4, 6.7: the session, else
a new session and its subscriptions transferred, then every notification that was sent meanwhile. The same after a crash
of the gateway, from a note in its log. A subscription that cannot be had any more is made anew by itself, and a gap
says from when on its readings are missing.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from adapters.opcua.acquiring import services
from adapters.opcua.acquiring.bridge import Bridge
from adapters.opcua.acquiring.items import ItemKit, MonitoredItems, report_left_out
from adapters.opcua.acquiring.note import KeptSubscription, Note, read_note, write_note
from adapters.opcua.acquiring.plan import Plan, PlannedSubscription
from adapters.opcua.acquiring.progress import Progress
from adapters.opcua.acquiring.publish import PublishLoop
from adapters.opcua.acquiring.receiver import Kit, Receiver, SubscriptionEnded, Tally
from adapters.opcua.acquiring.sequence import following, preceding
from adapters.opcua.config import NodeAddress
from adapters.opcua.decoding.decode import Items
from adapters.opcua.decoding.structures import Structures
from adapters.opcua.errors import service_failed
from adapters.opcua.session.session import Session
from gateway.contract import Clock, LinkLost, OpenGap, Remembered, Sink

_logger = logging.getLogger(__name__)

_START_TIME: Final = 2257
"""node id of ServerStatus.StartTime (Part 6, annex A: NodeIds.csv)"""
_SAME_START_MS: Final = 1000
"""servers that reckon it from their uptime are never quite the same; a restart takes longer than this"""
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_STEADY_S: Final = 60.0
"""a subscription that lived for this long may be made anew at once"""
_NOTE_PAUSE_S: Final = 0.2
_MOST_NAMED: Final = 2000
"""points that a gap names; a gap of more is told of the whole device, lest the event be larger than a message"""


@dataclass(slots=True)
class _Kept:
    """A subscription at the server, on our side."""

    progress: Progress
    items: MonitoredItems
    recalled: bool
    """from the note of a process before this one"""

    @property
    def changing(self) -> bool:
        """Whether items that were complete are being made or deleted at this moment."""
        return self.items.complete and not self.items.certain


@dataclass(slots=True)
class _Slot:
    """A planned subscription, whether the server has it or not."""

    planned: PlannedSubscription
    uris: frozenset[str]
    """namespaces of its nodes"""
    points: tuple[int, ...] = ()
    """what gaps name, () = the whole device"""
    kept: _Kept | None = None
    lost_since: int | None = None
    """ns; the last covered moment of a subscription that is gone, while no new one has taken its place"""

    @property
    def id(self) -> int:
        """The server's id of it, 0 (which no server gives) = it has none."""
        return 0 if self.kept is None else self.kept.progress.id


class Subscriptions:
    """Makes them, takes them up again, replaces those that end."""

    def __init__(self, clock: Clock, structures: Structures, look: Callable[[Sequence[Items]], None]) -> None:
        """`structures` grows as the server sends new ones; `look` sees all items that are decoded."""
        self._clock = clock
        self._look = look
        self._structures = structures
        self._slots: list[_Slot] = []
        self._ended: list[int] = []
        """ids of subscriptions that are of no use any more and may still be at the server"""
        self._server: str | None = None
        self._started: int | None = None
        self._recalled = False
        self._bridge = Bridge()
        self._dirty = asyncio.Event()
        self.most: int | None = None
        """subscriptions that the server has turned out to bear, fewer than it said; None = as it says"""
        self._tally = Tally()

    @property
    def lost_copies(self) -> int:
        """Notifications that the server forgot before their commit."""
        return self._tally.lost_copies

    async def run(self, session: Session, sink: Sink, plan: Plan, items: ItemKit, transfer: bool = True) -> None:
        """Over one connection, until cancelled. Raises AdapterError when the link or the session ends.

        `items`: what it takes to make monitored items; `transfer`: whether it is worth asking the server to hand over
        subscriptions of another session.
        """
        outage = sink.outage()
        await report_left_out(plan, items, sink)
        started = await _start_time(session)
        note = None
        if not self._recalled:
            left = sink.remembered()
            note = _catch_up(left) if left is not None else None
        elif not session.reactivated and not self._same_server(session.server_uri, started):
            # Who knows our session is the same, whatever it says: some reckon their start from a clock that was set.
            self.lose()
            self._ended.clear()  # with the server; another client's may have the same ids by now
        self._recalled, self._server, self._started = True, session.server_uri, started
        kit = Kit(session, sink, items.builder, self._clock, self._structures, self._look, self._tally)
        items.revised.start(plan)
        self._arrange(plan, items, session, note, outage)
        receivers = await self._take_up(kit, plan, outage, transfer)
        loop = PublishLoop(kit)
        self._dirty.set()
        async with asyncio.TaskGroup() as group:
            # Publishing begins before the items exist: creating many takes longer than a small queue lasts.
            group.create_task(loop.run(), name=f"{session.url}: publish")
            group.create_task(self._keep_note(session, sink, loop), name=f"{session.url}: note")
            for slot in self._slots:
                life = self._life(slot, receivers.get(slot.id), kit, items, loop)
                group.create_task(life, name=f"{session.url}: subscription")

    def lose(self) -> None:
        """The subscriptions are of no use any more: the session was closed, or the server stalled."""
        for slot in self._slots:
            self._lose(slot)

    async def forget(self, sink: Sink) -> None:
        """The session was closed in good order, and the subscriptions with it: the next process is to look for none."""
        self._ended.clear()
        await sink.remember({})

    # What is there

    def _same_server(self, uri: str, started: int | None) -> bool:
        return uri == self._server and _same(self._started, started)

    def _arrange(self, plan: Plan, items: ItemKit, session: Session, note: Note | None, outage: OpenGap | None) -> None:
        """Give each planned subscription its slot, with what there is of it at the server.

        `note`: of the process before this one, at the first connection.
        """
        there = note is not None and self._same_server(note.server, note.started)
        left = note.subscriptions if note is not None and there else ()
        self._ended += note.ended if note is not None and there else ()
        since = None
        if note is not None and note.subscriptions and outage is not None:
            since = outage.start
        before = {slot.planned.digest: slot for slot in self._slots}
        recalled = {each.digest: each for each in left if each.items is not None}
        alone = len(plan.subscriptions) == 1 and not plan.polls
        slots = []
        for planned in plan.subscriptions:
            members = tuple(sorted(item.point for item in planned.items))
            points = () if alone or len(members) > _MOST_NAMED else members
            slot = before.pop(planned.digest, None)
            if slot is None:
                slot = _Slot(planned, _uris(planned, items), lost_since=self._missing_since(since, planned))
            slot.points = points
            digest = _digest(slot, session)
            if digest in recalled:
                self._adopt(slot, recalled.pop(digest), members, items)
            slots.append(slot)
        for slot in before.values():
            self._lose(slot)
        self._slots = slots
        taken = {slot.kept.progress.id for slot in slots if slot.kept is not None}
        self._ended += [each.made.id for each in left if each.made.id not in taken]

    def _missing_since(self, since: int | None, planned: PlannedSubscription) -> int | None:
        """Since when readings of a planned subscription may be missing; None = there was nothing before it.

        `since`: ns; the newest reading that a process before this one had.
        """
        lost = [slot.lost_since for slot in self._slots if slot.lost_since is not None]
        lost += [slot.kept.progress.covered for slot in self._slots if slot.kept is not None]
        if not lost and since is not None:
            # What the server had not sent yet may be older than the device's newest reading.
            lost.append(since - round(planned.publishing * 1e9))
        return min(lost, default=None)

    def _adopt(self, slot: _Slot, left: KeptSubscription, members: tuple[int, ...], kit: ItemKit) -> None:
        """Go on with the subscription of the process before, whose items are `left.items` in the order of `members`."""
        if left.items is None or len(left.items) != len(members):
            return
        covered = self._clock.time_ns() if slot.lost_since is None else slot.lost_since
        items = MonitoredItems(left.made.id, slot.planned, kit)
        items.adopt({point: item for point, item in zip(members, left.items, strict=True) if item}, left.bridged_s)
        kit.revised.subscription(left.made.lifetime_s)
        slot.kept = _Kept(Progress(left.made, covered, expected=left.expected), items, True)
        slot.lost_since = None

    def _lose(self, slot: _Slot) -> None:
        if slot.kept is not None:
            progress = slot.kept.progress
            slot.lost_since = progress.covered if progress.lost_since is None else progress.lost_since
            self._ended.append(progress.id)
            slot.kept = None
            self._bridge.broken()
            self._dirty.set()

    # One connection

    async def _take_up(self, kit: Kit, plan: Plan, outage: OpenGap | None, transfer: bool) -> dict[int, Receiver]:
        """Have the subscriptions of before in this session; their receivers by subscription id. Raises AdapterError."""
        session = kit.session
        uncertain = [slot for slot in self._slots if slot.kept is not None and not slot.kept.items.certain]
        for slot in uncertain:
            self._lose(slot)
        kept = [slot for slot in self._slots if slot.kept is not None]
        ours: Mapping[int, tuple[int, ...]] = {}
        if transfer or session.reactivated:
            wanted = [slot.kept.progress.id for slot in kept if slot.kept is not None]
            ours = await services.take_over(session, wanted)
            old = await services.take_over(session, self._ended)
            await services.delete(session, list(old))
        self._ended.clear()
        lost = [slot for slot in kept if slot.kept is not None and slot.kept.progress.id not in ours]
        for slot in lost:
            self._lose(slot)
        self._ended.clear()  # the server would not let us delete what it does not hand over
        self._begin_bridge(plan, outage)
        receivers = {}
        for slot in kept:
            if slot.kept is None:
                continue
            receiver = await self._resume(slot, slot.kept, kit, ours[slot.kept.progress.id])
            if receiver is None:
                _logger.info("%s: the server has lost a subscription of ours; making a new one", session.url)
                self._lose(slot)
                self._ended.clear()
            else:
                receivers[receiver.progress.id] = receiver
        return receivers

    def _begin_bridge(self, plan: Plan, outage: OpenGap | None) -> None:
        """What was polled, or was not subscribed to yet, is missing for good."""
        if not self._slots or any(slot.kept is None or not slot.kept.items.complete for slot in self._slots):
            self._bridge.broken()
            return
        subscribed = tuple(sorted(item.point for slot in self._slots for item in slot.planned.items))
        waiting = [slot.kept.progress.id for slot in self._slots if slot.kept is not None]
        self._bridge.begin(outage, waiting, subscribed if plan.polls or plan.left_out else ())

    async def _resume(self, slot: _Slot, kept: _Kept, kit: Kit, available: tuple[int, ...]) -> Receiver | None:
        """Take up one subscription that is in this session now; None if the server has lost it after all."""
        kept.items.attach(kit.session, kit.sink)
        receiver = self._receiver(slot, kept, kit)
        if kept.recalled:
            kept.progress.in_log(available)
            await receiver.recall(preceding(kept.progress.watch.expected))
            kept.recalled = False
        return receiver if await receiver.resume() else None

    def _receiver(self, slot: _Slot, kept: _Kept, kit: Kit) -> Receiver:
        def settled(whole: bool) -> None:
            self._bridge.settled(kept.progress.id, whole)
            self._bridge.tell(kit.sink, self._clock.time_ns())

        kit.session.left.kept_s = kept.progress.made.lifetime_s
        return Receiver(kit, kept.progress, kept.items, slot.points, on_settled=settled)

    async def _life(self, slot: _Slot, receiver: Receiver | None, kit: Kit, items: ItemKit, loop: PublishLoop) -> None:
        """One planned subscription for as long as the connection lasts: whenever it ends, another is made."""
        deaths = 0
        while True:
            if receiver is None:
                receiver = await self._make(slot, kit, items)
            assert slot.kept is not None
            slot.kept.items.on_change = self._dirty.set
            loop.add(receiver)
            try:
                await self._live(slot.kept, receiver, kit, loop)
            except* SubscriptionEnded as ended:
                _logger.warning("%s", _first(ended))
            finally:
                loop.remove(receiver)
            now = asyncio.get_running_loop().time()
            deaths = 1 if now - receiver.since > _STEADY_S else deaths + 1
            self._lose(slot)
            await services.delete(kit.session, [receiver.progress.id])
            self._ended.remove(receiver.progress.id)
            receiver = None
            await asyncio.sleep(random.uniform(0, longest_pause_s(deaths)))

    async def _live(self, kept: _Kept, receiver: Receiver, kit: Kit, loop: PublishLoop) -> None:
        name = f"{kit.session.url}: subscription {receiver.progress.id}"
        async with asyncio.TaskGroup() as group:
            group.create_task(receiver.watch(loop), name=f"{name}: watch")
            group.create_task(receiver.acknowledge(), name=f"{name}: acknowledge")
            group.create_task(self._refresh(receiver, kit), name=f"{name}: refresh")
            group.create_task(kept.items.run(), name=f"{name}: items")

    async def _refresh(self, receiver: Receiver, kit: Kit) -> None:
        await receiver.refresh()
        self._bridge.tell(kit.sink, self._clock.time_ns())

    async def _make(self, slot: _Slot, kit: Kit, item_kit: ItemKit) -> Receiver:
        made = await services.create(kit.session, slot.planned.publishing)
        if made is None:
            self._too_many(kit.session)
        self._dirty.set()
        progress = Progress(made, self._clock.time_ns(), lost_since=slot.lost_since)
        item_kit.revised.subscription(made.lifetime_s)
        items = MonitoredItems(made.id, slot.planned, item_kit)
        items.attach(kit.session, kit.sink)
        slot.kept, slot.lost_since = _Kept(progress, items, False), None
        return self._receiver(slot, slot.kept, kit)

    def _too_many(self, session: Session) -> NoReturn:
        """The server has no more subscriptions for us than we have: another plan must do with these."""
        there = sum(slot.kept is not None for slot in self._slots)
        doing = f"{session.url}: creating a subscription"
        if not there:
            raise service_failed(doing, services.TOO_MANY_SUBSCRIPTIONS)
        self.most = there
        raise LinkLost(
            f"{doing}: the server bears {there} and not the {len(self._slots)} that the publishing intervals need; the "
            "gateway will connect again and put all points on these"
        )

    # The note

    async def _keep_note(self, session: Session, sink: Sink, loop: PublishLoop) -> None:
        """For as long as it runs: whatever changes is written down for a process that may come after a crash."""
        written: Note | None = None
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            if any(slot.kept is not None and slot.kept.changing for slot in self._slots):
                continue  # another change will tell when it is over
            # Nothing is offered between the making of the note and its place in the log.
            async with loop.offering:
                note = self._note(session)
                if written is None or not _says_the_same(note, written):
                    await sink.remember(write_note(note))
                    written = note
            await asyncio.sleep(_NOTE_PAUSE_S)

    def _note(self, session: Session) -> Note:
        kept = [_left(slot, slot.kept, session) for slot in self._slots if slot.kept is not None]
        return Note(session.server_uri, session.url, self._started, tuple(kept), tuple(self._ended))


def longest_pause_s(deaths: int) -> float:
    """Before a subscription is made once more, after so many that did not live long. It doubles up to a bound."""
    doublings = min(deaths - 1, 30)  # of thousands of deaths the power would be more than a float holds
    return min(_FIRST_PAUSE_S * 2.0**doublings, _LONGEST_PAUSE_S)


def _catch_up(left: Remembered) -> Note | None:
    """The note of the process before this one, as of the end of its log; None where it is of no use."""
    note = read_note(left.note)
    if note is None:
        return None
    newest = {origin.subscription: origin.sequence for origin in left.origins if origin.server == note.server}
    subscriptions = [
        each._replace(expected=following(newest[each.made.id])) if each.made.id in newest else each
        for each in note.subscriptions
    ]
    return note._replace(subscriptions=tuple(subscriptions))


def _left(slot: _Slot, kept: _Kept, session: Session) -> KeptSubscription:
    ids: tuple[int, ...] | None = None
    if kept.items.complete:
        known = kept.items.ids
        ids = tuple(known.get(point, 0) for point in sorted(item.point for item in slot.planned.items))
    expected, bridged_s = kept.progress.watch.expected, kept.items.bridged_s(kept.progress.made.lifetime_s)
    return KeptSubscription(kept.progress.made, _digest(slot, session), expected, ids, bridged_s)


def _uris(planned: PlannedSubscription, kit: ItemKit) -> frozenset[str]:
    found = {NodeAddress(kit.points[item.point].node).uri for item in planned.items}
    return frozenset(uri for uri in found if uri is not None)


def _digest(slot: _Slot, session: Session) -> str:
    """Of everything that decides the subscription's items at this server: the plan, and what URIs stand for."""
    lines = [slot.planned.digest, *(f"{uri}={session.namespace(uri)}" for uri in sorted(slot.uris))]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=12).hexdigest()


def _says_the_same(note: Note, other: Note) -> bool:
    """But for the sequence numbers, which the log knows better."""
    a, b = (
        [each._replace(expected=0) for each in found.subscriptions] + [found._replace(subscriptions=())]
        for found in (note, other)
    )
    return a == b


async def _start_time(session: Session) -> int | None:
    """When the server began to run, ms since the epoch; None where it does not say so. Raises AdapterError."""
    (value,) = await session.read("reading when the server started", _START_TIME)
    found = value.Value.Value if value.Value is not None else None
    if not isinstance(found, datetime.datetime):
        return None
    utc = found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)
    return round(utc.timestamp() * 1000)


def _same(before: int | None, now: int | None) -> bool:
    """Whether a server that said `before` has not been restarted since; unknown = as far as anybody can tell."""
    return before is None or now is None or abs(now - before) < _SAME_START_MS


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
