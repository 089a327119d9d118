from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import phasevae
from phasevae import backends, provenance
from phasevae.errors import InputError

PACKAGE = Path(phasevae.__file__).parent
SOURCES = {
    "__init__.py": '__version__ = "1"\n',
    "top.py": 'from phasevae.middle import f\n\n\ndef g(x):\n    """Words."""\n    return f(x) + 1\n',
    "middle.py": "def f(x):\n    from phasevae import leaf\n\n    return leaf.h(x)\n",
    "leaf.py": "import json\nfrom .sub.inner import k\n\n\ndef h(x):\n    return k(x)\n",
    "sub/__init__.py": "from . import sibling\n",
    "sub/inner.py": "def k(x):\n    return x\n",
    "sub/sibling.py": "A = 1\n",
    "lonely.py": "B = 2\n",
}


@pytest.fixture
def hash_of(tmp_path_factory):
    """Hash of phasevae.top in a small package in which some sources are changed."""

    def hash_with(changes: dict[str, str] | None = None, module: str = "phasevae.top") -> str:
        package = tmp_path_factory.mktemp("tree") / "phasevae"
        for name, text in (SOURCES | (changes or {})).items():
            path = package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return provenance.source_hash(module, package=package)

    return hash_with


@pytest.mark.parametrize(
    "text",
    [
        SOURCES["top.py"].replace("Words.", "Other words."),
        SOURCES["top.py"].replace('    """Words."""\n', ""),
        SOURCES["top.py"].replace("return f(x) + 1", "return (f( x )+1)  # why"),
        '"""A module docstring."""\n' + SOURCES["top.py"],
    ],
)
def test_words_and_layout_do_not_change_the_hash(hash_of, text):
    assert text != SOURCES["top.py"]
    assert hash_of({"top.py": text}) == hash_of()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("top.py", "+ 1", "+ 2"),
        ("top.py", "+ 1", "- 1"),
        ("middle.py", "leaf.h(x)", "leaf.h(-x)"),  # imported by `from phasevae.middle import f`
        ("leaf.py", "k(x)", "k(2 * x)"),  # imported inside a function
        ("sub/inner.py", "return x", "return None"),  # a relative import
        ("sub/__init__.py", "from", "X = 1\nfrom"),  # the parent package of an imported module
        ("sub/sibling.py", "A = 1", "A = 1.0"),  # imported by that parent
    ],
)
def test_a_change_of_what_runs_changes_the_hash(hash_of, file, old, new):
    text = SOURCES[file].replace(old, new)
    assert text != SOURCES[file]
    assert hash_of({file: text}) != hash_of()


@pytest.mark.parametrize(("file", "text"), [("lonely.py", "B = 3\n"), ("__init__.py", '__version__ = "2"\n')])
def test_modules_that_are_not_imported_and_the_version_do_not_count(hash_of, file, text):
    assert hash_of({file: text}) == hash_of()


def test_two_modules_swapping_their_code_change_the_hash(hash_of):
    swapped = {"sub/inner.py": SOURCES["sub/sibling.py"], "sub/sibling.py": SOURCES["sub/inner.py"]}
    assert hash_of(swapped) != hash_of()


def test_an_unknown_module_is_told(hash_of):
    with pytest.raises(InputError, match=r"phasevae\.nothing: no such module"):
        hash_of(module="phasevae.nothing")


def test_the_packages_own_hash_follows_its_training_code(tmp_path):
    """The same on a copy of the real package: training reaches the network and the ELBO, not the figures."""

    def hash_with(file: str, addition: str) -> str:
        package = tmp_path / file.replace("/", "_") / "phasevae"
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        with (package / file).open("a") as stream:
            stream.write(addition)
        return provenance.source_hash("phasevae.training", "phasevae.measure", package=package)

    unchanged = provenance.source_hash("phasevae.training", "phasevae.measure")
    assert hash_with("model.py", "# a remark\n") == unchanged
    assert hash_with("elbo.py", "\n\ndef more():\n    return 1\n") != unchanged
    assert hash_with("config.py", "\n\ndef more():\n    return 1\n") == unchanged


def test_hashing_imports_no_torch():
    """The Snakefile is parsed again in every cluster job; importing torch takes seconds."""
    code = (
        "import sys; from phasevae import config, plan, provenance; provenance.training_code_hash();"
        "provenance.source_hash('phasevae.spectrum');"
        "sys.exit(', '.join(m for m in ('torch', 'phasevae.training', 'pandas') if m in sys.modules) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_family_of_the_backend_is_part_of_the_code_hash(monkeypatch):
    hashes = {}
    for family in ("torch", "native"):
        monkeypatch.setattr(backends, "family", lambda family=family: family)
        monkeypatch.setattr(backends, "build_record", lambda: {"sources": "abc"})
        hashes[family] = provenance.training_code_hash()
    monkeypatch.setattr(backends, "build_record", lambda: {"sources": "abd"})
    assert len({*hashes.values(), provenance.training_code_hash()}) == 3
    monkeypatch.setattr(backends, "family", lambda: "torch")
    assert provenance.training_code_hash() == hashes["torch"]


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
    commit = provenance.git_commit(checkout)
    assert len(commit) == 40
    (checkout / "results.txt").write_text("untracked files do not count")
    assert provenance.git_commit(checkout) == commit
    (checkout / "pyproject.toml").write_text('[project]\nname = "phasevae"\nversion = "2"\n')
    assert provenance.git_commit(checkout) == f"{commit}-dirty"


def test_another_projects_repository_is_not_ours(checkout):
    """A virtual environment inside somebody's repository must not report that repository's commit."""
    inside = checkout / "venv" / "site-packages"
    inside.mkdir(parents=True)
    assert provenance.git_commit(inside) is None
    shutil.copy(checkout / "pyproject.toml", inside)
    assert provenance.git_commit(inside) is None
    (checkout / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert provenance.git_commit(checkout) is None


def test_the_environment_names_version_and_python():
    found = provenance.environment()
    assert set(found) == {"version", "git", "python"}
    assert found["version"] == phasevae.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
