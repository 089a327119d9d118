"""The file in which users define networks of their own: its text, its digest, and how messages call it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from phasevae.errors import InputError


@dataclass(frozen=True)
class NetworkFile:
    """A Python file with a function that builds an encoder and a decoder.

    Attributes
    ----------
    name : str
        Name of the file, without its folder. It is no part of a point's identity.
    build : str
        Name of the function.
    text : str
        Content of the file.
    """

    name: str
    build: str
    text: str

    @classmethod
    def read(cls, path: Path | str, build: str = "build") -> NetworkFile:
        """Read the file. Raises InputError that names it if it is missing or no text."""
        path = Path(path).expanduser()
        try:
            return cls(path.name, build, path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None

    @property
    def sha256(self) -> str:
        """sha256 (hex) of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def label(self) -> str:
        """The file and the function, as messages name them."""
        return f"{self.name}: {self.build}()"
