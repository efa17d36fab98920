"""Unpacked bytes of a .spz, as many as are asked for: gzip members of versions 2 and 3, Zstandard frames of version 4.

However far a stream would unpack, no more of it is than was asked for.
"""

import io
import struct
import zlib
from io import BufferedIOBase
from pathlib import Path

import zstandard

from splatdistill.errors import UserError

ENTRY = struct.Struct("<QQ")  # of version 4's table of streams: bytes packed, bytes unpacked
WINDOW = 1 << 27  # bytes that a frame of Zstandard may look back, as its own command line allows


class Inflated:
    """Gzip members one after the other, as pigz and those who append write them, that give so many bytes and no more,
    however far they would go on.
    """

    def __init__(self, path: Path, file: BufferedIOBase, size: int) -> None:
        self.path, self.file, self.size = path, file, size
        self.stream, self.waiting = zlib.decompressobj(wbits=31), b""

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes; UserError if there are fewer."""
        out = bytearray()
        try:
            while len(out) < size:
                self.waiting = self.waiting or self.file.read(1 << 16)
                if not self.waiting:
                    break
                if self.stream.eof:
                    self.waiting = self.waiting.lstrip(b"\0")  # zeros may fill up what is between members
                    if not self.waiting:
                        continue
                    if self.waiting[:1] != b"\x1f":
                        break
                    self.stream = zlib.decompressobj(wbits=31)
                out += self.stream.decompress(self.waiting, size - len(out))
                self.waiting = self.stream.unused_data if self.stream.eof else self.stream.unconsumed_tail
        except zlib.error as error:
            raise UserError(f"{self.path} is not a .spz that can be read: not gzip, or damaged ({error})") from error
        if len(out) < size:
            raise UserError(f"{self.path} is truncated or its header wrong: {size} bytes were to come, {len(out)} did")
        return bytes(out)


class Frames:
    """Streams of version 4, each a frame of Zstandard for one attribute; `take` gives a whole stream."""

    def __init__(self, path: Path, file: BufferedIOBase, size: int, table: int, count: int) -> None:
        """Read the table of streams, which begins at byte `table`; the streams lie behind it in order."""
        self.path, self.size = path, size
        self.entries = self._table(file, table, count)
        self.file = file

    def _table(self, file: BufferedIOBase, at: int, count: int) -> list[tuple[int, int]]:
        file.seek(at)
        data = file.read(ENTRY.size * count)
        entries = list(ENTRY.iter_unpack(data)) if len(data) == ENTRY.size * count else []
        if len(entries) != count or sum(packed for packed, _ in entries) > self.size - at - len(data):
            raise UserError(f"{self.path} is truncated or its header wrong: its {count} streams do not fit into {self.size} bytes")
        return entries[::-1]

    def take(self, size: int) -> bytes:
        """Return the next stream, which has `size` bytes; nothing where none is asked for. UserError if it is another."""
        if not size:
            return b""
        packed, plain = self.entries.pop() if self.entries else (0, 0)
        if plain != size:
            raise UserError(f"{self.path} is truncated or its header wrong: {size} bytes were to come, its table says {plain}")
        try:
            with zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(io.BytesIO(self.file.read(packed))) as stream:
                out = stream.read(size)
        except (zstandard.ZstdError, MemoryError) as error:
            raise UserError(f"{self.path} is not a .spz that can be read: a stream of it is damaged ({error})") from error
        if len(out) < size:
            raise UserError(f"{self.path} is truncated or its header wrong: {size} bytes were to come, {len(out)} did")
        return out
