"""The user's files and folders: whether they can be read, and which files a folder holds."""

from __future__ import annotations

import os
import stat
from collections import deque
from pathlib import Path, PurePosixPath

from phasevae.errors import InputError

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_readable(path: Path) -> None:
    """Raise InputError unless `path` is a regular file or a folder that can be read; links are followed.

    A named pipe or a device is refused before it is opened: opening one may wait for ever.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        missing = "is a link to a file that does not exist" if path.is_symlink() else "no such file or folder"
        raise InputError(f"{path}: {missing}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({_reason(error)})") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path}: is {_KINDS.get(stat.S_IFMT(mode), 'no file')}, must be a regular file or a folder")
    if not os.access(path, os.R_OK | os.X_OK if stat.S_ISDIR(mode) else os.R_OK):
        raise InputError(f"{path}: cannot be read (Permission denied)")


def check_file(path: Path) -> None:
    """Raise InputError unless `path` is a regular file that can be read; links are followed."""
    check_readable(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder, must be a file")


def folder_files(folder: Path) -> list[Path]:
    """Return all files of a folder and its subfolders, sorted by their paths.

    Links are followed, as loaders of class folders do. A folder that is reached in several ways counts once, with its
    shortest path, so that links in a circle end. Hidden files and folders and those named __MACOSX are left out.

    Raises
    ------
    InputError
        If a folder cannot be read.
    """
    seen, pending, files = {_identity(folder)}, deque([folder]), []
    while pending:
        for entry in _entries(pending.popleft()):
            path = Path(entry.path)
            if not _is_folder(path):
                files.append(path)
            elif (identity := _identity(path)) not in seen:
                seen.add(identity)
                pending.append(path)
    return sorted(files)


def is_visible(name: str) -> bool:
    """Return whether no part of a name in a folder or archive is hidden or __MACOSX."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def shown_name(name: str) -> str:
    """Return a name for messages: bytes that are no text, line breaks and control characters become U+FFFD."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)


def _entries(folder: Path) -> list[os.DirEntry]:
    """Visible content of a folder: real files and folders before links, by name."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if is_visible(entry.name)]
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({_reason(error)})") from None
    return sorted(visible, key=lambda entry: (entry.is_symlink(), entry.name))


def _is_folder(path: Path) -> bool:
    """Whether a path is a folder or a link to one; a circle of links is none."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
