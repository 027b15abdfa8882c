"""Where commands to the running gateway are answered: what each request of the control socket does."""

from __future__ import annotations

import asyncio
import difflib
import pwd
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway import __version__
from gateway.contract.clock import Clock
from gateway.control import Call, DeniedError
from gateway.control.server import Handler
from gateway.rfc3339 import rfc3339
from gateway.runtime.devices import Device
from gateway.runtime.pauses import REASON, Pauses
from gateway.runtime.reloading import Reloading
from gateway.runtime.status import Status
from gateway.runtime.taps import Tap, lines

LOOK_S: Final = 1.0
"""between two looks whether a device is still the one that is listened to"""
QUIET_S: Final = 3.0
"""a device that is paused has let go within 2 s, as adapters promise"""


@dataclass(frozen=True, slots=True)
class Live:
    """The parts of a gateway whose log is open."""

    devices: Sequence[Device]
    status: Status
    pauses: Pauses


class Desk:
    """Answers for the gateway, also while its log is not open."""

    def __init__(self, gateway: str, clock: Clock, stalled: Callable[[], str | None], reloading: Reloading) -> None:
        """`stalled`: why the log is not open, while it is not."""
        self._gateway = gateway
        self._clock = clock
        self._started = clock.time_ns()
        self._stalled = stalled
        self._reloading = reloading
        self.live: Live | None = None

    def handlers(self) -> Mapping[str, Handler]:
        """By the name of the request."""
        return {
            "status": self._status,
            "pause": self._pause,
            "resume": self._resume,
            "reload": self._reload,
            "diff": self._diff,
        }

    def streams(self) -> Mapping[str, Handler]:
        """Those that go on until the client leaves."""
        return {"tail": self._tail}

    async def _tail(self, call: Call) -> None:
        """Readings of one device; goes on with its successor when a reload exchanges it, ends when it is gone."""
        wanted = call.request.get("points") or []
        if not isinstance(wanted, list):
            raise DeniedError("points: a list of names is expected")
        name = call.request.get("device")
        self._chosen(call, [name])
        tap, told = Tap(), 0
        while (device := self._device(name)) is not None:
            device.sink.taps.append(tap)
            try:
                while self._device(name) is device:
                    for readings in lines(await tap.wait(LOOK_S), device.known(), frozenset(wanted)):
                        await call.send({"readings": readings, "dropped": tap.dropped - told})
                        told = tap.dropped
            finally:
                device.sink.taps.remove(tap)
        raise DeniedError(f"{name} is no device of this gateway any more")

    def _device(self, name: object) -> Device | None:
        devices = () if self.live is None else self.live.devices
        return next((device for device in devices if device.name == name), None)

    async def _status(self, call: Call) -> dict[str, Any]:
        now = self._clock.time_ns()
        head = {
            "gateway": self._gateway,
            "version": __version__,
            "started": rfc3339(self._started),
            "time": rfc3339(now),
            "uptime_s": (now - self._started) // 1_000_000_000,
        }
        if self.live is None:
            log = {"stalled": self._stalled() or "is being opened"}
            return {**head, "devices": [], "destinations": [], "log": log}
        return {**head, **await self.live.status.body()}

    async def _reload(self, call: Call) -> dict[str, Any]:
        if self.live is None:
            raise DeniedError(f"nothing to reload: the log {self._stalled() or 'is being opened'}; see to that first")
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        if not self._reloading.ask(_who(call.uid) or "a command", answer):
            raise DeniedError("several reloads wait already; look at `edge-gateway status`")
        await asyncio.wait([answer])
        if answer.cancelled():
            raise DeniedError("the gateway stopped before the reload was over")
        return answer.result()

    async def _diff(self, call: Call) -> dict[str, Any]:
        return await self._reloading.compare()

    async def _pause(self, call: Call) -> dict[str, Any]:
        live, names = self._chosen(call)
        by = _who(call.uid)
        chosen = [device for device in live.devices if device.name in names]
        for device in chosen:  # first of all, whatever the disk does
            device.gate.hold(live.pauses.new(by).held)
        try:
            await live.pauses.pause(names, by)
        except OSError as error:
            raise DeniedError(
                f"paused now, but not for the next start: {error.strerror or error}; see to the log's disk"
            ) from error
        try:
            async with asyncio.timeout(QUIET_S):
                for device in chosen:
                    await device.gate.quiet.wait()
        except TimeoutError:
            late = ", ".join(device.name for device in chosen if not device.gate.quiet.is_set())
            raise DeniedError(f"paused, but not let go of within {QUIET_S:g} s: {late}") from None
        return {"paused": names}

    async def _resume(self, call: Call) -> dict[str, Any]:
        live, names = self._chosen(call)
        known = [device.name for device in live.devices]
        was = [name for name in names if live.pauses.of(name) is not None]
        try:
            await live.pauses.resume(names, _who(call.uid), known)
        except OSError as error:
            raise DeniedError(
                f"still paused, as it cannot be kept: {error.strerror or error}; see to the log's disk"
            ) from error
        for device in live.devices:
            if device.name in names:
                device.gate.release(REASON)
        return {"resumed": was}

    def _chosen(self, call: Call, names: object = None) -> tuple[Live, list[str]]:
        """The devices that a request names. Raises DeniedError."""
        if self.live is None:
            raise DeniedError(f"no device is asked now: the log {self._stalled() or 'is being opened'}; try again then")
        known = [device.name for device in self.live.devices]
        if call.request.get("all") is True:
            return self.live, known
        wanted = names or call.request.get("devices")
        if not isinstance(wanted, list) or not wanted or not all(isinstance(name, str) for name in wanted):
            raise DeniedError("name at least one device, or all of them")
        for name in wanted:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known[:20])}"
                raise DeniedError(f"{name} is no device of this gateway; {hint}")
        return self.live, list(dict.fromkeys(wanted))


def _who(uid: int | None) -> str:
    if uid is None:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
