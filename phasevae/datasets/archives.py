"""The files of a folder, zip or tar archive, read once from front to back, with damage detected."""

from __future__ import annotations

import hashlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from phasevae.artifacts.files import file_sha256
from phasevae.datasets.base import file_name
from phasevae.errors import InputError

_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError, NotImplementedError)
_ENCRYPTED = 1  # bit of a member's flags
SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".tbz2", ".xz", ".txz")
"""Endings of the names of archives. Whether a file is an archive is decided by its content."""


def members(path: Path, selected: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the regular files in a folder or archive, in the order of storage.

    Hidden files and those of __MACOSX folders are skipped.

    Parameters
    ----------
    path : Path
    selected : function
        Whether to read a file, by its name.

    Raises
    ------
    InputError
        If `path` does not exist, is no archive, or is truncated or damaged.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        yield from _folder_members(path, selected)
        return
    reader = _zip_members if zipfile.is_zipfile(path) else _tar_members
    try:
        yield from reader(path, selected)
    except _DAMAGE as error:
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
        digest.update(f"{name}\0{file_sha256(path / name)}\n".encode())
    return {"folder": file_name(path), "n_files": len(names), "sha256": digest.hexdigest()}


def _folder_members(folder: Path, selected: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and _visible(name) and selected(name):
            yield name, path.read_bytes()


def _zip_members(path: Path, selected: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir() or not _visible(info.filename) or not selected(info.filename):
                continue
            if info.flag_bits & _ENCRYPTED:
                raise InputError(f"{path}: {info.filename} is encrypted, must be without a password")
            yield info.filename, archive.read(info)


def _tar_members(path: Path, selected: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path, "r:*") as archive:
        for info in archive:
            if info.isfile() and _visible(info.name) and selected(info.name):
                yield info.name, archive.extractfile(info).read()
            # A TarFile remembers every member, which is slow and large for many small files.
            archive.members = []
        _check_tar_end(archive)


def _check_tar_end(archive: tarfile.TarFile) -> None:
    """Raise an error for an archive that ends between two members, which tarfile accepts.

    A whole archive has a block of zeros at its end. The compressed stream is read to its end, where its checksum is.
    """
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("unexpected end of data")
    while archive.fileobj.read(2**20):
        pass


def _visible(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__
