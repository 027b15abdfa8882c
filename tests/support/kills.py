"""A child process that is killed while it works, and what it had said until then."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.wait import eventually_sync

ROOT = Path(__file__).resolve().parents[2]


def killed_child(module: str, folder: Path, out: Path, chance: random.Random, **environment: str) -> list[str]:
    """Run `python -m module folder`, SIGKILL it up to 0.3 s after its first line, and return its whole lines.

    `out` takes what it prints; the last line may be cut and then does not count. `environment` adds to this
    process's own.
    """
    with out.open("wb") as file:
        command = [sys.executable, "-m", module, str(folder)]
        child = subprocess.Popen(command, stdout=file, cwd=ROOT, env={**os.environ, **environment})
        try:
            eventually_sync(lambda: b"\n" in out.read_bytes() or child.poll() is not None, 60)
            assert child.poll() is None, "the child ended by itself"
            # A random moment, not a wait for something.
            until = time.monotonic() + chance.uniform(0.0, 0.3)
            eventually_sync(lambda: time.monotonic() >= until)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
    return out.read_text().split("\n")[:-1]
