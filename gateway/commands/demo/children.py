"""The demo's processes: each in a session of its own, so that Ctrl-C reaches the demo alone."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.contract.errors import GatewayError

_PR_SET_PDEATHSIG = 1
_READY_S = 20.0


class DemoError(GatewayError):
    """A part of the demo did not start; the message holds what it said."""


class Child:
    """One process; what it prints goes to a file."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name = name
        self.output = folder / f"{name}.log"
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - the demo has no threads when it starts a child
            )

    @property
    def alive(self) -> bool:
        """The process runs."""
        return self._process.poll() is None

    def text(self) -> str:
        """What it printed so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Return when `ready` says so. Raises DemoError when the process ends before or takes too long."""
        deadline = time.monotonic() + _READY_S
        while not ready():
            if not self.alive or time.monotonic() > deadline:
                what = "ended" if not self.alive else f"was not ready after {_READY_S:g} s"
                raise DemoError(f"demo: the {self.name} {what}; it said:\n{self.text()[-2000:]}")
            time.sleep(0.05)

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        if self.alive:
            self._process.send_signal(signal.SIGTERM)

    def end_within(self, seconds: float) -> None:
        """Wait for the end; SIGKILL when it does not come in time."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Children:
    """All processes of the demo; leaving the context ends them, newest first, within seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    def start(self, name: str, command: Sequence[str]) -> Child:
        """Start a process."""
        child = Child(name, command, self._folder)
        self._children.append(child)
        return child

    def python(self, name: str, *arguments: str) -> Child:
        """Start a Python module of this installation."""
        return self.start(name, [sys.executable, "-u", "-m", *arguments])

    def failed(self) -> Child | None:
        """A process that ended although nobody asked it to."""
        return next((child for child in self._children if not child.alive), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C must not leave anything running
            for child in reversed(self._children):
                child.ask_to_stop()
        for child in reversed(self._children):
            child.end_within(0.8)


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Something listens on this loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
        return True
    return False


def _die_with_parent() -> Callable[[], None] | None:
    """In the child, before exec: ends with the demo even when that is killed (Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return prepare
