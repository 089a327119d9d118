"""The launches of a training step on CUDA, which the pages state."""

from __future__ import annotations

import subprocess
import sys

import launch_counts
import pytest

from phasevae.kernels import dispatch


@pytest.mark.skipif(dispatch.backend("cpu") == "torch", reason="needs the native operations")
def test_a_default_step_has_twenty_launches():
    command = [sys.executable, launch_counts.__file__, "--batch", "64"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    totals = [line.split("|")[2].strip() for line in done.stdout.splitlines() if line.startswith("| all |")]
    assert totals == ["20", "20"]
