"""One wire for all devices that name the same one, for as long as any of them uses it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """Anything that holds a wire."""

    def close(self) -> None:
        """Let go of the wire now."""
        ...


T = TypeVar("T", bound=Closable)


class Shared(Generic[T]):
    """Counts who uses what; made by the first, closed after the last."""

    def __init__(self) -> None:
        self._held: dict[Hashable, tuple[T, list[object]]] = {}

    @contextmanager
    def hold(self, key: Hashable, make: Callable[[], T]) -> Iterator[T]:
        """The one object for `key`, made if nobody holds it."""
        wire, holders = self._held.setdefault(key, (make(), [])) if key not in self._held else self._held[key]
        holder = object()
        holders.append(holder)
        try:
            yield wire
        finally:
            holders.remove(holder)
            if not holders:
                del self._held[key]
                wire.close()

    def holders(self, key: Hashable) -> int:
        """How many use it now."""
        return len(self._held[key][1]) if key in self._held else 0
