"""What a change makes run again, row by row of the table in docs/guide/results.md: planned on one finished run.

A dry run after a change of the code takes seconds, so the stages whose code a row changes are found in this process,
and dry runs show for one row of each kind what follows from it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from workflow_runs import ROOT, TINY, dry_run

from phasevae.artifacts.source_hash import source_hash
from phasevae.config import validate
from phasevae.provenance import stages
from phasevae.sweeps import digest
from phasevae.sweeps.plan import make_plan

pytestmark = pytest.mark.workflow

RESULTS = Path("results") / "tiny"
TARGETS = [str(RESULTS / name) for name in ("sweep.csv", "fit.json", "figures/kl.png", "figures/spectrum.png")]
OF_LONGER = "results/longer/sweep.csv"

SPECTRUM = {"spectrum", "figure_spectrum"}
DATA = {"dataset"} | SPECTRUM
PLAN = {"plan"}
TRAINING = {"train_tiny_0", "train_tiny_1"}
FIT = {"fit", "figure_kl"}
TABLES = {"collect"} | FIT

CONFIG_ROWS = {
    "a value of sigma2 more": ({"sigma2": [1.0, 2.0, 3.5, 5.0]}, PLAN | {"train_tiny_0"} | TABLES),
    "a value of sigma2 less": ({"sigma2": [1.0, 5.0]}, PLAN | TABLES),
    "a seed more": ({"seeds": [0, 1]}, PLAN | TRAINING | TABLES),
    "samples, batch, learning_rate, network": ({"samples": 3000}, TRAINING | TABLES),
    "n_buckets": ({"n_buckets": 3}, PLAN | TABLES),
    "the data's own keys": ({"seed": 5}, DATA | TRAINING | TABLES),
}
BOTH = {"figure_kl", "figure_spectrum"}
INTO = r"\1print()\n    \2"
CODE_ROWS = {
    "a figure's code": ("figures/sweep.py", r"(def kl\(.*?\n    )(figure)", INTO, {"figure_kl"}),
    "the style of the figures": ("figures/marks.py", r"(STYLE = \{)", r"\1'lines.linewidth': 3, ", BOTH),
    "how figures are saved": ("artifacts/figures.py", '"pdf.fonttype": 42', '"pdf.fonttype": 3', BOTH),
    "a form of the fit": ("analysis/kl_fit/forms.py", r"(def _logs\(.*?:\n    )(\S)", INTO, FIT),
    "a threshold of convergence": ("sweeps/convergence.py", "DEVIATION = 4e-3", "DEVIATION = 6e-3", TABLES),
    "the training": ("kernels/adam.py", "= 0.9, 0.999,", "= 0.9, 0.99,", TRAINING | TABLES),
    "what a spectrum is": (
        "spectrum/measure.py",
        r"(def spectrum_of\(.*?:\n    )(\S)",
        INTO,
        SPECTRUM | FIT,
    ),
    "what a point measures": ("measurement/measure.py", "PAIRS = 8", "PAIRS = 9", TRAINING | TABLES),
    "words, layout": (
        "training/trainer.py",
        '    """Trains an ensemble',
        '    # Why.\n    """Train an ensemble',
        set(),
    ),
    "theory that figures draw, not these": ("theory/ppca.py", r"(def ppca_elbo\(.*?\n    )(lam)", INTO, set()),
    "the version of the package": ("__init__.py", '__version__ = ".*?"', '__version__ = "9.9"', set()),
    "another kind of data": ("datasets/digits.py", r"def digits\(", "def digits(extra=0, ", set()),
}
"""For each row of the table: a file of the package, the text to replace, the new text, and the jobs that run."""
PLANNED = ("a figure's code", "a form of the fit", "the training")
"""The rows that dry runs show, one for each rule; those that run nothing are shown together."""
CODE_OF = {
    ("dataset", "synthetic"): DATA | TRAINING | TABLES,
    ("spectrum",): SPECTRUM | FIT,
    ("plan",): PLAN | TRAINING | TABLES,
    ("train",): TRAINING | TABLES,
    ("collect",): TABLES,
    ("fit",): FIT,
    ("figure", "kl"): {"figure_kl"},
    ("figure", "spectrum"): {"figure_spectrum"},
}
"""The jobs that run when the code of a stage changes."""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A copy of the workflow and the package, to edit."""
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(ROOT / "phasevae", root / "phasevae", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "workflow", root / "workflow")
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, root)
    return root


@pytest.fixture(scope="module")
def reruns(finished, root) -> Callable[..., set[str]]:
    """What runs again in the finished run: function of targets and of changes to the data set `tiny`."""

    def planned(*targets: str, **changes) -> set[str]:
        return set(dry_run(finished.folder, *(targets or TARGETS), *finished.configured(**changes), root=root))

    return planned


def test_the_buckets_are_as_the_rows_say():
    points = make_plan(
        validate({"datasets": {"tiny": TINY | {"sigma2": [1.0, 2.0, 3.5, 5.0]}}}, "test")["datasets"]["tiny"]
    )
    assert {point.sigma2: point.bucket for point in points} == {1.0: 0, 2.0: 0, 3.5: 1, 5.0: 0}


def test_nothing_runs_again_without_a_change(reruns):
    assert reruns(*TARGETS, OF_LONGER) == set()


# Before the tests that edit the code, after which its hashes are computed anew.
def test_how_and_where_it_runs_and_the_spelling_of_the_configuration(reruns):
    how = ["--config", "train_threads=2", "device=cpu", "--default-resources", "mem_mb=9000"]
    assert reruns(*TARGETS, *how, sigma2=[5, 1.00, 3.5e0]) == set()


def test_touched_files_and_captions(reruns, finished, root):
    for path in (finished.folder / RESULTS).rglob("*.*"):
        os.utime(path)
    caption = root / "workflow" / "report" / "kl.rst"
    caption.write_text(caption.read_text() + "Another word.\n")
    assert reruns() == set()


@pytest.mark.parametrize("row", CONFIG_ROWS)
def test_a_key_of_the_configuration(reruns, row):
    changes, expected = CONFIG_ROWS[row]
    assert reruns(**changes) == expected


@contextmanager
def edited(root: Path, file: str, old: str, new: str) -> Iterator[None]:
    path = root / "phasevae" / file
    text = path.read_text()
    changed = re.sub(old, new, text, count=1, flags=re.DOTALL)
    assert changed != text
    path.write_text(changed)
    try:
        yield
    finally:
        path.write_text(text)


@pytest.mark.parametrize("row", CODE_ROWS)
def test_the_stages_whose_code_a_row_changes(row, tmp_path, monkeypatch):
    *edit, expected = CODE_ROWS[row]
    package = tmp_path / "phasevae"
    shutil.copytree(ROOT / "phasevae", package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    before = {stage: stages.stage_code(*stage) for stage in CODE_OF}
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # nobody reads the hashes of the copy again
    for module in (stages, digest):
        monkeypatch.setattr(
            module, "source_hash", lambda *roots, **options: source_hash(*roots, **options | {"package": package})
        )
    with edited(tmp_path, *edit):
        changed = [stage for stage in CODE_OF if stages.stage_code(*stage) != before[stage]]
    assert set().union(*(CODE_OF[stage] for stage in changed)) == expected


@pytest.mark.parametrize("row", PLANNED)
def test_the_code(reruns, root, row):
    *edit, expected = CODE_ROWS[row]
    with edited(root, *edit):
        assert reruns() == expected


def test_a_threshold_where_unconverged_points_are_trained_longer(reruns, root):
    with edited(root, *CODE_ROWS["a threshold of convergence"][:3]):
        assert reruns(*TARGETS, OF_LONGER) == {"train_longer_0"} | TABLES


def test_code_that_these_results_do_not_use(reruns, root):
    with ExitStack() as stack:
        for *edit, expected in CODE_ROWS.values():
            if not expected:
                stack.enter_context(edited(root, *edit))
        assert reruns() == set()


@pytest.mark.parametrize(
    ("file", "expected"),
    [("figures/kl.png", {"figure_kl"}), ("points/sigma2=5.0,seed=0/point.json", {"train_tiny_0"} | TABLES)],
)
def test_a_deleted_file(finished, reruns, file, expected):
    path = finished.folder / RESULTS / file
    kept = path.with_name("kept")
    path.rename(kept)
    try:
        assert reruns(str(RESULTS / file), *TARGETS) == expected
    finally:
        kept.rename(path)
