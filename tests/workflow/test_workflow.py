"""The workflow on data sets of seconds, through the real `snakemake` and `phasevae` commands."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from workflow_runs import ROOT, SNAKEMAKE, TINY, Run, dry_run, snakemake

from phasevae.artifacts.files import read_json
from phasevae.artifacts.tables import read_table
from phasevae.artifacts.tensors import read_tensors
from phasevae.cli.results import data_sets_of
from phasevae.config import validate
from phasevae.prediction.predict import predict
from phasevae.spectrum.measure import compute_spectrum
from phasevae.spectrum.spectrum_files import read_spectrum
from phasevae.sweeps.plan import make_plan, read_plan
from phasevae.sweeps.points import COMPLETE

pytestmark = pytest.mark.workflow

FIGURES = [
    "landscape",
    "elbo",
    "latent_variance",
    "kl",
    "kl_derivatives",
    "spectrum",
    "exponents",
    "slowing",
    "cascade",
    "soft_modes",
    "residual",
]
EXTENDED = [2.0, 1.0, 3.5, 5.0]


def points_of(**changes):
    return make_plan(validate({"datasets": {"tiny": TINY | changes}}, "test")["datasets"]["tiny"])


def test_a_broken_data_set_stops_itself_alone(finished):
    assert finished.status != 0
    assert "broken.csv" in finished.output
    assert (finished.folder / "results" / "tiny" / "fit.json").is_file(), finished.output
    assert not (finished.folder / "results" / "broken" / "data.json").exists()


def test_the_screen_shows_a_line_for_each_finished_job_and_the_error_in_full(finished):
    lines = re.findall(r"^\[ *(\d+)/(\d+)\] (.*)$", finished.output, re.MULTILINE)
    assert [int(done) for done, _, _ in lines] == list(range(1, len(lines) + 1))
    trained = [
        text for _, _, text in lines if re.match(r"tiny: train bucket 0 \(2 points\), \d+ s - about .* left$", text)
    ]
    assert len(trained) == 1
    assert "Reason:" not in finished.output and "Select jobs" not in finished.output
    assert "Error in rule dataset" in finished.output and "broken/logs/dataset.log:" in finished.output


def test_every_artifact_is_there_and_parses(finished):
    results = finished.folder / "results" / "tiny"
    assert read_json(results / "data.json")["n_samples"] == TINY["n_samples"]
    spectrum = read_json(results / "spectrum.json")
    fit = read_json(results / "fit.json", required=("critical_variance", "ci95", "reason"))
    assert fit["predicted"]["critical_variance"] == pytest.approx(spectrum["critical_variance"])
    assert read_plan(results / "plan.csv") == points_of()
    sweep = read_table(results / "sweep.csv", required=("elbo", "kl", "active_dims"))
    assert list(sweep["sigma2"]) == TINY["sigma2"]
    dimensions = read_table(results / "dimensions.csv", required=("latent", "latent_variance"))
    assert len(dimensions) == len(TINY["sigma2"]) * TINY["n_latent"]
    read_table(results / "timing.csv")
    for point in points_of():
        read_json(results / point.path / "point.json", required=("elbo", "config_digest"))
        read_table(results / point.path / "history.csv")
        assert read_tensors(results / point.path / "weights.safetensors")[0]
    for name in FIGURES:
        assert (results / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (results / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_spectrum_is_that_of_the_command_and_of_python(finished):
    """The same samples give the same numbers to the last digit in every way."""
    folder = finished.folder / "results" / "tiny"
    x = np.load(folder / "data.npy")
    made = [read_spectrum(folder / "spectrum.json"), compute_spectrum(x), compute_spectrum(x.astype(float))]
    made += [compute_spectrum(folder), compute_spectrum(folder / "data.npy")]
    for spectrum in made:
        for key in ("eigenvalues", "standard_errors", "trace", "skewness", "excess_kurtosis", "variance_proxy"):
            np.testing.assert_array_equal(getattr(spectrum, key), getattr(made[0], key), err_msg=key)
    assert str(made[0].reading) == str(made[3].reading)
    kl = {predict(data, 2, beta=1.0).kl for data in (folder, folder / "spectrum.json", x)}
    assert len(kl) == 1


def test_every_job_leaves_a_log_and_a_benchmark(finished):
    results = finished.folder / "results" / "tiny"
    logs = {path.stem for path in (results / "logs").iterdir()}
    assert logs == {path.stem for path in (results / "benchmarks").iterdir()}
    assert {"dataset", "spectrum", "plan", "collect", "fit", "train_0", "train_1"} <= logs


def test_a_changed_key_and_a_new_point_run_what_depends_on_either(finished):
    """The new point must not hide that the other bucket is out of date as well."""
    jobs = dry_run(finished.folder, *finished.configured(learning_rate=0.007, sigma2=EXTENDED))
    stages = {"dataset", "spectrum", "plan", "train_tiny_0", "train_tiny_1", "collect"}
    assert stages & set(jobs) == {"plan", "train_tiny_0", "train_tiny_1", "collect"}


def test_a_deleted_point_file_is_noticed(finished):
    point = points_of()[0]
    path = finished.folder / "results" / "tiny" / point.path / "history.csv"
    kept = path.with_name("kept")
    path.rename(kept)
    try:
        jobs = dry_run(finished.folder, *finished.configured())
    finally:
        kept.rename(path)
    assert {name for name in jobs if name.startswith("train")} == {f"train_tiny_{point.bucket}"}


@pytest.fixture(scope="module")
def extended(finished, tmp_path_factory):
    """(run, files before) of a copy of the finished run to which one sigma2 was added."""
    folder = tmp_path_factory.mktemp("extended") / "workflow"
    shutil.copytree(finished.folder, folder)
    before = contents(folder)
    result = snakemake(folder, "results/tiny/sweep.csv", *Run(folder).configured(sigma2=EXTENDED))
    return Run(folder, result.returncode, result.stdout), before


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """Bytes and inodes of the files of the first run's points that a training writes.

    A file that is written again has a new inode, because files are replaced atomically. Their times say nothing:
    Snakemake touches all outputs of a job.
    """
    folders = [folder / "results" / "tiny" / point.path for point in points_of()]
    files = [path for points in folders for path in points.iterdir() if path.name != COMPLETE]
    return {path: (path.read_bytes(), path.stat().st_ino) for path in files}


def test_adding_one_sigma2_trains_exactly_that_point(extended):
    run, before = extended
    assert run.status == 0, run.output
    assert contents(run.folder) == before
    sweep = read_table(run.folder / "results" / "tiny" / "sweep.csv")
    assert list(sweep["sigma2"]) == sorted(EXTENDED)


def test_adding_one_sigma2_runs_one_bucket(finished):
    (added,) = [point for point in points_of(sigma2=EXTENDED) if point.sigma2 not in TINY["sigma2"]]
    assert added.bucket in {point.bucket for point in points_of()}, "the new point must join others for this test"
    jobs = dry_run(finished.folder, *finished.configured(sigma2=EXTENDED))
    figures = {f"figure_{name}" for name in FIGURES if name not in ("spectrum", "landscape", "soft_modes")}
    assert set(jobs) == {"plan", f"train_tiny_{added.bucket}", "collect", "fit", "manifest", "all"} | figures


def test_nothing_is_left_to_train_afterwards(extended):
    run, _ = extended
    assert dry_run(run.folder, "results/tiny/sweep.csv", *run.configured(sigma2=EXTENDED)) == {}


@pytest.fixture(scope="module")
def report(finished) -> Path:
    path = finished.folder / "results" / "report.html"
    result = snakemake(finished.folder, *finished.configured(), "--report", str(path))
    assert result.returncode == 0, result.stdout
    assert "RuntimeWarning" not in result.stdout
    return path


def test_the_report_holds_figures_and_tables(report):
    text = report.read_text()
    assert [name for name in ("kl.png", "spectrum.png", "fit.json", "sweep.csv") if name not in text] == []
    assert data_sets_of(report) == {"tiny"}


def walked(report: Path, walks: list[list[str]]) -> list[str]:
    """What a browser shows after each walk, a list of links to click in the report: text and widths of images.

    A step `eye NAME` or `information-circle NAME` is the button of that icon in the row of a result.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium here to open the report with")
    script = (Path(__file__).parent / "walk_report.js").read_text().replace("WALKS", json.dumps(walks))
    page = report.with_name("walked.html")
    page.write_text(report.read_text() + f"<script>{script}</script>")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=100000", "--dump-dom"]
    command = [browser, *options, f"--user-data-dir={report.parent / 'browser'}", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
    pages = re.findall(r'<pre class="walked">(.*?)</pre>', shown, re.DOTALL)
    assert len(pages) == len(walks), shown[-2000:]
    return pages


def test_a_browser_shows_every_figure_and_table_with_its_caption(report):
    tables, figures = (["Results", "tiny", part] for part in ("Tables", "Figures"))
    names = [figure.replace("_", " ") for figure in FIGURES]
    walks = [[], tables, [*tables, "information-circle Sweep"]]
    walks += [[*figures, f"eye {name}", f"information-circle {name}"] for name in names]
    opened, tables, described, *seen = walked(report, walks)
    assert "Posterior collapse of variational autoencoders" in opened
    assert [name for name in ("Sweep", "Dimensions", "Critical variance") if name not in tables] == []
    assert "All trained models of tiny, one a row" in described
    for figure, shown in zip(FIGURES, seen, strict=True):
        assert f"results/tiny/figures/{figure}.png" in shown
        caption = (ROOT / "workflow" / "report" / f"{figure}.rst").read_text().split("**")[0].split("`")[0]
        assert " ".join(caption.split()) in shown
        assert int(re.search(r"image (\d+)", shown)[1]) > 300


def test_the_demo_is_planned_in_full(tmp_path):
    shutil.copy(ROOT / "config.yaml", tmp_path)
    jobs = dry_run(tmp_path, "demo", "--configfile", str(ROOT / "config" / "demo.yaml"))
    assert {jobs[name] for name in ("dataset", "spectrum", "plan", "collect", "fit")} == {2}
    assert {jobs[f"figure_{name}"] for name in FIGURES} == {2}
    assert {name for name in jobs if name.startswith("train")} == {"train_synthetic_0", "train_digits_0"}


def test_the_paper_is_planned_in_full(tmp_path):
    shutil.copy(ROOT / "config.yaml", tmp_path)
    jobs = dry_run(tmp_path, "paper")
    assert {jobs[name] for name in ("dataset", "spectrum", "collect", "fit")} == {2}
    assert {re.sub(r"_\d+$", "", name) for name in jobs if name.startswith("train")} == {
        "train_gaussian",
        "train_cifar10",
    }


@pytest.mark.parametrize("how", [("--dry-run",), ("--dry-run", "--verbose"), ()])
def test_a_target_without_its_data_sets_says_what_to_add(how, tmp_path):
    shutil.copy(ROOT / "config.yaml", tmp_path)
    line = "target demo: no data set synthetic or digits in the configuration; add --configfile config/demo.yaml"
    assert_error_of_one_line(snakemake(tmp_path, *how, "demo"), line)


def test_a_wrong_configuration_is_an_error_of_one_line(tmp_path):
    line = "tiny.yaml: datasets.tiny.samples: '1e6', which YAML reads as text; write 1.0e+6"
    assert_error_of_one_line(snakemake(tmp_path, "--dry-run", *Run(tmp_path).configured(samples="1e6")), line)


def test_a_backend_that_does_not_exist_is_an_error_of_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PHASEVAE_BACKEND", "naive")
    line = "PHASEVAE_BACKEND: 'naive', did you mean 'native_cpu'? (must be one of torch, native_cpu, native_cuda)"
    assert_error_of_one_line(snakemake(tmp_path, "--dry-run", *Run(tmp_path).configured()), line)


@pytest.mark.parametrize("how", [("--dry-run",), ()])
def test_data_that_are_missing_are_noticed_before_anything_runs(how, tmp_path):
    arguments = Run(tmp_path).configured(run=("tiny", "broken"))
    (tmp_path / "broken.csv").unlink()
    assert_error_of_one_line(
        snakemake(tmp_path, *how, *arguments), "datasets.broken: broken.csv: no such file or folder"
    )
    assert not (tmp_path / "results" / "tiny").exists()


def test_data_may_be_made_by_another_rule(tmp_path):
    arguments = Run(tmp_path).configured(run=("broken",))
    (tmp_path / "broken.csv").unlink()
    outer = tmp_path / "outer"
    shutil.copytree(ROOT / "workflow" / "profiles", outer / "workflow" / "profiles")
    (outer / "phasevae").symlink_to(ROOT / "phasevae")
    (outer / "Snakefile").write_text(
        f'configfile: "tiny.yaml"\nmodule inner:\n    snakefile: "{ROOT / "Snakefile"}"\n    config: config\n'
        'use rule * from inner\nrule make:\n    output: "broken.csv"\n    shell: "touch {output}"\n'
    )
    jobs = dry_run(tmp_path, "results/broken/data.npy", *arguments, root=outer)
    assert jobs == {"make": 1, "dataset": 1}


def test_data_stay_when_their_source_is_gone(tmp_path):
    arguments = Run(tmp_path).configured(run=("broken",))
    source, data = tmp_path / "broken.csv", tmp_path / "results" / "broken" / "data.npy"
    np.savetxt(source, np.random.default_rng(0).standard_normal((20, 2)), delimiter=",")
    assert snakemake(tmp_path, "results/broken/spectrum.json", *arguments).returncode == 0
    source.unlink()
    assert dry_run(tmp_path, "results/broken/spectrum.json", *arguments) == {}
    assert snakemake(tmp_path, "results/broken/plan.csv", *arguments).returncode == 0
    assert data.is_file()


def assert_error_of_one_line(result, line):
    """The line is there, and nothing about where in the workflow the mistake was noticed."""
    assert result.returncode != 0
    assert line in result.stdout
    assert "Traceback" not in result.stdout and "Wildcards" not in result.stdout
    assert "common.smk" not in result.stdout


def test_lint_finds_nothing():
    """In the repository itself: --lint takes its configuration and its profile from there."""
    result = subprocess.run([*SNAKEMAKE, "--lint"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "profiles/default" in result.stderr  # found without being named
    assert "Congratulations" in result.stdout + result.stderr
