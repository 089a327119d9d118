"""The files of a folder, zip or tar archive, read once from front to back, with damage detected."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from phasevae.artifacts.files import file_sha256
from phasevae.datasets.base import file_name
from phasevae.datasets.bounded import MOST_BYTES, TarBytes, ZipBytes, read_chunks
from phasevae.datasets.files import check_file, folder_files, is_visible, shown_name
from phasevae.errors import InputError

_ENCRYPTED = 1  # bit of a member's flags
_LARGEST_END = 22 + 2**16  # bytes of the last record of a zip archive, with its comment
SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".tbz2", ".xz", ".txz")
"""Endings of the names of archives. Whether a file is an archive is decided by its content."""


def members(path: Path, selected: Callable[[str], bool]) -> Iterator[tuple[str, BinaryIO]]:
    """Yield name and content of the files in a folder or archive, in the order of storage.

    Hidden files and those of __MACOSX folders are skipped. A selected file is its own only member.

    Parameters
    ----------
    path : Path
        A folder or regular file (`phasevae.datasets.base.checked_path`).
    selected : function
        Whether to read a file, by its name.

    Yields
    ------
    str, binary stream
        The stream is open until the next file is asked for.

    Raises
    ------
    InputError
        If a file cannot be read, or `path` is no archive, is truncated or damaged, or expands far beyond its size.
    """
    if path.is_dir():
        yield from _folder_members(path, selected)
        return
    if selected(path.name):
        with path.open("rb") as stream:
            yield path.name, stream
        return
    try:
        yield from (_zip_members if zipfile.is_zipfile(path) else _tar_members)(path, selected)
    except InputError:
        raise
    except Exception as error:  # tarfile and zipfile raise too many kinds to list
        raise InputError(f"{path}: not a zip or tar archive, or truncated or damaged ({_first_line(error)})") from None


def source_of_file(path: Path) -> dict[str, str]:
    """Return the name of a file and the sha256 of its bytes."""
    return {"file": path.name, "sha256": file_sha256(path)}


def source_of(path: Path, names: Sequence[str]) -> dict[str, str | int]:
    """Return name and sha256 of a file or folder.

    Parameters
    ----------
    path : Path
    names : sequence of str
        For a folder: the files in it that were read. The sha256 is that of their sorted names and their bytes.
    """
    if not path.is_dir():
        return source_of_file(path)
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name}\0{file_sha256(path / name)}\n".encode(errors="surrogateescape"))
    return {"folder": file_name(path), "n_files": len(names), "sha256": digest.hexdigest()}


def _folder_members(folder: Path, selected: Callable[[str], bool]) -> Iterator[tuple[str, BinaryIO]]:
    for path in folder_files(folder):
        name = path.relative_to(folder).as_posix()
        if selected(name):
            check_file(path)
            with path.open("rb") as stream:
                yield name, stream


def _zip_members(path: Path, selected: Callable[[str], bool]) -> Iterator[tuple[str, BinaryIO]]:
    with ZipBytes(path) as stream, zipfile.ZipFile(stream) as archive:
        # zipfile passes over members without a word where a length in the directory is damaged.
        if (n_members := _recorded_members(path)) not in (None, len(archive.infolist())):
            raise zipfile.BadZipFile(f"its directory names {len(archive.infolist())} of {n_members} members")
        for info in archive.infolist():
            name = info.filename
            if info.is_dir() or not is_visible(name) or not selected(name):
                continue
            label = f"{path}: {shown_name(name)}"
            if info.flag_bits & _ENCRYPTED:
                raise InputError(f"{label} is encrypted, must be without a password")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # zipfile expands a piece of other kinds at once, however large it becomes.
                raise InputError(f"{label} is compressed by method {info.compress_type}, must be stored or deflated")
            _check_size(label, info.file_size)
            with archive.open(info) as member:
                yield name, read_chunks(member, info.file_size)


def _recorded_members(path: Path) -> int | None:
    """The number of members by the record at the end of a zip archive; None where it has no room for the number."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _LARGEST_END))
        end = stream.read()
    (number,) = struct.unpack_from("<H", end, end.rindex(b"PK\5\6") + 10)
    return None if number == 0xFFFF else number


def _tar_members(path: Path, selected: Callable[[str], bool]) -> Iterator[tuple[str, BinaryIO]]:
    with TarBytes(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        for number, info in enumerate(archive):
            stream.count(number)
            if not info.isdir() and is_visible(info.name) and selected(info.name):
                label = f"{path}: {shown_name(info.name)}"
                if not info.isreg() or info.issparse():
                    what = "a file with holes" if info.issparse() else "a link, a pipe or a device"
                    raise InputError(f"{label} is {what}, must be stored as a whole file")
                _check_size(label, info.size)
                stream.seek(info.offset_data)
                yield info.name, _whole(stream.content(info.size), info.size)
            # A TarFile remembers every member, which is slow and large for many small files.
            archive.members = []
        # tarfile accepts an archive that ends between two members; a whole one has a block of zeros at its end.
        if stream.last != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("unexpected end of data")
        stream.finish()


def _whole(content: io.BytesIO, size: int) -> io.BytesIO:
    if content.getbuffer().nbytes < size:
        raise tarfile.ReadError("unexpected end of data")
    return content


def _check_size(label: str, size: int) -> None:
    if size > MOST_BYTES:
        raise InputError(f"{label} has {size} bytes, must have at most {MOST_BYTES} in an archive")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__
