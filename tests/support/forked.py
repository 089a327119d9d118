"""Runs a program in a process of its own that starts with its libraries imported.

PyTorch, pandas and Snakemake take seconds to import. A server imports them once, and each run is a fork of the server,
in which the program itself, the package included, is imported and runs as it would anywhere. `run` starts a program
from a test, `command` is a line for the shell that starts it as well. The workers of pytest-xdist share a server.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

SHARED = "PHASEVAE_TEST_SERVER"
LIBRARIES = (
    "PIL.Image",
    "fontTools.subset",
    "jsonschema",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "matplotlib.figure",
    "pandas",
    "pyarrow",
    "pytest",
    "rich.console",
    "safetensors.torch",
    "scipy.optimize",
    "scipy.stats",
    "smart_open",
    "snakemake.cli",
    "torch._dynamo",
    "typer",
)


def run(
    program: str,
    *arguments: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    together: bool = False,
    timeout: float = 900,
) -> subprocess.CompletedProcess:
    """Call the function `program`, 'module:name', with the arguments of a command line.

    The result is that of subprocess.run; with `together` both streams are in stdout. The program's modules are first
    searched for in the PYTHONPATH of the environment.
    """
    import subprocess
    import tempfile

    environment = dict(os.environ if environment is None else environment)
    request = [program, arguments, str(folder or Path.cwd()), environment]
    with (
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
        Path(os.devnull).open() as nothing,
    ):
        streams = (nothing, output, output if together else errors)
        with _started(_server(), request, [stream.fileno() for stream in streams]) as connection:
            status = _status(connection, timeout)
        if status is None:
            raise subprocess.TimeoutExpired([program, *arguments], timeout)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(
            [program, *arguments], status, output.read(), None if together else errors.read()
        )


def command(program: str) -> str:
    """A shell command that calls the function `program`, 'module:name'; arguments may follow."""
    return shlex.join([sys.executable, "-I", "-S", __file__, _server(), program])


def share_server() -> Path:
    """Have this process and those that it starts use one server, which ends with this process.

    Returns the server's folder. It holds a pipe that this process keeps open.
    """
    import tempfile

    folder = Path(tempfile.mkdtemp())
    os.mkfifo(folder / "open")
    os.open(folder / "open", os.O_RDWR)
    os.environ[SHARED] = str(folder)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    (folder / "environment").write_text(json.dumps(environment), encoding="utf-8")
    return folder


@functools.cache
def _server() -> str:
    """Address of the server, which is started when it is first needed."""
    import subprocess

    import filelock

    folder = Path(os.environ[SHARED])
    address = folder / "socket"
    with filelock.FileLock(folder / "lock"), (folder / "open").open() as pipe:
        if not address.exists():
            # Not the present one, in which a test may have set what is read at import.
            environment = json.loads((folder / "environment").read_text(encoding="utf-8"))
            arguments = [sys.executable, __file__, str(address)]
            server = subprocess.Popen(arguments, env=environment, stdin=pipe, stdout=subprocess.PIPE)
            assert server.stdout.readline() == b"ready\n"
    return str(address)


def _started(address: str, request: list, streams: list[int]) -> socket.socket:
    """Have the server start a program; returns the connection that brings its process id and its exit status."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    message = json.dumps(request).encode()
    socket.send_fds(connection, [len(message).to_bytes(8, "big")], streams)
    connection.sendall(message)
    return connection


def _status(connection: socket.socket, timeout: float | None = None) -> int | None:
    """Exit status of the program; None if it did not end in time and was killed."""
    process = int.from_bytes(_received(connection, 8), "big")
    connection.settimeout(timeout)
    try:
        return int.from_bytes(_received(connection, 8), "big", signed=True)
    except TimeoutError:
        os.kill(process, signal.SIGKILL)
        return None


def _received(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise ConnectionError("the server of the tests has ended")
        data += part
    return data


def _serve(address: str) -> None:
    """Start programs until the other end of standard input is closed."""
    import gc
    import importlib
    import select

    for library in LIBRARIES:
        importlib.import_module(library)
    sys.modules["snakemake.cli"].get_argument_parser()  # finds the plugins of Snakemake
    gc.collect()
    gc.freeze()  # so that no fork copies the pages of all these objects
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(100)
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _supervise(connection)
        connection.close()
    os._exit(0)


def _supervise(connection: socket.socket) -> NoReturn:
    """Read a request, run its program in a process of its own, and send back how it ended."""
    header, streams, _, _ = socket.recv_fds(connection, 8, 3)
    request = json.loads(_received(connection, int.from_bytes(header, "big")))
    process = os.fork()
    if process == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        _call(*request)
    for stream in streams:
        os.close(stream)
    connection.sendall(process.to_bytes(8, "big"))
    _, status = os.waitpid(process, 0)
    connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))
    os._exit(0)


def _call(program: str, arguments: list[str], folder: str, environment: dict[str, str]) -> NoReturn:
    """Run a program and exit as Python would, without taking the imported libraries apart."""
    import importlib
    import threading
    import traceback

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    module, _, name = program.partition(":")
    sys.argv = [module.partition(".")[0], *arguments]
    try:
        getattr(importlib.import_module(module), name)()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        _serve(sys.argv[1])
    _, socket_path, name_of_program, *given = sys.argv
    asked = [name_of_program, given, str(Path.cwd()), dict(os.environ)]
    with _started(socket_path, asked, [0, 1, 2]) as server:
        ended = _status(server)
    sys.exit(ended if ended >= 0 else 128 - ended)
