"""What a change makes run again, row by row of the table in docs/workflow.md: planned on one finished run."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from workflow_runs import ROOT, dry_run, snakemake

from phasevae.config import validate
from phasevae.sweep.plan import make_plan

pytestmark = pytest.mark.workflow

TINY = {
    "kind": "synthetic",
    "eigenvalues": [4.0, 2.0, 1.0, 0.5],
    "n_samples": 500,
    "n_latent": 2,
    "hidden": [8],
    "sigma2": [1.0, 3.5, 5.0],
    "samples": 2000,
    "batch": 64,
    "n_buckets": 2,
}
LONGER = TINY | {"n_samples": 200, "sigma2": [1.0], "n_buckets": 1, "extend_unconverged": 2}
RESULTS = Path("results") / "tiny"
TARGETS = [str(RESULTS / name) for name in ("sweep.csv", "fit.json", "figures/kl.png", "figures/spectrum.png")]
OF_LONGER = "results/longer/sweep.csv"

DATA = {"dataset", "spectrum", "figure_spectrum"}
PLAN = {"plan"}
TRAINING = {"train_tiny_0", "train_tiny_1"}
FIT = {"fit", "figure_kl"}
TABLES = {"collect"} | FIT

CONFIG_ROWS = {
    "a value of sigma2 more": ({"sigma2": [1.0, 2.0, 3.5, 5.0]}, PLAN | {"train_tiny_0"} | TABLES),
    "a value of sigma2 less": ({"sigma2": [1.0, 5.0]}, PLAN | TABLES),
    "another order or spelling of the list": ({"sigma2": [5, 1.00, 3.5e0]}, set()),
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
    "how figures are saved": ("artifacts/files.py", '"pdf.fonttype": 42', '"pdf.fonttype": 3', BOTH),
    "a form of the fit": ("analysis/kl_fit/forms.py", r"(def _logs\(.*?:\n    )(\S)", INTO, FIT),
    "a threshold of convergence": ("sweep/convergence.py", "DEVIATION = 4e-3", "DEVIATION = 6e-3", TABLES),
    "the training": ("kernels/adam.py", '"beta2": 0.999', '"beta2": 0.99', TRAINING | TABLES),
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
"""Row of the table: file of the package, what is replaced by what, what runs."""


def configured(folder: Path, targets: list[str] = TARGETS, **changes) -> list[str]:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"train_threads": 1, "datasets": {"tiny": TINY | changes, "longer": LONGER}}))
    return [*targets, "--configfile", str(path)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder of a finished run, root of the copy of the workflow and package it was made with)."""
    folder, root = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("root")
    shutil.copytree(ROOT / "phasevae", root / "phasevae", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "workflow", root / "workflow")
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, root)
    result = snakemake(folder, *configured(folder, [*TARGETS, OF_LONGER]), root=root)
    assert result.returncode == 0, result.stdout
    return folder, root


def reruns(finished, *targets: str, **changes) -> set[str]:
    folder, root = finished
    return set(dry_run(folder, *targets, *configured(folder, **changes), root=root))


def test_the_buckets_are_as_the_rows_say():
    points = make_plan(
        validate({"datasets": {"tiny": TINY | {"sigma2": [1.0, 2.0, 3.5, 5.0]}}}, "test")["datasets"]["tiny"]
    )
    assert {point.sigma2: point.bucket for point in points} == {1.0: 0, 2.0: 0, 3.5: 1, 5.0: 0}


def test_nothing_runs_again_without_a_change(finished):
    assert reruns(finished) == set()


@pytest.mark.parametrize("row", CONFIG_ROWS)
def test_a_key_of_the_configuration(finished, row):
    changes, expected = CONFIG_ROWS[row]
    assert reruns(finished, **changes) == expected


@contextmanager
def edited(finished, file: str, old: str, new: str) -> Iterator[None]:
    path = finished[1] / "phasevae" / file
    text = path.read_text()
    changed = re.sub(old, new, text, count=1, flags=re.DOTALL)
    assert changed != text
    path.write_text(changed)
    try:
        yield
    finally:
        path.write_text(text)


@pytest.mark.parametrize("row", CODE_ROWS)
def test_the_code(finished, row):
    *edit, expected = CODE_ROWS[row]
    with edited(finished, *edit):
        assert reruns(finished) == expected


def test_a_threshold_where_unconverged_points_are_trained_longer(finished):
    folder, root = finished
    wanted = configured(folder, [OF_LONGER])
    assert dry_run(folder, *wanted, root=root) == {}
    with edited(finished, *CODE_ROWS["a threshold of convergence"][:3]):
        assert set(dry_run(folder, *wanted, root=root)) == {"train_longer_0", "collect"}


def test_how_and_where_it_runs(finished):
    folder, root = finished
    how = ["--config", "train_threads=2", "device=cpu", "--default-resources", "mem_mb=9000"]
    assert dry_run(folder, *configured(folder), *how, root=root) == {}


def test_touched_files_and_captions(finished):
    folder, root = finished
    for path in (folder / RESULTS).rglob("*.*"):
        os.utime(path)
    caption = root / "workflow" / "report" / "kl.rst"
    caption.write_text(caption.read_text() + "Another word.\n")
    assert reruns(finished) == set()


@pytest.mark.parametrize(
    ("file", "expected"),
    [("figures/kl.png", {"figure_kl"}), ("points/sigma2=5.0,seed=0/point.json", {"train_tiny_0"} | TABLES)],
)
def test_a_deleted_file(finished, file, expected):
    path = finished[0] / RESULTS / file
    kept = path.with_name("kept")
    path.rename(kept)
    try:
        assert reruns(finished, str(RESULTS / file)) == expected
    finally:
        kept.rename(path)
