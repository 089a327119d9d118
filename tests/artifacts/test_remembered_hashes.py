"""Hashes of code that a later process takes from the file beside the bytecode."""

from __future__ import annotations

import sys

import pytest

from phasevae.artifacts import remembered_hashes
from phasevae.artifacts.remembered_hashes import remembered


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "one.py").write_text("a = 1\n")
    return tmp_path


@pytest.fixture
def ask(package):
    """Ask as a new process would; the answer is the number of the computation."""
    computed = []

    def asked(question="what"):
        remembered_hashes._sources_at_start.cache_clear()
        return remembered(package, [question], lambda: str(computed.append(question) or len(computed)))

    return asked


def files(package):
    return [path for path in package.rglob("*") if path.suffix != ".py" and path.is_file()]


def test_the_second_process_computes_nothing(ask, package):
    assert [ask(), ask(), ask("other"), ask(), ask("other")] == ["1", "1", "2", "1", "2"]
    assert [path.name for path in files(package)] == [f"source_hash.{sys.implementation.cache_tag}.json"]


@pytest.mark.parametrize("change", [("one.py", "a = 2\n"), ("sub/two.py", ""), ("three.py", "b = 1\n")])
def test_any_change_of_the_sources_counts(ask, package, change):
    name, text = change
    assert ask() == "1"
    (package / name).parent.mkdir(exist_ok=True)
    (package / name).write_text(text)
    assert [ask(), ask()] == ["2", "2"]


@pytest.mark.parametrize("damage", [b"", b"\xff", b"[]", b"{}", b'{"sources": 1, "hashes": 2}', None])
def test_a_damaged_file_is_not_believed(ask, package, damage):
    ask()
    (file,) = files(package)
    file.write_bytes(file.read_bytes().replace(b'"1"', b'"7"') if damage is None else damage)
    assert [ask(), ask()] == ["2", "2"]


def test_sources_that_change_meanwhile(package):
    (package / "link.py").symlink_to("nowhere.py")

    def compute():
        (package / "one.py").write_text("a = 2\n")
        return "of the new sources"

    before = (package / "one.py").read_text()
    assert remembered(package, "what", compute) == "of the new sources"
    (package / "one.py").write_text(before)
    assert remembered(package, "what", lambda: "of the old sources") == "of the old sources"


def test_without_bytecode_nothing_is_written(ask, package, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert [ask(), ask()] == ["1", "2"]
    assert files(package) == []


def test_a_folder_that_cannot_be_written(ask, package):
    (package / "__pycache__").write_text("a file in the way")
    assert [ask(), ask()] == ["1", "2"]
