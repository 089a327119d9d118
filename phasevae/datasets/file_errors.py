"""What every reader of files does about damage, missing libraries and sizes: one line."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phasevae.errors import InputError


@contextmanager
def damage_named(path: Path, content: str) -> Iterator[None]:
    """Turn whatever a library raises while it reads a file into an `InputError`.

    Parsers of binary formats raise too many kinds of errors to list them.

    Parameters
    ----------
    path : Path
    content : str
        What the file should be, such as ".npy file of numbers".
    """
    try:
        yield
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{path}: does not fit into memory") from None
    except Exception as error:
        article = "an" if content[0] in "aeiou" else "a"
        raise InputError(f"{path}: not {article} {content}, or damaged ({first_line(error)})") from None


def first_line(error: Exception, most: int = 200) -> str:
    """Return the first line of an error's message in printable characters, at most `most` of them."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = "".join(letter if letter.isprintable() else "?" for letter in lines[0].rstrip(":"))
    return line if len(line) <= most else line[:most] + "..."


def needed(path: Path, module: str) -> Any:
    """Import the library that reads a file.

    Parameters
    ----------
    path : Path
        The file, for the message.
    module : str
        Name of the library.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"{path}: needs {module}, which is not installed (pip install 'phasevae[formats]')") from None


def check_memory(path: Path, n_bytes: float) -> None:
    """Raise `InputError` for content that is read as a whole and takes more than half of the memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if n_bytes > memory / 2:
        raise InputError(
            f"{path}: takes {_gigabytes(n_bytes)} when it is read, must be at most {_gigabytes(memory / 2)}, half of "
            "the memory (a .npy file is read in parts)"
        )


def _gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.3g} GiB"
