"""Frames: commits that are not in the data file yet, as they lie in the ring (docs/log-format.md, Ring). Pure: no I/O.

A frame is a run of pages. Each page has its own checksum and says which round of which session wrote it, so that what
an older round left, a page that was torn, and a page that was lost while later ones were kept can be told apart.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import zstandard

from gateway.log import blocks
from gateway.log.blocks import Held, Source
from gateway.log.errors import LogCorruptError, LogFormatError
from gateway.log.records import Segment

PAGE: Final = 4096
"""what the page cache writes, whatever has changed in it"""
MAGIC: Final = b"EGR1"
FORMAT: Final = 1
LEVEL: Final = 9
"""of zstd's; 15 makes 1.5 % fewer bytes and the same number of pages, for six times the processor time"""
WINDOW_LOG: Final = 20
"""commits of about two minutes at 1,000 readings/s"""
TABLE_LOG: Final = 18
"""of zstd's tables: a round has hardly more to remember; its own choice takes 11 MB in place of 2 and finds no more"""

_PAGE: Final = struct.Struct("<I4s16sIHH")
_FRAME: Final = struct.Struct("<IIQIIIHH")
_CRC: Final = 4
_ROOM: Final = PAGE - _PAGE.size
_FRESH: Final = 1
"""flag: compressed without what came before"""


class Beginning(NamedTuple):
    """The first frame of a session."""

    previous: bytes
    """id of the session before it"""


class Commit(NamedTuple):
    """The segments of one commit."""

    held: list[Held]
    segments: list[Segment]

    @property
    def position(self) -> int:
        """Of the first segment."""
        return self.held[0].position

    @property
    def end(self) -> int:
        """The position after the last one."""
        return self.held[-1].position + 1


@dataclass(slots=True)
class Found:
    """What a ring holds: the frames of its newest round, as far as they follow each other whole."""

    session: bytes = b""
    """that wrote it; empty: nothing in it is ours"""
    round: int = 0
    """the newest of any session"""
    previous: bytes | None = None
    """id of the session before, where the round is the first of its session"""
    commits: list[Commit] = field(default_factory=list)
    torn: bool = False
    """behind its end there are pages of this round, or of a newer one: a frame was not finished, or is damaged"""
    lost: bool = False
    """a whole frame of this round comes after one that is not whole"""


class Chain:
    """The frames of one round, one after the other, each compressed with those before it in view."""

    def __init__(self, session: bytes, round: int) -> None:
        """`session` is 16 bytes."""
        self.page = 0
        """where the next frame goes"""
        self._session = session
        self._round = round
        self._stream: zstandard.ZstdCompressionObj | None = None
        self._made = 0
        """pages of the frame that was made last, until it is known to be written"""

    def beginning(self, previous: bytes) -> bytes:
        """The frame that opens a session."""
        return self._paged(previous, 0, 0, 0, 0, _FRESH)

    def commit(self, sources: Sequence[Source]) -> bytes:
        """The frame of a commit of at least one segment; `written` says that it is where it belongs."""
        flags = 0
        if self._stream is None or self._made:
            parameters = zstandard.ZstdCompressionParameters.from_level(
                LEVEL, window_log=WINDOW_LOG, hash_log=TABLE_LOG, chain_log=TABLE_LOG
            )
            self._stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
            flags = _FRESH
        tables, raw = blocks.pack(sources)
        packed = self._stream.compress(tables + raw) + self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        return self._paged(packed, sources[0].head.position, len(sources), len(tables), len(raw), flags)

    def written(self) -> None:
        """The frame that was made last is in the ring; without this the next one takes its place."""
        self.page += self._made
        self._made = 0

    def _paged(self, packed: bytes, position: int, segments: int, tables: int, raw: int, flags: int) -> bytes:
        head = _FRAME.pack(0, _FRAME.size + len(packed), position, segments, tables, raw, FORMAT, flags)
        content = zlib.crc32(packed, zlib.crc32(head[_CRC:])).to_bytes(_CRC, "little") + head[_CRC:] + packed
        count = -(-len(content) // _ROOM)
        self._made = count
        pages: list[bytes] = []
        for index in range(count):
            part = content[index * _ROOM : (index + 1) * _ROOM].ljust(_ROOM, b"\0")
            tag = _PAGE.pack(0, MAGIC, self._session, self._round, self.page + index, count - 1 - index)
            page = tag[_CRC:] + part
            pages += (zlib.crc32(page).to_bytes(_CRC, "little"), page)
        return b"".join(pages)


class _Page(NamedTuple):
    whole: bool
    session: bytes
    round: int
    following: int
    """pages of the same frame after this one"""
    content: bytes


def read(ring: bytes) -> Found:
    """The frames in the bytes of a ring. Never fails for what is damaged. Raises LogFormatError for a newer version."""
    pages = [_read_page(ring[at : at + PAGE], at // PAGE) for at in range(0, len(ring), PAGE)]
    newest = max((page for page in pages if page and page.whole), key=lambda page: page.round, default=None)
    if newest is None:
        return Found(torn=any(pages))
    found = Found(newest.session, newest.round)
    end = 0
    decompressor: zstandard.ZstdDecompressionObj | None = None
    while end < len(pages) and (content := _run(pages, end, newest)) is not None:
        frame, decompressor = _read_frame(content, decompressor)
        if frame is None:
            break
        if isinstance(frame, Beginning):
            found.previous = frame.previous
        elif found.commits and found.commits[-1].end != frame.position:
            break
        else:
            found.commits.append(frame)
        end += len(content) // _ROOM
    found.torn = any(_remains(page, newest) for page in pages[end:] if page)
    found.lost = found.torn and any(_begins_frame(pages, at, newest) for at in range(end + 1, len(pages)))
    return found


def _read_page(page: bytes, number: int) -> _Page | None:
    """None for what is no page of a ring; one that has its tag but not its checksum is not whole."""
    if len(page) < PAGE:
        return None
    crc, magic, session, round, found, following = _PAGE.unpack_from(page)
    if magic != MAGIC:
        return None
    whole = zlib.crc32(page[_CRC:]) == crc and found == number
    return _Page(whole, session, round, following, page[_PAGE.size :])


def _remains(page: _Page, newest: _Page) -> bool:
    if page.whole:
        return (page.session, page.round) == (newest.session, newest.round)
    return newest.round <= page.round <= newest.round + 1  # any other number is itself damage


def _run(pages: Sequence[_Page | None], at: int, newest: _Page) -> bytes | None:
    """The content of the pages of the newest round that may be a frame beginning at `at`."""
    first = pages[at]
    run = pages[at : at + 1 + (first.following if first else 0)]
    following = len(run)
    for page in run:
        following -= 1
        if page is None or not page.whole or (page.session, page.round) != (newest.session, newest.round):
            return None
        if page.following != following:
            return None
    return b"".join(page.content for page in run if page)


def _packed(content: bytes) -> bytes | None:
    """What a frame holds; None where it is not what was written."""
    crc, length, *_ = _FRAME.unpack_from(content)
    if not _FRAME.size <= length <= len(content) or zlib.crc32(content[_CRC:length]) != crc:
        return None
    return content[_FRAME.size : length]


def _begins_frame(pages: Sequence[_Page | None], at: int, newest: _Page) -> bool:
    content = _run(pages, at, newest)
    return content is not None and _packed(content) is not None


def _read_frame(
    content: bytes, decompressor: zstandard.ZstdDecompressionObj | None
) -> tuple[Beginning | Commit | None, zstandard.ZstdDecompressionObj | None]:
    """A frame, None where it is not what was written, and what the next one is decompressed with."""
    _, _, position, segments, tables, raw, version, flags = _FRAME.unpack_from(content)
    packed = _packed(content)
    if packed is None:
        return None, None
    if version != FORMAT:
        raise LogFormatError(
            f"ring format {version} found, this version reads {FORMAT}; "
            "use the version that wrote this log, or a newer one"
        )
    if not segments:
        return Beginning(packed), None
    if flags & _FRESH:
        decompressor = zstandard.ZstdDecompressor().decompressobj()
    if decompressor is None:
        return None, None
    try:
        unpacked = decompressor.decompress(packed)
        commit = Commit(*blocks.unpack(unpacked[:tables], unpacked[tables : tables + raw]))
    except (zstandard.ZstdError, LogCorruptError):
        return None, None
    if len(commit.held) != segments or commit.position != position:
        return None, None
    return commit, decompressor
