"""Runs a program in a process of its own that starts with its libraries imported.

PyTorch, pandas and Snakemake take seconds to import. Here a server imports them once, and each run is a fork of it, in
which the program itself, the package included, is imported and runs as it would anywhere.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

LIBRARIES = (
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "pandas",
    "pyarrow",
    "pytest",
    "scipy.optimize",
    "scipy.stats",
    "snakemake.cli",
    "torch",
)
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(list(LIBRARIES))


def run(
    program: str,
    *arguments: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    together: bool = False,
    timeout: float = 900,
) -> subprocess.CompletedProcess:
    """Call the function `program`, 'module:name', with the arguments of a command line; what it writes and its status
    are those of subprocess.run, with `together` both streams in stdout. Its modules are first sought where the
    environment's PYTHONPATH says."""
    environment = dict(os.environ if environment is None else environment)
    with tempfile.TemporaryDirectory() as scratch:
        output, errors = Path(scratch, "stdout"), Path(scratch, "stderr")
        streams = (str(output), str(output if together else errors))
        given = (program, arguments, str(folder or Path.cwd()), environment, streams)
        process = _SERVER.Process(target=_call, args=given)
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired([program, *arguments], timeout, output.read_text())
        told = None if together else errors.read_text()
        return subprocess.CompletedProcess([program, *arguments], process.exitcode, output.read_text(), told)


def _call(
    program: str, arguments: tuple[str, ...], folder: str, environment: dict[str, str], streams: tuple[str, str]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, path in enumerate(streams, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    module, _, name = program.partition(":")
    sys.argv = [module.partition(".")[0], *arguments]
    getattr(importlib.import_module(module), name)()
