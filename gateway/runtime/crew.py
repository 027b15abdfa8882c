"""Tasks of one group by name, so that a single one can be ended and begun anew."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


class Crew:
    """What works in a task group; who ends it here ends one part and not the group."""

    def __init__(self, group: asyncio.TaskGroup, kind: str) -> None:
        self._group = group
        self._kind = kind
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """All that have not been ended."""
        return list(self._tasks.values())

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Begin one."""
        self._tasks[name] = self._group.create_task(work, name=f"{self._kind} {name}")

    def cancel(self) -> None:
        """Ask all to end."""
        for task in self._tasks.values():
            task.cancel()

    async def end(self, names: Iterable[str]) -> None:
        """Ask these to end, and return when they have."""
        tasks = [task for name in names if (task := self._tasks.pop(name, None)) is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
