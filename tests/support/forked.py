"""Gateways that start without Python's imports: forked from a process that has made them.

Imports are nearly all of what a start costs, 3 s of CPU, and nothing in them depends on what a crash left behind:
campaigns of many lives spend their time on what does. Everything from the first line of `edge-gateway run` is the real
thing.

    python -m tests.support.forked        # one life after the other, as its standard input says
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from gateway.commands.main import main
from tests.support.rig import GatewayProcess, Process

_MODULES: Final = ("gateway.commands.run", "adapters.modbus.poll", "adapters.opcua.adapter")
"""with all that they import; the adapters' are imported when a device is built"""


class Life:
    """One forked process, with what a `Popen` has of it."""

    def __init__(self, pid: int, answers: IO[bytes]) -> None:
        self.pid = pid
        self._answers = answers
        self._code: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit code, negative the signal; None = it lives. On any thread."""
        with self._lock:
            if self._code is None and select.select([self._answers], [], [], 0.0)[0]:
                self._code = int(self._answers.readline())
            return self._code

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended. Raises TimeoutExpired."""
        if self._code is None and not select.select([self._answers], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("a forked gateway", timeout or 0.0)
        while (code := self.poll()) is None:
            pass
        return code

    def send_signal(self, number: int) -> None:
        """A signal; nothing where it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended, and we have not been told
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """Starts one life at a time; context manager."""

    def __init__(self, **environment: str) -> None:
        """`environment` adds to this process's own, for all lives."""
        self.environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, arguments: Sequence[str], output: Path) -> Life:
        """`edge-gateway` with these arguments; `output` takes what it says. Wait for one before you start the next."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([list(arguments), str(output)]).encode() + b"\n")
        process.stdin.flush()
        return Life(int(process.stdout.readline()), process.stdout)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **self.environment},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()


class ForkedGateway(GatewayProcess):
    """A gateway process whose lives are forked, but where `cold` says that the next one makes its imports itself."""

    def __init__(self, folder: Path, devices: Sequence[Mapping[str, Any]], server: ForkServer, **gateway: Any) -> None:
        """`gateway`: see `GatewayProcess`."""
        super().__init__(folder, devices, **gateway)
        self.cold = False
        self._server = server

    def _spawn(self, output: Path, environment: Mapping[str, str]) -> Process:
        if self.cold:
            return super()._spawn(output, {**self._server.environment, **environment})
        return self._server.start(["run", str(self.config)], output)


def serve() -> None:
    """Make the imports; then, for each line of standard input: fork, say the process's id, and its exit code."""
    for module in _MODULES:
        importlib.import_module(module)
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: F401, PLC0415 - optional
    for line in sys.stdin.buffer:
        arguments, output = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(Path(output))
            sys.exit(main(arguments))
        os.write(1, b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(1, b"%d\n" % os.waitstatus_to_exitcode(status))


def _become(output: Path) -> None:
    """Standard streams as a service has them."""
    null, said = os.open(os.devnull, os.O_RDONLY), os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for number, file in enumerate((null, said, said)):
        os.dup2(file, number)
    os.close(null)
    os.close(said)


if __name__ == "__main__":
    serve()
