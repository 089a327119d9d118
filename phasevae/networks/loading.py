"""Run a user's file of networks and call its function; what it raises becomes one line that names file and function."""

from __future__ import annotations

import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

from phasevae.errors import InputError
from phasevae.sweeps.network_file import NetworkFile

_MOST_CHARACTERS = 200
_OF_IMAGES = re.compile(r"unpack|tuple index|conv|pool|\b[234]D\b|unflatten|number of dimensions", re.IGNORECASE)
"""What Python and PyTorch say where networks of images get flat samples."""


def load_function(source: NetworkFile) -> Callable[..., Any]:
    """Run the text of a file and return its function `source.build`.

    The file is run on its own: it may import installed packages, but no file next to it, whose content the digests of
    points would not see.

    Raises
    ------
    InputError
        If the text is no Python, raises an exception, or defines no such function.
    """
    module = ModuleType(f"phasevae_network_{source.sha256[:16]}")
    module.__file__ = source.name
    try:
        code = compile(source.text, source.name, "exec")
    except (SyntaxError, ValueError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
        reason = getattr(error, "msg", None) or error
        raise InputError(f"{source.name}: {line}not Python ({reason})") from None
    # Dataclasses and others look their module up.
    sys.modules[module.__name__] = module
    with own_code(source, source.name), reproducible(0):
        exec(code, module.__dict__)
    function = getattr(module, source.build, None)
    if not callable(function):
        raise InputError(
            f"{source.name}: has no function '{source.build}', must define {source.build}(input_shape, n_latent)"
        )
    return function


def call_build(
    function: Callable[..., Any], source: NetworkFile, seed: int, arguments: tuple[Any, ...], **optional: Any
) -> Any:
    """Call the user's function with random numbers of a seed.

    Parameters
    ----------
    function : callable
    source : NetworkFile
        The file of the function, for messages.
    seed : int
        Seed of torch's random numbers while the function runs.
    arguments : tuple
        What every function takes, the shape of a sample first.
    **optional
        What is given only to a function that has a parameter of this name.

    Raises
    ------
    InputError
        If the function raises an exception.
    """
    with own_code(source, source.label, arguments[0]), reproducible(seed):
        known = inspect.signature(function).parameters
        return function(*arguments, **{key: value for key, value in optional.items() if key in known})


@contextmanager
def own_code(source: NetworkFile, place: str, shape: tuple[int, ...] = ()) -> Iterator[None]:
    """Turn any exception of the user's code into an InputError of one line, with the line of the file it came from.

    Parameters
    ----------
    source : NetworkFile
    place : str
        What the message begins with.
    shape : tuple of int
        Shape of a sample, where the code has to do with it: code for images fails on flat rows.
    """
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == source.name]
        where = f" in line {lines[-1]}" if lines else ""
        said = " ".join(str(error).split())
        said = f" ({said[:_MOST_CHARACTERS]}{'...' if len(said) > _MOST_CHARACTERS else ''})" if said else ""
        hint = "; a file of networks stands alone: it may import installed packages only" * isinstance(
            error, ImportError
        )
        if len(shape) == 1 and _OF_IMAGES.search(str(error)):
            hint = (
                f"; a sample has the shape {shape}, and images need (channels, height, width): they come from kind "
                "images, or from kind array with a file of shape [samples, channels, height, width]"
            )
        raise InputError(f"{place}: raised {type(error).__name__}{where}{said}{hint}") from None


@contextmanager
def reproducible(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's random numbers, on a device as well; restore their state, and torch's default type, at the end."""
    dtype = torch.get_default_dtype()
    try:
        with torch.random.fork_rng([device] if device is not None and device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_default_dtype(dtype)
