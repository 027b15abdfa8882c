"""From points to few block reads, and from a refused block to the address that the device refuses. Pure.

Limits of one request are the protocol's (`address`), or the device's own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from typing import NamedTuple

from adapters.modbus.address import MOST_BITS, MOST_REGISTERS, CellRange, Table

BITS_PER_REGISTER = 16


class Span(NamedTuple):
    """Cells that belong to one value and are read in one request or not at all."""

    start: int
    """PDU address, from 0"""
    cells: int
    """registers or bits"""
    key: int
    """the caller's number for the value"""

    @property
    def end(self) -> int:
        """First address after it."""
        return self.start + self.cells


class Block(NamedTuple):
    """One request: `cells` registers or bits of `table` from `start`, with the spans that are taken from its reply."""

    table: Table
    start: int
    cells: int
    spans: tuple[Span, ...]

    def __str__(self) -> str:
        name = self.table.name.lower()
        return f"{name} {self.start}" if self.cells == 1 else f"{name} {self.start} to {self.start + self.cells - 1}"


class Limits(NamedTuple):
    """What one request may hold, and how many unasked registers may be read to save a request."""

    max_registers: int = MOST_REGISTERS
    max_bits: int = MOST_BITS
    max_gap: int = 8

    def of(self, table: Table) -> tuple[int, int]:
        """(most cells in a request, widest gap in cells) for `table`."""
        if table.is_bits:
            return self.max_bits, self.max_gap * BITS_PER_REGISTER
        return self.max_registers, self.max_gap


def plan(table: Table, spans: Iterable[Span], limits: Limits, holes: Iterable[CellRange] = ()) -> list[Block]:
    """Cover every span by exactly one block, in order of address, the same for the same input.

    `holes` are never read, not to merge two requests either. No span may be larger than a request or touch a hole;
    the config's check sees to that.
    """
    forbidden = sorted(hole.first for hole in holes if hole.table is table)
    most, gap = limits.of(table)
    blocks: list[Block] = []
    members: list[Span] = []
    end = 0
    for span in sorted(spans):
        if members and (
            span.start - end > gap
            or max(end, span.end) - members[0].start > most
            or bisect_left(forbidden, end) != bisect_left(forbidden, span.start)
        ):
            blocks.append(_block(table, members))
            members = []
        end = max(end, span.end) if members else span.end
        members.append(span)
    if members:
        blocks.append(_block(table, members))
    return blocks


class Isolation(NamedTuple):
    """What a refused block turned out to be: blocks that the device serves, and blocks that it refuses."""

    good: list[Block]
    refused: list[Block]


def isolate(block: Block, budget: int = 40) -> Generator[Block, bool, Isolation]:
    """Bisect a refused block: yields blocks to try, is sent whether the device served them, returns the result.

    Widest pieces are tried first, so that most points are read again soonest. After `budget` tries what is still in
    doubt counts as refused, in as large pieces as it then has; it can be isolated further at its next retry. Served
    neighbours with nothing refused in between are joined again if one more try shows that the device allows it: an
    illegal address costs one extra request a cycle, not seven. Halves that are served while the whole is not reveal a
    limit on the size of requests, or a hole between the points; they stay apart.
    """
    refused: list[Block] = []
    served: list[Block] = []
    doubtful = deque(_halves(block) or [])
    if not doubtful:
        return Isolation([], [block])
    while doubtful and budget > 0:
        piece = doubtful.popleft()
        budget -= 1
        if (yield piece):
            served.append(piece)
        elif halves := _halves(piece):
            doubtful.extend(halves)
        else:
            refused.append(piece)
    refused.extend(doubtful)
    good: list[Block] = []
    for run in _runs(served, refused):
        whole = _block(block.table, [span for piece in run for span in piece.spans])
        if len(run) > 1 and whole != block and budget > 0:
            budget -= 1
            if (yield whole):
                good.append(whole)
                continue
        good.extend(run)
    return Isolation(good, sorted(refused))


def _runs(served: Sequence[Block], refused: Sequence[Block]) -> list[list[Block]]:
    """Served blocks in order of address, grouped by the refused ones between them."""
    runs: list[list[Block]] = [[]]
    for piece in sorted([*served, *refused]):
        if piece in refused:
            runs.append([])
        else:
            runs[-1].append(piece)
    return [run for run in runs if run]


def _halves(block: Block) -> list[Block] | None:
    """Split between two spans, as near to the middle as can be; None if there is only one place to read."""
    spans = block.spans
    if spans[0][:2] == spans[-1][:2]:
        return None
    cut = len(spans) // 2
    # points that share their cells (the bits of one register) stay together
    while cut > 0 and spans[cut][:2] == spans[cut - 1][:2]:
        cut -= 1
    if cut == 0:
        cut = next(i for i in range(1, len(spans)) if spans[i][:2] != spans[i - 1][:2])
    return [_block(block.table, spans[:cut]), _block(block.table, spans[cut:])]


def _block(table: Table, spans: Sequence[Span]) -> Block:
    start = spans[0].start
    return Block(table, start, max(span.end for span in spans) - start, tuple(spans))
