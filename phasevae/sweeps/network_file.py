"""Networks that users define themselves: the file, its digest, and what of it identifies a trained point."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from phasevae.datasets.sample_shape import SampleShape
from phasevae.errors import InputError
from phasevae.sweeps.function_uses import FunctionUses, mark_of


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
    function : callable, optional
        The function itself, where it was given in Python.
    """

    name: str
    build: str
    text: str
    function: Callable[..., Any] | None = field(default=None, compare=False, repr=False)

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

    @classmethod
    def of_function(cls, function: Callable[..., Any]) -> NetworkFile:
        """The file that defines a function; of a function that is typed in, its own source.

        The values of constants that it uses are added, and marks of this process for what the text does not tell: no
        other process takes such points for those of another function. See docs/guide/sweep.md.
        """
        name = getattr(function, "__name__", type(function).__name__)
        try:
            path = inspect.getsourcefile(function)
            in_file = path is not None and Path(path).is_file()
            text = Path(path).read_text(encoding="utf-8") if in_file else inspect.getsource(function)
        except (OSError, TypeError, UnicodeDecodeError):
            path, in_file, text = None, False, ""
        uses = FunctionUses(function, in_file)
        lines = [f"# {place} = {value}\n" for place, value in sorted(uses.values.items())]
        lines += [f"# {place}: not in the source ({mark})\n" for place, mark in sorted(uses.marks.items())]
        if not text and not uses.marks:
            lines.append(f"# {name}: has no source ({mark_of(function)})\n")
        text = "".join(lines) + text
        return cls(Path(path).name if in_file else name, name, text, function)

    @property
    def sha256(self) -> str:
        """sha256 (hex) of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def label(self) -> str:
        """The file and the function, as messages name them."""
        return f"{self.name}: {self.build}()"


class NetworkSpec(BaseModel):
    """A user's networks for the samples of a data set: what the settings of a training hold of them.

    The digest of a point covers the content of the file, the name of the function and the shape of a sample. Read back
    from the record of a point it has no file, and no networks can be built from it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    build: str
    sha256: str
    input_shape: tuple[int, ...]
    channels_last: bool = False
    file: NetworkFile | None = Field(None, exclude=True, repr=False)

    @classmethod
    def of(cls, file: NetworkFile, sample: SampleShape) -> NetworkSpec:
        """The networks of a file for samples of a shape."""
        return cls(
            build=file.build,
            sha256=file.sha256,
            input_shape=sample.shape,
            channels_last=sample.channels_last,
            file=file,
        )

    @property
    def sample(self) -> SampleShape:
        """The shape of a sample."""
        return SampleShape(self.input_shape, self.channels_last)


def network_of(build: Callable[..., Any] | Path | str, name: str = "build") -> NetworkFile:
    """The file of networks that are given in Python: a function, or FILE:NAME; FILE alone for its function `name`.

    Raises InputError for anything else, modules among them, and for a file that is missing.
    """
    is_module = hasattr(build, "state_dict")  # as torch's modules and their classes have; torch may not be loaded
    if callable(build) and not is_module:
        return NetworkFile.of_function(build)
    if not isinstance(build, str | Path):
        what = f"the class {build.__name__}" if isinstance(build, type) else f"of type {type(build).__name__}"
        raise InputError(
            f"build: {what}, must be a function build(input_shape, n_latent) that returns (encoder, decoder), "
            "FILE:NAME or None"
        )
    return NetworkFile.read(*parsed_network(str(build), name))


def parsed_network(text: str, name: str = "build") -> tuple[str, str]:
    """The file and the function that FILE:NAME means; FILE alone means its function `name`."""
    file, colon, build = text.rpartition(":")
    return (file, build) if colon and build.isidentifier() else (text, name)


def chosen_file(settings: Mapping[str, Any]) -> NetworkFile | None:
    """Read the file of the networks that the settings of a data set name; None for the MLP.

    Raises InputError that names a file that is missing.
    """
    network = settings.get("network") or {}
    return NetworkFile.read(network["module"], network.get("build") or "build") if "module" in network else None


def network_content(settings: Mapping[str, Any]) -> str:
    """What of the user's networks counts in a run of the workflow: content and function, "" for the MLP.

    A missing file is left to the command, which names it.
    """
    with contextlib.suppress(InputError):
        if (file := chosen_file(settings)) is not None:
            return f"{file.sha256}:{file.build}"
    return ""


def network_option(settings: Mapping[str, Any]) -> str:
    """The option of the command line for the user's networks, quoted for a shell; "" for the MLP."""
    network = settings.get("network") or {}
    if "module" not in network:
        return ""
    return f"--network {shlex.quote(network['module'] + ':' + (network.get('build') or 'build'))}"
