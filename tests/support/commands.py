"""Commands of the command line, run within the process of the tests."""

from __future__ import annotations

import contextlib
import io
import subprocess
from pathlib import Path

import pytest

from phasevae.cli import main


def phasevae(*arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess:
    """Run a command within this process: a process of its own would take ten times as long to start as to run."""
    words = ["phasevae", *map(str, arguments)]
    printed, errors = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.chdir(folder or Path.cwd()),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
    ):
        patch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as end:
            main.main()
    return subprocess.CompletedProcess(words, end.value.code or 0, printed.getvalue(), errors.getvalue())


def succeed(*arguments: object, folder: Path | None = None) -> str:
    done = phasevae(*arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout
