"""The modes of a native build; the builds themselves are tried by .ci/native."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]

try:
    OLD = int(metadata.version("setuptools").split(".")[0]) < 77
except metadata.PackageNotFoundError:
    OLD = True
pytestmark = pytest.mark.skipif(OLD, reason="needs setuptools 77; `make build` installs it")


@pytest.fixture
def build(tmp_path):
    """Builds a copy of the project in which torch is `torch_source`, or the real one."""

    def run(mode: str, torch_source: str | None = None, **environment: str) -> subprocess.CompletedProcess:
        project = tmp_path / "project"
        for name in ("phasevae", "csrc", "workflow"):
            ignore = shutil.ignore_patterns("__pycache__", "_C.*", "_build_info.json")
            shutil.copytree(ROOT / name, project / name, ignore=ignore)
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, project)
        if torch_source is not None:
            (tmp_path / "modules").mkdir()
            (tmp_path / "modules" / "torch.py").write_text(torch_source)
            environment["PYTHONPATH"] = str(tmp_path / "modules")
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
        environment = {**os.environ, "PHASEVAE_BUILD": mode, **environment}
        return subprocess.run(command, cwd=project, env=environment, check=False, capture_output=True, text=True)

    return run


NO_TORCH = "raise ModuleNotFoundError(\"No module named 'torch'\")\n"


def test_auto_without_torch_leaves_the_kernels_out_and_says_so(build):
    done = build("auto", NO_TORCH)
    assert done.returncode == 0, done.stderr
    assert "phasevae: native kernels left out: torch cannot be imported by the build" in done.stderr


@pytest.mark.parametrize("mode", ["cpu", "cuda"])
def test_a_strict_mode_without_torch_fails_with_a_line(build, mode):
    done = build(mode, NO_TORCH)
    assert done.returncode == 1
    assert done.stderr.startswith(f"PHASEVAE_BUILD={mode}: torch cannot be imported by the build")
    assert "Traceback" not in done.stderr


def test_off_asks_for_nothing(build):
    done = build("off", "raise SystemExit('torch was imported')\n")
    assert done.returncode == 0, done.stderr


def test_an_unknown_mode_is_refused(build):
    done = build("gpu")
    assert done.returncode == 1
    assert done.stderr == "PHASEVAE_BUILD: 'gpu', must be one of: auto, off, cpu, cuda\n"


@pytest.mark.skipif(torch.version.cuda is not None, reason="needs a torch without CUDA")
def test_cuda_needs_a_torch_with_cuda(build):
    done = build("cuda")
    assert done.returncode == 1
    assert f"PHASEVAE_BUILD=cuda: torch {torch.__version__} has no CUDA" in done.stderr


def test_auto_survives_a_compiler_that_fails(build):
    done = build("auto", CC="false", CXX="false")
    assert done.returncode == 0, done.stderr
    assert "phasevae: native kernels left out, the compiler failed: " in done.stderr


def test_clang_is_not_given_an_openmp_runtime_of_its_own(build, tmp_path):
    compiler, seen = tmp_path / "a-clang", tmp_path / "seen"
    compiler.write_text(
        f'#!/bin/sh\ncase "$*" in *-dM*) echo "#define __clang__ 1";; *) echo "$*" >> "{seen}"; exit 1;; esac\n'
    )
    compiler.chmod(0o755)
    # By its name: torch takes the spaces of a path for the ends of words.
    done = build("auto", CC="a-clang", CXX="a-clang", PATH=os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    assert done.returncode == 0, done.stderr
    words = [line.split() for line in seen.read_text().splitlines()]
    of_sources = [flags for flags in words if any(word.endswith(".cpp") for word in flags)]
    assert of_sources
    assert all("-fopenmp-simd" in flags and "-fopenmp" not in flags for flags in of_sources)
