"""Exchanges devices and destinations of a running gateway; what has not changed is not touched."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.config.load import LoadedConfig
from gateway.config.models import GatewayConfig
from gateway.log import StateStore
from gateway.publishing.config import DestinationConfig
from gateway.publishing.publisher import Publisher
from gateway.publishing.removed import end_accounts
from gateway.runtime.changes import Changes, Difference
from gateway.runtime.crew import Crew
from gateway.runtime.devices import Device, Parts, build_device
from gateway.runtime.housekeeping import Housekeeping
from gateway.runtime.pauses import Pauses


class BuildPublisher(Protocol):
    """Makes a destination's publisher, as the gateway made the others."""

    def __call__(self, destination: DestinationConfig, identity: GatewayConfig) -> Publisher:
        """`identity` is the new config's."""
        ...


class Swap:
    """Knows the running parts; the lists are those that metrics, status and housekeeping look at."""

    def __init__(
        self,
        devices: list[Device],
        publishers: list[Publisher],
        parts: Parts,
        pauses: Pauses,
        housekeeping: Housekeeping,
        state: StateStore,
        build: BuildPublisher,
    ) -> None:
        self.parts = parts
        self._devices = devices
        self._publishers = publishers
        self._pauses = pauses
        self._housekeeping = housekeeping
        self._state = state
        self._build = build

    def crews(self, acquiring: Crew, publishing: Crew) -> None:
        """Whose tasks they are."""
        self._acquiring = acquiring
        self._publishing = publishing

    async def apply(self, config: LoadedConfig, changes: Changes) -> None:
        """Stop what changed or went, and start what changed or is new. Destinations first, as at a start."""
        if changes.destinations:
            async with self._housekeeping.at_rest:
                await self._apply_destinations(config, changes.destinations)
        if changes.devices:
            await self._apply_devices(config, changes.devices)

    async def _apply_devices(self, config: LoadedConfig, changes: Difference) -> None:
        await self._acquiring.end([*changes.changed, *changes.removed])
        running = {device.name: device for device in self._devices}
        for name in changes.removed:
            self.parts.registry.retire(name)
        wanted: list[Device] = []
        for loaded in config.devices:
            former = running.get(loaded.name)
            if former is not None and loaded.name not in changes.changed:
                wanted.append(former)
                continue
            device = build_device(loaded, self.parts, former)
            if former is None and (pause := self._pauses.of(device.name)) is not None:
                device.gate.hold(pause.held)
            wanted.append(device)
        self._devices[:] = wanted
        for device in wanted:
            if running.get(device.name) is not device:
                self._acquiring.start(device.name, device.run(self._housekeeping.space))

    async def _apply_destinations(self, config: LoadedConfig, changes: Difference) -> None:
        running = {publisher.name: publisher for publisher in self._publishers}
        for name in (*changes.changed, *changes.removed):
            self._publishers.remove(running.pop(name))
        await self._publishing.end([*changes.changed, *changes.removed])
        destinations = config.gateway.destinations
        wanted = {one.name for one in destinations}
        await asyncio.to_thread(end_accounts, self._state, wanted, self.parts.clock.time_ns())
        for destination in destinations:
            if destination.name not in running:
                publisher = self._build(destination, config.gateway.gateway)
                self._publishing.start(publisher.name, publisher.run())
                await publisher.loaded()
                running[publisher.name] = publisher
        self._publishers[:] = [running[one.name] for one in destinations]
