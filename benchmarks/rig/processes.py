"""The processes of a benchmark: started on their core, watched through /proc, ended with the benchmark.

The gateway (or the script that it is compared with) has a core of its own; load server, broker and receiver share
another. A child dies with this process, however that ends.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

ANSWER_S: Final = 20.0
END_S: Final = 5.0
BYTECODE: Final = Path(__file__).parent.parent / "results" / "bytecode"
_SERVER_PORTS: Final = (10_000, 32_000)
_PR_SET_PDEATHSIG: Final = 1
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_libc = ctypes.CDLL(None, use_errno=True)
_alive: set[Child] = set()


class BenchmarkError(Exception):
    """A benchmark could not be carried out; the message says which part failed and how."""


class Cores(NamedTuple):
    """Where the two sides run."""

    measured: int
    load: int

    @classmethod
    def available(cls) -> Cores:
        """The first two cores that we may use, or one twice."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[1] if len(cores) > 1 else cores[0])


CORES: Final = Cores.available()


class Usage(NamedTuple):
    """What a process has used since its start."""

    cpu_s: float
    rss: int
    """bytes"""
    written: int
    """bytes that reached the storage layer"""


class Child:
    """A process on a core. As a context manager it is ended, with everything it started, on leaving."""

    def __init__(self, name: str, command: Sequence[str], core: int, log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment(),
                start_new_session=True,
                preexec_fn=lambda: _prepare(core),  # noqa: PLW1509 - this process has one thread
            )
        _alive.add(self)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ask(self, line: str | None = None) -> Any:
        """Send a line (None: nothing) and return the JSON that comes next."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            if line is not None:
                stdin.write(line + "\n")
                stdin.flush()
            if not select.select([stdout], [], [], ANSWER_S)[0]:
                raise BenchmarkError(f"{self.name} does not answer")
            answer = stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise BenchmarkError(f"{self.name} has ended:\n{self.log_tail()}")
        return json.loads(answer)

    def usage(self) -> Usage:
        """CPU, memory and writes of the process with all its threads."""
        proc = Path("/proc") / str(self.pid)
        try:
            stat = (proc / "stat").read_text().rpartition(")")[2].split()
            pages = int((proc / "statm").read_text().split()[1])
            written = _io_written(proc)
        except (OSError, IndexError) as error:
            raise BenchmarkError(f"{self.name} has ended:\n{self.log_tail()}") from error
        return Usage((int(stat[11]) + int(stat[12])) * _TICK_S, pages * os.sysconf("SC_PAGESIZE"), written)

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def log_tail(self) -> str:
        """The end of what it said."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def kill(self) -> None:
        """SIGKILL, with everything it started: the power fails."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """Ask it to end, then make it, with everything it started."""
        _alive.discard(self)
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class Bench:
    """A folder on disk and the processes of one workload; everything goes away on leaving."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="edge-gateway-bench-"))
        self._children: list[Child] = []
        self.broker_port = 0

    def start(self, name: str, command: Sequence[str], core: int) -> Child:
        """Start a process."""
        child = Child(name, command, core, self.folder / f"{name}.log")
        self._children.append(child)
        return child

    def python(self, name: str, module: str, *arguments: object, core: int | None = None) -> Child:
        """Start a module of ours, on the load core unless told; its first line is still to be asked for."""
        command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
        return self.start(name, command, CORES.load if core is None else core)

    def broker(self, *, keeps: bool = False) -> Child:
        """Mosquitto without limits of its own; started once more, it has the port of before.

        `keeps`: what is subscribed to and not yet delivered outlives an orderly end.
        """
        self.broker_port = self.broker_port or free_port()
        config = self.folder / "mosquitto.conf"
        lines = [
            f"listener {self.broker_port} 127.0.0.1",
            "allow_anonymous true",
            *(("persistence true", f"persistence_location {self.folder}/") if keeps else ("persistence false",)),
            "max_queued_messages 0",
            "max_inflight_messages 0",
            "set_tcp_nodelay true",
            "log_type error",
        ]
        if os.geteuid() == 0:
            lines.append("user root")
        config.write_text("\n".join([*lines, ""]))
        child = self.start("broker", [find_program("mosquitto"), "-c", str(config)], CORES.load)
        deadline = time.monotonic() + 10
        while not _answers(self.broker_port):
            if time.monotonic() > deadline or not child.running():
                raise BenchmarkError(f"mosquitto does not start:\n{child.log_tail()}")
            time.sleep(0.02)
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            child.end()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that was free a moment ago.

    None of those that the kernel gives to clients: one of them could take it while the server on it is away.
    """
    while True:
        port = random.randrange(*_SERVER_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def find_program(name: str) -> str:
    """Path of an installed program; sbin folders count, though they are often missing from a user's PATH."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    if (found := shutil.which(name, path=path)) is None:
        raise BenchmarkError(f"{name} is not installed: apt-get install mosquitto")
    return found


def core_busy_s(core: int) -> float:
    """Seconds for which a core has been busy since boot, whoever it was."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _, _, irq, softirq, *_ = map(int, ticks)
            return (user + nice + system + irq + softirq) * _TICK_S
    return 0.0


def environment() -> dict[str, str]:
    """Ours, but compiled modules are kept, as an installed package has them."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(BYTECODE)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def _prepare(core: int) -> None:
    """In the child: its core, and the end of this process is its end."""
    os.sched_setaffinity(0, {core})
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _io_written(proc: Path) -> int:
    for line in (proc / "io").read_text().splitlines():
        key, _, value = line.partition(": ")
        if key == "write_bytes":
            return int(value)
    return 0


def _end_all() -> None:
    for child in list(_alive):
        child.end()


atexit.register(_end_all)
