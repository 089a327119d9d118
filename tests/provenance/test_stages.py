from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import phasevae
from phasevae.artifacts.environment import environment, git_commit
from phasevae.kernels import backends
from phasevae.provenance.stages import provenance_record
from phasevae.sweeps.digest import training_code_hash


def test_hashing_imports_no_torch():
    """The Snakefile is parsed again in every cluster job; importing torch takes seconds."""
    code = (
        "import sys; from phasevae import config; from phasevae.provenance.stages import stage_code;"
        "from phasevae.figures import registry; from phasevae.sweeps import plan, points, resources;"
        "stage_code('train'), stage_code('spectrum');"
        "sys.exit(', '.join(m for m in ('torch', 'phasevae.training.trainer', 'pandas') if m in sys.modules) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_family_of_the_backend_is_part_of_the_code_hash(monkeypatch):
    hashes = {}
    for family in ("torch", "native"):
        monkeypatch.setattr(backends, "family", lambda family=family: family)
        monkeypatch.setattr(backends, "build_record", lambda: {"sources": "abc"})
        hashes[family] = training_code_hash()
    monkeypatch.setattr(backends, "build_record", lambda: {"sources": "abd"})
    assert len({*hashes.values(), training_code_hash()}) == 3
    monkeypatch.setattr(backends, "family", lambda: "torch")
    assert training_code_hash() == hashes["torch"]


def test_tf32_is_part_of_the_code_hash(monkeypatch):
    monkeypatch.setattr(backends, "allows_tf32", lambda: False)
    in_float32 = training_code_hash()
    monkeypatch.setattr(backends, "allows_tf32", lambda: True)
    assert training_code_hash() != in_float32


def git(root, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "phasevae"\n')
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_the_commit_of_a_clean_and_of_a_changed_checkout(checkout):
    commit = git_commit(checkout)
    assert len(commit) == 40
    (checkout / "results.txt").write_text("untracked files do not count")
    assert git_commit(checkout) == commit
    (checkout / "pyproject.toml").write_text('[project]\nname = "phasevae"\nversion = "2"\n')
    assert git_commit(checkout) == f"{commit}-dirty"


def test_another_projects_repository_is_not_ours(checkout):
    """A virtual environment inside somebody's repository must not report that repository's commit."""
    inside = checkout / "venv" / "site-packages"
    inside.mkdir(parents=True)
    assert git_commit(inside) is None
    shutil.copy(checkout / "pyproject.toml", inside)
    assert git_commit(inside) is None
    (checkout / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert git_commit(checkout) is None


def test_the_environment_names_version_and_python():
    actual = environment()
    assert set(actual) == {"version", "git", "dirty", "python"}
    assert actual["version"] == phasevae.__version__
    assert actual["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_pipe_is_no_recorded_input(tmp_path):
    """It cannot be read a second time, so that its digest would be that of nothing."""
    (tmp_path / "a.csv").write_text("x\n1\n")
    receive, send = os.pipe()
    try:
        inputs = (tmp_path / "a.csv", Path(f"/dev/fd/{receive}"), None)
        assert list(provenance_record(tmp_path / "fit.json", "fit", inputs)["inputs"]) == ["a.csv"]
    finally:
        os.close(receive)
        os.close(send)
