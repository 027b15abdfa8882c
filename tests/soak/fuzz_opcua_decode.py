"""Fuzz the OPC UA decoder: `python -m tests.soak.fuzz_opcua_decode --seconds 300` (what `make soak` runs).

Needs nothing but what the tests need, on any machine. Mutates notifications and answers to Reads, those of the corpus
and of every type; inputs with an outcome not seen before are mutated further. What breaks a promise of the decoder is
written into the corpus, so that it is replayed by the unit tests from then on; exit code 1.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import struct
import sys
import time
from pathlib import Path
from typing import Final

from tests.support.opcua_fuzz import (
    CORPUS,
    FindingError,
    check,
    items,
    notification,
    read_response,
    seeds,
    without_handles,
)

_MOST_KEPT: Final = 4000
_SMALL: Final = 400
_NUMBERS: Final = (0, 1, 2, 3, 7, 8, 16, 31, 100, 255, 256, 65535, 65536, 2**31 - 1, -1, -2, -(2**31))
_BYTES: Final = (0, 1, 2, 3, 4, 5, 0x0C, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF)


class Fuzzer:
    """Makes inputs from what was interesting before."""

    def __init__(self, seed: int, corpus: list[bytes]) -> None:
        self._random = random.Random(seed)
        self._items = [item for encoded in items().values() for item in encoded]
        self.pool = corpus

    def next(self) -> bytes:
        """Half of the inputs are whole messages changed anywhere, half are sound ones around changed items."""
        if self._random.random() < 0.5:
            return self._mutated(self._random.choice(self.pool))
        chosen = self._random.choices(self._items, k=self._random.choice((1, 1, 2, 3, 8, 60)))
        changed = self._random.randrange(len(chosen))
        chosen[changed] = self._mutated(chosen[changed])
        if len(chosen) > 8 and self._random.random() < 0.5:
            chosen += [self._random.choice(self._items)] * 60  # a run
        if self._random.random() < 0.5:
            return read_response(without_handles(chosen))
        return notification(chosen)

    def _mutated(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self._random.choice((1, 1, 1, 2, 3, 8))):
            self._mutate(changed)
        return bytes(changed)

    def _mutate(self, data: bytearray) -> None:
        draw = self._random
        at = draw.randrange(len(data) + 1)
        match draw.randrange(8):
            case 0 if at < len(data):
                data[at] = draw.randrange(256)
            case 1 if at < len(data):
                data[at] = draw.choice(_BYTES) | (draw.randrange(32) if draw.random() < 0.5 else 0)
            case 2 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 3:
                data[at : at + 4] = struct.pack("<i", draw.choice(_NUMBERS))
            case 4:
                del data[at : at + draw.choice((1, 4, 8, 30))]
            case 5:
                data[at:at] = data[at : at + draw.choice((1, 6, 30))]
            case 6:
                data[at:at] = draw.choice(self._items)[draw.choice((0, 5)) :]
            case 7:
                del data[at:]


def _corpus(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(folder.glob("*.bin"))]


def _save(folder: Path, kind: str, data: bytes) -> Path:
    file = folder / f"{kind}-{hashlib.sha256(data).hexdigest()[:12]}.bin"
    file.write_bytes(data)
    return file


def fuzz(seconds: float, seed: int, keep: int) -> int:
    """Fuzz for a time; returns the number of findings. Up to `keep` small inputs with new outcomes join the corpus."""
    fuzzer = Fuzzer(seed, [*seeds().values(), *_corpus(CORPUS)])
    seen = {check(data) for data in fuzzer.pool}
    findings: dict[str, bytes] = {}
    executions, kept, end = 0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        data = fuzzer.next()
        executions += 1
        try:
            outcome = check(data, memory=executions % 50 == 0)
        except FindingError as error:
            name = "".join(c for c in str(error)[:80] if not c.isdigit())
            if name not in findings:
                findings[name] = data
                print(f"{_save(CORPUS, 'finding', data)}: {error}", flush=True)
            continue
        if outcome in seen:
            continue
        seen.add(outcome)
        if len(fuzzer.pool) < _MOST_KEPT:
            fuzzer.pool.append(data)
        if kept < keep and len(data) < _SMALL:
            kept += 1
            _save(CORPUS, "found", data)
    print(f"{executions} executions in {seconds:.0f} s, {len(seen)} outcomes, {len(findings)} kinds of findings")
    return len(findings)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=None, help="default: the time, printed")
    parser.add_argument("--keep", type=int, default=0, help="small inputs with new outcomes to add to the corpus")
    arguments = parser.parse_args()
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    return 1 if fuzz(arguments.seconds, seed, arguments.keep) else 0


if __name__ == "__main__":
    sys.exit(main())
