"""A real Mosquitto of a test's own, on a free loopback port, with a temporary config.

with Mosquitto() as broker: ...            # or: async with Mosquitto() as broker: ...
broker.url                                 # mqtt://127.0.0.1:port
broker.stop(); broker.start()              # the port stays the same; broker.restart() does both
broker.kill()                              # SIGKILL: what was not persisted is gone
Mosquitto(users={"gw": "secret"}, acl="user gw\\ntopic readwrite #\\n")
Mosquitto(persistence=True, options=["max_inflight_messages 5", "message_size_limit 1000"])
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

READY_S = 60.0
STOP_S = 60.0
"""a broker that is killed has not saved what it has acknowledged"""

_FIRST_PORT, _LAST_PORT, _BLOCK_PORTS = 10_000, 32_000, 200
_turn = itertools.count()
_claims: list[socket.socket] = []


def free_port() -> int:
    """A TCP port on 127.0.0.1 that stays free until it is used, and while who uses it is away.

    Below those that the kernel gives to whoever asks for any port, and in a block that is this process's alone: tests
    that run beside this one take none of it in the moment between.
    """
    for port in _ports():
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


def _ports() -> Iterator[int]:
    """Those of this process's block, each once, from the one after the last on."""
    first = _block()
    for _ in range(_BLOCK_PORTS):
        yield first + next(_turn) % _BLOCK_PORTS


@functools.cache
def _block() -> int:
    """The first port of a block; a name in the kernel's memory keeps it until this process ends."""
    claim = socket.socket(socket.AF_UNIX)
    for first in range(_FIRST_PORT, _LAST_PORT, _BLOCK_PORTS):
        with contextlib.suppress(OSError):
            claim.bind(f"\0edge-gateway tests: ports from {first}")
            _claims.append(claim)
            return first
    raise RuntimeError("too many processes run tests")


def find_program(name: str) -> str:
    """Path of an installed program; sbin folders count, though they are often missing from a user's PATH."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: apt-get install mosquitto")
    return found


class Mosquitto:
    """One broker process; sync and async context manager. Its files live in a folder that goes away with it."""

    def __init__(
        self,
        *,
        port: int | None = None,
        users: Mapping[str, str] | None = None,
        acl: str | None = None,
        persistence: bool = False,
        max_inflight: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """`users` (name: password) switches anonymous access off; `options` are further lines of mosquitto.conf."""
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self._users = dict(users or {})
        self._acl = acl
        self._persistence = persistence
        self._max_inflight = max_inflight
        self._options = list(options)
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """mqtt://127.0.0.1:port"""
        return f"mqtt://{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        """The process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def log_text(self) -> str:
        """What the broker logged since the context was entered."""
        path = self._home / "mosquitto.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def _home(self) -> Path:
        if self._folder is None:
            raise RuntimeError("Mosquitto is used outside its `with` block")
        return self._folder

    def start(self) -> None:
        """Start the process and return when it accepts connections."""
        if self.running:
            return
        with (self._home / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_program("mosquitto"), "-c", str(self._home / "mosquitto.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_ready(self._process)

    def stop(self) -> None:
        """SIGTERM: an orderly end, persisted where persistence is on."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: a crash."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start on the same port."""
        self.stop()
        self.start()

    def change(
        self,
        *,
        options: Sequence[str] | None = None,
        acl: str | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        """Replace what is given and restart."""
        self._users = self._users if users is None else dict(users)
        self._options = self._options if options is None else list(options)
        self._acl = self._acl if acl is None else acl
        self.stop()
        self._write_config()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nobody answers, as with a half-open link. End it with `go_on`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT: undo `pause`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="mosquitto-"))
        try:
            self._write_config()
            self.start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self.go_on()
        self.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"mosquitto ended with {process.returncode}:\n{self.log_text}")
            try:
                socket.create_connection((self.host, self.port), timeout=1.0).close()
            except OSError:
                if time.monotonic() >= deadline:
                    self.kill()
                    raise RuntimeError(f"mosquitto is not ready on port {self.port}:\n{self.log_text}") from None
                time.sleep(0.01)
            else:
                return

    def _write_config(self) -> None:
        lines = [
            f"listener {self.port} {self.host}",
            f"allow_anonymous {'false' if self._users else 'true'}",
            "log_dest stderr",
            "log_type all",
            "max_queued_messages 0",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # else Mosquitto drops its rights and cannot read this folder
        if self._max_inflight is not None:
            lines.append(f"max_inflight_messages {self._max_inflight}")
        if self._persistence:
            lines += ["persistence true", f"persistence_location {self._home}/", "autosave_interval 1"]
        if self._users:
            lines.append(f"password_file {self._write_passwords()}")
        if self._acl is not None:
            acl = self._home / "acl"
            acl.write_text(self._acl)
            acl.chmod(0o600)
            lines.append(f"acl_file {acl}")
        (self._home / "mosquitto.conf").write_text("\n".join([*lines, *self._options, ""]))

    def _write_passwords(self) -> Path:
        path = self._home / "passwords"
        path.touch(mode=0o600)
        for name, password in self._users.items():
            subprocess.run(
                [find_program("mosquitto_passwd"), "-b", str(path), name, password], check=True, capture_output=True
            )
        return path
