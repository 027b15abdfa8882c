"""What the gateway says about itself: metrics samples, health verdicts, and the health message for the centre."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.contract.adapter import Facts
from gateway.contract.clock import Clock
from gateway.log import Wear, Writer
from gateway.metrics.collector import Sample
from gateway.metrics.endpoint import Verdict
from gateway.publishing.publisher import Publisher
from gateway.publishing.statistics import Statistics
from gateway.rfc3339 import rfc3339
from gateway.runtime.devices import Device
from gateway.runtime.housekeeping import Housekeeping
from gateway.runtime.reloading import InForce

_QUALITIES = ("good", "uncertain", "bad", "bad")
_LAG_EVERY_S = 0.5
_LAG_WINDOW = 20
_NAMED = 50
"""devices that /readyz names; a plant without power must not make it a book"""


class Report:
    """Reads the parts' own counters when asked; keeps nothing but the event loop's lag."""

    def __init__(
        self,
        version: str,
        clock: Clock,
        devices: Sequence[Device],
        publishers: Sequence[Publisher],
        writer: Writer,
        housekeeping: Housekeeping,
    ) -> None:
        self._version = version
        self._clock = clock
        self._devices = devices
        self._publishers = publishers
        self._writer = writer
        self._housekeeping = housekeeping
        self._started = clock.time_ns()
        self._lags: deque[float] = deque([0.0], maxlen=_LAG_WINDOW)
        self.cut_readings = 0
        self.force: InForce | None = None

    async def run(self) -> None:
        """Measure the event loop's lag until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_EVERY_S
            await asyncio.sleep(_LAG_EVERY_S)
            self._lags.append(max(0.0, loop.time() - due))

    def samples(self) -> Iterator[Sample]:
        """All metrics, as declared in gateway.metrics.declarations."""
        yield Sample("edge_gateway_build_info", 1, (self._version,))
        yield Sample("edge_gateway_start_time_seconds", self._started / 1e9)
        yield Sample("edge_gateway_event_loop_lag_seconds", max(self._lags))
        if self.force is not None:
            yield Sample("edge_gateway_config_reloads_total", self.force.accepted, ("accepted",))
            yield Sample("edge_gateway_config_reloads_total", self.force.refused, ("refused",))
            last = self.force.last
            yield Sample("edge_gateway_config_last_reload_successful", last is None or last["accepted"])
            yield Sample("edge_gateway_config_in_force_timestamp_seconds", self.force.since / 1e9)
        yield from self._device_samples()
        yield from self._log_samples()
        for publisher in self._publishers:
            yield from _destination_samples(publisher.name, publisher.statistics())
            if (expires := publisher.certificate_expires) is not None:
                one = (publisher.name,)
                yield Sample("edge_gateway_destination_certificate_expiry_timestamp_seconds", expires, one)

    def healthy(self) -> Verdict:
        """/healthz: the process lives and its loop answers in time."""
        lag = max(self._lags)
        return Verdict(lag < 5.0, {"event_loop_lag_s": round(lag, 3), "since": rfc3339(self._started)})

    def ready(self) -> Verdict:
        """/readyz: the log takes readings."""
        stalled = self._writer.statistics().stalled
        return Verdict(
            stalled is None,
            {"log": stalled or "takes readings", "devices": self._states(), "not_well": self._not_well()},
        )

    def health(self) -> dict[str, Any]:
        """The body of a health/1 message."""
        usage = self._housekeeping.usage
        return {
            "version": self._version,
            "started": rfc3339(self._started),
            "uptime_s": (self._clock.time_ns() - self._started) // 1_000_000_000,
            "event_loop_lag_s": round(max(self._lags), 3),
            "devices": self._states(),
            "readings_accepted": sum(device.counters.readings for device in self._devices),
            "log_bytes": usage.used,
            "log_budget_bytes": usage.budget,
            "log_stalled": self._writer.statistics().stalled,
        }

    def _states(self) -> dict[str, int]:
        return dict(Counter(device.state.state for device in self._devices))

    def _not_well(self) -> dict[str, str]:
        """State and text of devices that are not up; local alone, since a destination may not see every device."""
        unwell = ((device.name, device.state) for device in self._devices if device.state.error is not None)
        return {name: f"{state.state}: {state.error}" for name, state in itertools.islice(unwell, _NAMED)}

    def _device_samples(self) -> Iterator[Sample]:
        quality: Counter[str] = Counter()
        states: Counter[tuple[str, str]] = Counter()
        outages: Counter[str] = Counter()
        bridged: dict[str, float] = {}
        lost_copies: Counter[str] = Counter()
        filtered: Counter[str] = Counter()
        polled: dict[str, list[Facts]] = {}
        for device in self._devices:
            labels = (device.name, device.adapter)
            yield Sample("edge_gateway_device_up", device.state.linked, labels)
            yield Sample("edge_gateway_readings_accepted_total", device.counters.readings, labels)
            if (expires := device.certificate_expires()) is not None:
                yield Sample("edge_gateway_device_certificate_expiry_timestamp_seconds", expires, labels)
            facts = device.facts()
            if facts.clock_offset_s is not None:
                yield Sample("edge_gateway_device_clock_offset_seconds", facts.clock_offset_s, labels)
            if facts.bridged_s is not None:
                bridged[device.adapter] = min(facts.bridged_s, bridged.get(device.adapter, facts.bridged_s))
            lost_copies[device.adapter] += facts.lost_copies
            filtered[device.adapter] += device.filtered()
            if facts.polls is not None:
                polled.setdefault(device.adapter, []).append(facts)
            states[device.adapter, device.state.state] += 1
            outages[device.adapter] += device.state.outages
            for name, count in zip(_QUALITIES, device.counters.quality, strict=True):
                quality[name] += count
        for pair, count in states.items():
            yield Sample("edge_gateway_devices", count, pair)
        for adapter, count in outages.items():
            yield Sample("edge_gateway_device_outages_total", count, (adapter,))
        for adapter, seconds in bridged.items():
            yield Sample("edge_gateway_bridged_seconds", seconds, (adapter,))
        for adapter, count in lost_copies.items():
            yield Sample("edge_gateway_lost_copies_total", count, (adapter,))
        for adapter, count in filtered.items():
            yield Sample("edge_gateway_readings_filtered_total", count, (adapter,))
        for adapter, all_facts in polled.items():
            yield from _poll_samples(adapter, all_facts)
        for name, count in quality.items():
            yield Sample("edge_gateway_readings_total", count, (name,))
        yield Sample("edge_gateway_gaps_total", sum(device.counters.gaps for device in self._devices))

    def _log_samples(self) -> Iterator[Sample]:
        usage = self._housekeeping.usage
        statistics = self._writer.statistics()
        yield Sample("edge_gateway_log_bytes", usage.used)
        yield Sample("edge_gateway_log_budget_bytes", usage.budget)
        yield Sample("edge_gateway_log_free_bytes", usage.free)
        yield Sample("edge_gateway_log_written_bytes_total", statistics.bytes_total)
        yield Sample("edge_gateway_log_commits_total", statistics.commits)
        yield Sample("edge_gateway_log_commit_seconds_total", statistics.commit_seconds_sum)
        yield Sample("edge_gateway_log_pending_bytes", statistics.pending_bytes)
        yield Sample("edge_gateway_log_stalled", statistics.stalled is not None)
        yield Sample("edge_gateway_log_cut_readings", self.cut_readings)
        yield from _wear_samples(usage.wear)


def _poll_samples(adapter: str, devices: Sequence[Facts]) -> Iterator[Sample]:
    one = (adapter,)
    yield Sample("edge_gateway_polls_total", sum(facts.polls or 0 for facts in devices), one)
    yield Sample("edge_gateway_polls_missed_total", sum(facts.polls_missed for facts in devices), one)
    yield Sample("edge_gateway_poll_late_seconds", max(facts.poll_late_s for facts in devices), one)
    yield Sample("edge_gateway_request_timeouts_total", sum(facts.timeouts for facts in devices), one)
    yield Sample("edge_gateway_bad_replies_total", sum(facts.bad_replies for facts in devices), one)


def _wear_samples(wear: Wear) -> Iterator[Sample]:
    """What the system does not tell is absent."""
    if wear.written is not None:
        yield Sample("edge_gateway_storage_written_bytes_total", wear.written)
    if wear.per_day is not None:
        yield Sample("edge_gateway_storage_written_bytes_per_day", wear.per_day)
    if wear.life is not None:
        for memory, used in (("a", wear.life.used_a), ("b", wear.life.used_b)):
            if used is not None:
                yield Sample("edge_gateway_emmc_life_used_ratio", used, (memory,))
        if wear.life.reserve is not None:
            yield Sample("edge_gateway_emmc_reserve_state", wear.life.reserve)


def _destination_samples(name: str, seen: Statistics) -> Iterator[Sample]:
    one = (name,)
    total = seen.total
    yield Sample("edge_gateway_destination_state", 1, (name, seen.state))
    if seen.broker:
        yield Sample("edge_gateway_destination_broker", 1, (name, seen.broker))
    yield Sample("edge_gateway_account_accepted_total", total.accepted, one)
    yield Sample("edge_gateway_account_delivered_total", total.delivered, one)
    yield Sample("edge_gateway_account_waiting", total.waiting, one)
    yield Sample("edge_gateway_account_parked", total.parked, one)
    yield Sample("edge_gateway_account_withheld_total", total.withheld, one)
    for reason, count in total.dropped.items():
        yield Sample("edge_gateway_account_dropped_total", count, (name, reason))
    yield Sample("edge_gateway_account_difference", total.unbalanced, one)
    yield Sample("edge_gateway_destination_messages_total", seen.acknowledged, one)
    yield Sample("edge_gateway_destination_bytes_total", seen.nbytes, one)
    yield Sample("edge_gateway_destination_in_flight", seen.in_flight, one)
    yield Sample("edge_gateway_destination_puback_seconds_total", seen.puback_seconds, one)
    if seen.confirming is not None:
        yield Sample("edge_gateway_account_confirmed_total", seen.confirming.confirmed, one)
        yield Sample("edge_gateway_destination_unconfirmed", seen.confirming.unconfirmed, one)
    yield Sample("edge_gateway_replay_waiting", seen.replays.waiting, one)
    if seen.delay_s is not None:
        yield Sample("edge_gateway_destination_delay_seconds", seen.delay_s, one)
