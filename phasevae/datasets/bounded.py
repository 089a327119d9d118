"""Reading archives with bounded time and memory, whatever their headers say.

A compressed stream can expand a thousandfold, that of bzip2 a millionfold. What an archive may expand to is therefore
bounded by its size on disk, and no piece that is read into memory at once is larger than `MOST_BYTES`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from pathlib import Path
from typing import BinaryIO

from phasevae.errors import InputError

MOST_BYTES = 256 * 2**20
"""Most bytes of a file in an archive: those of the colours of the largest image that Pillow decodes unasked."""

_FREE_BYTES, _EXPANSION = 2**30, 30
"""An archive of n bytes may expand to _FREE_BYTES + _EXPANSION * n."""

_FREE_MEMBERS, _BYTES_A_MEMBER = 10_000, 64
"""A tar archive of n bytes may hold _FREE_MEMBERS + n / _BYTES_A_MEMBER files."""

_MOST_HEADER, _LINES_A_MEMBER = 2**24, 8
"""Most bytes of a header in a tar archive, and most lines of the headers of a file in the mean."""

_MOST_ENTRIES = 2_000_000
"""Most files of a zip archive: its directory is held in memory, 400 bytes a file."""

_MOST_DIRECTORY = 512 * 2**20
_ENTRY, _ENTRY_BYTES = b"PK\1\2", 46
_CHUNK = 2**18
_XZ_MEMORY = 256 * 2**20


def read_chunks(stream: BinaryIO, size: int) -> io.BytesIO:
    """Return the next `size` bytes, or those up to the end, read in small pieces: no decompressor expands them at once.

    A member of a zip archive is read to its end, where its checksum is verified.
    """
    content = io.BytesIO()
    while content.tell() < size and (piece := stream.read(min(_CHUNK, size - content.tell()))):
        content.write(piece)
    content.seek(0)
    return content


class ZipBytes(io.BufferedReader):
    """The bytes of a zip archive for `zipfile.ZipFile`, which reads the directory in one piece."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1) -> bytes:
        """Return the next `size` bytes. Raises InputError for a directory that is too large."""
        size = -1 if size is None else size
        if size > _MOST_DIRECTORY:
            raise InputError(f"{self.name}: its directory has {size} bytes, must be smaller: unpack it to a folder")
        content = super().read(size)
        if size > _ENTRY_BYTES * _MOST_ENTRIES and content.count(_ENTRY) > _MOST_ENTRIES:
            raise InputError(f"{self.name}: holds more than {_MOST_ENTRIES} files: unpack it to a folder")
        return content


class TarBytes:
    """The uncompressed bytes of a tar archive, from front to back: the file object of `tarfile`.

    Parameters
    ----------
    path : Path
        A tar archive, plain or compressed with gzip, bzip2 or xz.

    Attributes
    ----------
    last : bytes
        What `read` returned last.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        size = path.stat().st_size
        self._most = _FREE_BYTES + _EXPANSION * size
        self._most_members = _FREE_MEMBERS + size // _BYTES_A_MEMBER
        self._header_lines = self._position = 0
        self._file = path.open("rb")
        self._stream = _decompressed(self._file)
        self.last = b""

    def __enter__(self) -> TarBytes:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._file.close()

    def tell(self) -> int:
        """Return the present position."""
        return self._position

    def seek(self, position: int) -> None:
        """Skip to a position after the present one, or to the end of the file."""
        self._check(position)
        while self._position < position and (piece := self._stream.read(min(position - self._position, _CHUNK))):
            self._position += len(piece)

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end: a block of a header."""
        if not 0 <= size <= _MOST_HEADER:
            raise self._suspicious(f"a header in it has {size} bytes")
        self.last = self.content(size).getvalue()
        self._header_lines += self.last.count(b"\n")
        if self._header_lines > _LINES_A_MEMBER * self._most_members:
            raise self._suspicious(f"its headers have more than {self._header_lines} lines")
        return self.last

    def content(self, size: int) -> io.BytesIO:
        """Return the next `size` bytes, fewer at the end."""
        self._check(self._position + size)
        content = read_chunks(self._stream, size)
        self._position += content.getbuffer().nbytes
        return content

    def count(self, n_members: int) -> None:
        """Raise InputError if `n_members` files are more than an archive of this size may hold."""
        if n_members > self._most_members:
            raise self._suspicious(f"holds more than {self._most_members} files")

    def finish(self) -> None:
        """Read a compressed stream to its end, where its checksum is."""
        while self._stream is not self._file and (piece := self._stream.read(_CHUNK)):
            self._position += len(piece)
            self._check(self._position)

    def _check(self, position: int) -> None:
        if position < self._position:
            raise self._suspicious("has a file of negative size")
        if position > self._most:
            raise self._suspicious(f"expands to more than {self._most / 2**30:.1f} GiB")

    def _suspicious(self, what: str) -> InputError:
        size = self._path.stat().st_size
        return InputError(f"{self._path}: {what}, from {size} bytes; must be unpacked to a folder if it is harmless")


def _decompressed(file: io.BufferedReader) -> BinaryIO:
    magic = file.peek(6)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if magic.startswith((b"\xfd7zXZ", b"\x5d\0\0")):
        return io.BufferedReader(_XzBytes(file), _CHUNK)
    return file


class _XzBytes(io.RawIOBase):
    """Decompressed bytes of an xz or lzma file; lzma.LZMAFile has no bound on the memory of its dictionary."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while True:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data.lstrip(b"\0") or self._stream.read(_CHUNK).lstrip(b"\0")
                if not rest:
                    return 0
                self._decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
                content = self._decompressor.decompress(rest, len(buffer))
            else:
                compressed = self._stream.read(_CHUNK) if self._decompressor.needs_input else b""
                if self._decompressor.needs_input and not compressed:
                    raise EOFError("compressed file ended before the end-of-stream marker was reached")
                content = self._decompressor.decompress(compressed, len(buffer))
            if content:
                buffer[: len(content)] = content
                return len(content)
