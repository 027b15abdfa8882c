"""One supervisor per device: runs the adapter, tells its state once per change, backs off, keeps sickness alone."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gateway.backoff import Backoff
from gateway.contract.adapter import Adapter, Point
from gateway.contract.batch import Basis, Batch, ValueType
from gateway.contract.clock import Clock
from gateway.contract.errors import AdapterError, LinkLost
from gateway.contract.status import BAD_OUT_OF_SERVICE
from gateway.log.errors import LogError
from gateway.runtime.gaps import Gaps
from gateway.runtime.sink import DeviceSink

log = logging.getLogger(__name__)

_STEADY_NS = 5_000_000_000
"""a link that worked for this long starts its back-off anew; a flapping one does not"""
_FRESH_NS: Final = 60_000_000_000
_FRESH_WAIT_S: Final = 2.5
"""in the first minute after a steady link was lost no wait is longer: fresh data is there within 5 s of a return, and
taking up subscriptions takes a share of that (1.6 s were seen)"""


@dataclass(slots=True)
class DeviceState:
    """A device's link as metrics and health show it."""

    state: str = "starting"
    """starting | up | degraded | down | refused | failed | paused"""
    since: int = 0
    """ns since the epoch of the last change"""
    error: str | None = None
    """the last error in plain words, or why the device is degraded; None while up"""
    outages: int = 0

    @property
    def linked(self) -> bool:
        """The device answers, well or not."""
        return self.state in ("up", "degraded")


class Supervisor:
    """Keeps one device's adapter running until cancelled."""

    def __init__(
        self, device: str, adapter: Adapter, points: Sequence[Point], gaps: Gaps, state: DeviceState, clock: Clock
    ) -> None:
        self._device = device
        self._adapter = adapter
        self._points = points
        self._gaps = gaps
        self._state = state
        self._clock = clock
        self._backoff = Backoff()
        self._lost: int | None = None
        """ns, monotonic: when a steady link was last lost"""
        self._online = 0
        """ns, monotonic: when the link last came up"""
        self._unwell: str | None = None
        """what the adapter said of the device on this link"""
        self._enter("starting", None)

    def on_online(self) -> None:
        """The adapter says that the link works."""
        if not self._state.linked:
            lost_s = (self._clock.time_ns() - self._state.since) / 1e9
            log.info("%s: connected%s", self._device, f" again after {lost_s:.0f} s" if self._state.error else "")
            self._online = self._clock.monotonic_ns()
            self._enter("up", None)
            self.on_degraded(self._unwell)

    def on_degraded(self, why: str | None) -> None:
        """The adapter says that the device is not well, or is well again (None). It counts while there is a link."""
        self._unwell = why
        if not self._state.linked:
            return
        if why is None and self._state.state == "degraded":
            lasted_s = (self._clock.time_ns() - self._state.since) / 1e9
            log.info("%s: well again after %.0f s", self._device, lasted_s)
            self._enter("up", None)
        elif why is not None and self._state.state == "up":
            log.warning("%s: degraded: %s", self._device, why)
            self._enter("degraded", why)
        else:
            self._state.error = why

    async def run(self, sink: DeviceSink, covered_until: int) -> None:
        """Run the adapter again and again. `covered_until`: ns, how far the log reaches before the first attempt."""
        while True:
            # A task of its own, so that an error on the way out cannot undo a stop. (Asking our own task whether it is
            # being cancelled does not tell: up to Python 3.12 a TaskGroup in the adapter leaves that mark behind.)
            async with asyncio.TaskGroup() as group:
                attempt = group.create_task(self._attempt(sink), name=f"{self._device}: adapter")
            error = attempt.result()
            if self._state.linked and self._clock.monotonic_ns() - self._online > _STEADY_NS:
                self._backoff.reset()
                self._lost = self._clock.monotonic_ns()
            covered_until = sink.covered_until or covered_until
            await self._down(sink, error, covered_until)
            fresh = self._lost is not None and self._clock.monotonic_ns() - self._lost < _FRESH_NS
            await asyncio.sleep(self._backoff.next_s(_FRESH_WAIT_S if fresh else math.inf))

    async def pause(self, sink: DeviceSink, covered_until: int, reason: str, text: str) -> None:
        """The gateway itself stopped acquiring; `reason` is the gap's. `covered_until`: as for `run`."""
        error = AdapterError(text)
        error.state, error.status = "paused", BAD_OUT_OF_SERVICE
        await self._down(sink, error, sink.covered_until or covered_until, reason)

    def resumed(self) -> None:
        """The gateway acquires again after `pause`."""
        self._backoff.reset()
        self._enter("starting", None)

    async def _attempt(self, sink: DeviceSink) -> AdapterError:
        self._unwell = None
        try:
            await self._adapter.run(sink)
        except AdapterError as error:
            return error
        except Exception as error:  # the supervisor is where one device's bug must stop
            if (failed_log := _of_the_log(error)) is not None:
                raise failed_log from None
            log.exception("%s: the adapter failed in a way it should not; please report this", self._device)
            failed = AdapterError(f"internal error: {type(error).__name__}: {error}")
            failed.state = "failed"
            return failed
        return LinkLost("the adapter ended without an error")

    async def _down(self, sink: DeviceSink, error: AdapterError, covered_until: int, reason: str | None = None) -> None:
        text = str(error).removeprefix(f"{self._device}: ")
        if self._state.state != error.state or self._state.error is None:
            log.warning("%s: %s: %s", self._device, error.state, text)
            began = self._state.state == "starting" or self._state.linked
            self._enter(error.state, text)
            if began:
                self._state.outages += 1
                self._gaps.begin(covered_until, reason or "device-" + error.state)
                await sink.offer_outage([self._bad_readings(error.status)])
        self._state.error = text

    def _bad_readings(self, status: int) -> Batch:
        """One null reading per point: whoever holds the last good value must learn that it is not fresh any more."""
        return Batch.of(
            self._device,
            ValueType.FLOAT64,
            np.array([point.index for point in self._points], np.int32),
            0.0,
            valid=False,
            status=status,
            basis=Basis.GATEWAY,
            received_time=self._clock.time_ns(),
            monotonic=self._clock.monotonic_ns(),
        )

    def _enter(self, state: str, error: str | None) -> None:
        self._state.state = state
        self._state.error = error
        self._state.since = self._clock.time_ns()


def _of_the_log(error: Exception) -> LogError | None:
    """The log's own failure, which an adapter met when it offered something: it is not the device's."""
    if isinstance(error, ExceptionGroup):
        return next((found for each in error.exceptions if (found := _of_the_log(each)) is not None), None)
    return error if isinstance(error, LogError) else None
