"""One wire for all devices that name the same one, for as long as any of them uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """Anything that holds a wire."""

    def close(self) -> None:
        """Let go of the wire now."""
        ...


T = TypeVar("T", bound=Closable)


class _Held(Generic[T]):
    def __init__(self, wire: T) -> None:
        self.wire = wire
        self.holders = 0
        self.closing: asyncio.TimerHandle | None = None


class Shared(Generic[T]):
    """Counts who uses what; made by the first, closed after the last."""

    def __init__(self) -> None:
        self._held: dict[Hashable, _Held[T]] = {}

    @contextmanager
    def hold(self, key: Hashable, make: Callable[[], T], linger_s: float = 0.0) -> Iterator[T]:
        """The one object for `key`, made if nobody holds it.

        After the last holder left it is kept for `linger_s`, in case that one comes back; a cancelled one does not.
        """
        held = self._held.get(key) or self._held.setdefault(key, _Held(make()))
        if held.closing is not None:
            held.closing.cancel()
            held.closing = None
        held.holders += 1
        try:
            yield held.wire
        except asyncio.CancelledError:
            linger_s = 0.0
            raise
        finally:
            held.holders -= 1
            if not held.holders:
                if linger_s:
                    held.closing = asyncio.get_running_loop().call_later(linger_s, self._close, key)
                else:
                    self._close(key)

    def _close(self, key: Hashable) -> None:
        self._held.pop(key).wire.close()
