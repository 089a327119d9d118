"""Hashes of code: on small packages whose sources are changed, and on a copy of phasevae."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import phasevae
from phasevae.artifacts.source_hash import source_hash
from phasevae.errors import InputError
from phasevae.sweeps.digest import training_sources

PACKAGE = Path(phasevae.__file__).parent
SOURCES = {
    "__init__.py": '__version__ = "1"\n',
    "top.py": """\
from phasevae.middle import f
from phasevae import middle as centre

FACTOR: float = 2.0
UNUSED = 1


def g(x):
    \"\"\"Words.\"\"\"
    local = 3
    return f(x) + centre.twice(x) * FACTOR + local


def alone(x):
    return centre.never(x)
""",
    "middle.py": """\
OFFSET = 1


def f(x):
    from phasevae import leaf

    return leaf.h(x)


def twice(x):
    return [step(item) for item in x]


def step(x, by=OFFSET):
    return x + by


def never(x):
    return x


def local(x):
    return x
""",
    "leaf.py": """\
import json
from .sub.inner import k
from .registered import REGISTRY

try:
    from phasevae import optional
except ImportError:
    optional = None


def h(x):
    return k(x), REGISTRY
""",
    "optional.py": "Z = 1\n",
    "registered.py": """\
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phasevae.lonely import B
REGISTRY = {}


def register(function):
    REGISTRY[function.__name__] = function


@register
def entry():
    return helper()


def helper():
    return 1
""",
    "sub/__init__.py": "from . import sibling\n",
    "sub/inner.py": "def k(x):\n    return x\n",
    "sub/sibling.py": "A = 1\nprint(A)\n",
    "lonely.py": "B = 2\n",
    "facade/__init__.py": """\
from phasevae.facade.inner import area as surface, perimeter
from .inner import volume
from .starred import *
from . import inner as parts
""",
    "facade/inner.py": """\
from phasevae.facade.deep import side


def area(x):
    return side(x) ** 2


def perimeter(x):
    return 4 * x


def volume(x):
    return x**3


def diagonal(x):
    return x
""",
    "facade/deep.py": "from phasevae.facade.deepest import length as side\n",
    "facade/deepest.py": "def length(x):\n    return x\n",
    "facade/starred.py": "def mass(x):\n    return x\n\n\ndef weight(x):\n    return x\n",
}


@pytest.fixture
def hash_of(tmp_path_factory):
    """Hash of some roots in a small package in which some sources are changed."""

    def hash_with(changes: dict[str, str] | None = None, roots: str = "phasevae.top:g", without: str = "") -> str:
        package = tmp_path_factory.mktemp("tree") / "phasevae"
        for name, text in (SOURCES | (changes or {})).items():
            path = package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return source_hash(*roots.split(), without=tuple(without.split()), package=package)

    return hash_with


def changed(file: str, old: str, new: str) -> dict[str, str]:
    assert old in SOURCES[file]
    return {file: SOURCES[file].replace(old, new)}


def test_a_file_that_is_no_python_is_named(hash_of):
    with pytest.raises(InputError, match=r"phasevae/sub/inner\.py: line 2: not Python \("):
        hash_of({"sub/inner.py": "def k(x):\nreturn x\n"})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Words.", "Other words."),
        ('    """Words."""\n', ""),
        ("local = 3", "local  =  (3)  # why"),
        ("from phasevae.middle", '"""A module docstring."""\nfrom phasevae.middle'),
    ],
)
def test_words_and_layout_do_not_change_the_hash(hash_of, old, new):
    assert hash_of(changed("top.py", old, new)) == hash_of()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("top.py", "FACTOR +", "FACTOR -"),
        ("top.py", "= 2.0", "= 2.5"),  # a constant it uses
        ("middle.py", "leaf.h(x)", "leaf.h(-x)"),  # imported by `from phasevae.middle import f`
        ("middle.py", "x + by", "x - by"),  # called inside a comprehension, by what is used as `module.name`
        ("middle.py", "OFFSET = 1", "OFFSET = 2"),  # a default value
        ("leaf.py", "k(x)", "k(2 * x)"),  # imported inside a function
        ("leaf.py", "import json", "import json\nprint()"),  # runs when it is imported
        ("sub/inner.py", "return x", "return None"),  # a relative import
        ("sub/__init__.py", "from", "print()\nfrom"),  # the parent package of an imported module
        ("sub/sibling.py", "A = 1", "A = 1.0"),  # imported by that parent, used when it is imported
        ("optional.py", "Z = 1", "Z = 2"),  # imported under a condition
        ("registered.py", "return helper()", "return -helper()"),  # its decorator puts it where it is used
        ("registered.py", "return 1", "return 2"),  # called by that
    ],
)
def test_a_change_of_what_runs_changes_the_hash(hash_of, file, old, new):
    assert hash_of(changed(file, old, new)) != hash_of()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("lonely.py", "B = 2", "B = 3"),  # imported for type checkers only
        ("__init__.py", '"1"', '"2"'),  # the version
        ("top.py", "UNUSED = 1", "UNUSED = 2"),
        ("top.py", "centre.never", "-centre.never"),  # in a function that is not called
        ("middle.py", "def never(x):", "def never(x, y):"),  # called by that function only
        ("middle.py", "def local(x):", "def local(x, y):"),  # only a local variable has its name
        ("leaf.py", "def h", "import csv\n\n\ndef h"),
    ],
)
def test_what_is_never_used_does_not_count(hash_of, file, old, new):
    assert hash_of(changed(file, old, new)) == hash_of()


CLIENTS = {
    "from": (
        "from phasevae.facade import mass, surface, volume\n\n\ndef g(x):\n    return surface(x), volume(x), mass(x)\n"
    ),
    "as": "from phasevae import facade as f\n\n\ndef g(x):\n    return f.surface(x), f.volume(x), f.mass(x)\n",
    "dotted": (
        "import phasevae.facade\n\n\ndef g(x):\n"
        "    return phasevae.facade.surface(x), phasevae.facade.volume(x), phasevae.facade.mass(x)\n"
    ),
    "inside": (
        "def g(x):\n    from phasevae import facade\n\n    return facade.surface(x), facade.volume(x), facade.mass(x)\n"
    ),
    "module": (
        "from phasevae.facade import mass, parts\n\n\ndef g(x):\n    return parts.area(x), parts.volume(x), mass(x)\n"
    ),
    "chain": (
        "from phasevae import facade\n\n\ndef g(x):\n"
        "    return facade.parts.area(x), facade.inner.volume(x), facade.starred.mass(x)\n"
    ),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("facade/inner.py", "side(x) ** 2", "side(x) ** 3", True),  # re-exported under another name
        ("facade/inner.py", "x**3", "x**4", True),  # re-exported by a relative import
        ("facade/starred.py", "mass(x):\n    return x", "mass(x):\n    return -x", True),  # re-exported with all others
        ("facade/deepest.py", "return x", "return -x", True),  # re-exported by a module between
        ("facade/__init__.py", "from .inner", "print()\nfrom .inner", True),
        ("facade/inner.py", "4 * x", "5 * x", False),
        ("facade/inner.py", "def diagonal(x):", "def diagonal(x, y):", False),
        ("facade/starred.py", "def weight(x):", "def weight(x, y):", False),
    ],
)
def test_reexports_are_followed_to_the_definition(hash_of, client, file, old, new, changes):
    top = {"top.py": CLIENTS[client]}
    assert (hash_of(top | changed(file, old, new)) != hash_of(top)) == changes


def test_a_reexported_root_is_its_definition(hash_of):
    change = changed("facade/inner.py", "side(x) ** 2", "side(x) ** 3")
    assert hash_of(change, "phasevae.facade:surface") != hash_of(roots="phasevae.facade:surface")
    assert hash_of(change, "phasevae.facade:volume") == hash_of(roots="phasevae.facade:volume")


def test_a_package_that_is_handed_on_counts_with_its_reexports(hash_of):
    top = {"top.py": "from phasevae import facade\n\n\ndef g(x):\n    return getattr(facade, x)\n"}
    assert hash_of(top | changed("facade/inner.py", "4 * x", "5 * x")) != hash_of(top)


def test_a_class_named_in_an_annotation_counts(hash_of):
    """Its methods may run."""
    top = {
        "top.py": "from __future__ import annotations\nfrom phasevae.optional import Z\n\n\nclass g:\n    field: Z\n"
    }
    assert hash_of(top | changed("optional.py", "Z = 1", "Z = 2")) != hash_of(top)


def test_a_module_as_a_root_counts_whole(hash_of):
    for old, new in (("UNUSED = 1", "UNUSED = 2"), ("centre.never", "-centre.never")):
        assert hash_of(changed("top.py", old, new), "phasevae.top") != hash_of(roots="phasevae.top")


def test_a_module_that_is_handed_on_counts_whole(hash_of):
    """`helper(module)` may use any part of it."""
    top = changed("top.py", "centre.twice(x)", "getattr(centre, x)")
    assert hash_of(top | changed("middle.py", "def local(x):", "def local(x, y):")) != hash_of(top)


@pytest.mark.parametrize("left_out", ["phasevae.leaf", "phasevae.leaf:h"])
def test_what_is_left_out_is_not_entered(hash_of, left_out):
    change = changed("leaf.py", "k(x)", "k(2 * x)")
    assert hash_of(change, without=left_out) == hash_of(without=left_out) != hash_of()


def test_two_modules_swapping_their_code_change_the_hash(hash_of):
    swapped = {"sub/inner.py": SOURCES["sub/sibling.py"], "sub/sibling.py": SOURCES["sub/inner.py"]}
    assert hash_of(swapped) != hash_of()


@pytest.mark.parametrize(
    ("root", "message"),
    [("phasevae.nothing", r"phasevae\.nothing: no such module"), ("phasevae.top:no", "phasevae.top:no: no such defin")],
)
def test_an_unknown_root_or_exclusion_is_refused(hash_of, root, message):
    with pytest.raises(InputError, match=message):
        hash_of(roots=root)
    with pytest.raises(InputError, match=message):
        hash_of(without=root)


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("model.py", "", "# a remark\n", False),
        ("training/cuda_graph.py", "\ndef _capture(", "\ndef more():\n    return 1\n\n\ndef _capture(", False),
        ("training/cuda_graph.py", "\ndef _capture(", "\nprint()\n\n\ndef _capture(", True),
        ("kernels/noise.py", "0.5", "0.25", True),
        ("theory/ppca.py", "def ppca_kl(", "def ppca_kl(one, ", False),
        ("artifacts/figures.py", '"pdf.fonttype": 42', '"pdf.fonttype": 3', False),
        ("artifacts/environment.py", '"python": platform', '"python3": platform', False),
        ("sweeps/convergence.py", "SECOND_MOMENT_DEVIATION = 4e-3", "SECOND_MOMENT_DEVIATION = 6e-3", False),
        ("sweeps/convergence.py", "0.9, 1.0", "0.8, 1.0", True),
    ],
)
def test_training_depends_on_the_code_that_it_runs_alone(tmp_path, file, old, new, changes):
    """On a copy of the real package."""
    package = tmp_path / "phasevae"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    text = (package / file).read_text()
    assert old in text
    (package / file).write_text(text.replace(old, new, 1) if old else text + new)
    assert (training_sources(package) != training_sources()) == changes
