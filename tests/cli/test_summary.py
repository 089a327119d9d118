"""`phasevae summary`: what each sweep of a results folder has shown."""

import json
import os
import subprocess

import pytest
import yaml
from commands import phasevae, succeed
from gaussian_sweeps import gaussian_sweep, spectrum_of
from workflow_runs import ROOT

from phasevae.artifacts.files import read_json, write_json
from phasevae.artifacts.tables import write_table
from phasevae.spectrum.spectrum_files import write_spectrum


@pytest.fixture
def results(tmp_path):
    """Two data sets, one with points that have not converged, and a folder of other things."""
    for name, unconverged in (("good", []), ("short", [0.6, 0.65])):
        folder = tmp_path / "results" / name
        (folder / "figures").mkdir(parents=True)
        sweep = gaussian_sweep(0)
        write_table(folder / "sweep.csv", sweep.assign(converged=~sweep["sigma2"].isin(unconverged)))
        write_spectrum(folder / "spectrum.json", spectrum_of())
        succeed("fit", folder / "sweep.csv", "--spectrum", folder / "spectrum.json", "-o", folder / "fit.json")
    (tmp_path / "results" / "logs").mkdir()
    return tmp_path / "results"


def report_of(*names):
    """What a report of Snakemake says of the fits that it holds."""
    files = {f"results/{name}/fit.json": {"name": "fit.json", "filename": "fit.json"} for name in names}
    return f"<script>var results = {json.dumps(files)}</script>"


def test_the_verdict_and_the_warnings_of_each_data_set(results):
    (results / "report.html").write_text(report_of("good", "short"))
    good, *lines = succeed("summary", "results", folder=results.parent).splitlines()
    assert good == f"good: {read_json(results / 'good' / 'fit.json')['verdict']}"
    assert "(95 % interval" in good and "The spectrum of the data predicts 1: within the interval." in good
    assert lines[0].startswith("    critical variance ") and lines[1] == "    figures: results/good/figures"
    assert lines[2].startswith("short: Every latent is collapsed from ")
    assert lines[4].startswith("    warning: 2 of 16 points have not converged, sigma2 = 0.6, 0.65")
    assert lines[5:] == ["    figures: results/short/figures", "report: results/report.html"]


def test_some_data_sets_are_asked_for(results):
    printed = succeed("summary", results, "--datasets", "short")
    assert printed.startswith("short: ") and "good" not in printed


def test_only_a_report_of_these_data_sets_is_named(results):
    (results / "report.html").write_text(report_of("short"))
    assert "report: " in succeed("summary", results, "--datasets", "short")
    assert "report: " not in succeed("summary", results, "--datasets", "good")
    assert "report: " not in succeed("summary", results)


def test_spaces_between_the_names_of_data_sets_do_not_count(results):
    printed = succeed("summary", results, "--datasets", "short, good")
    assert printed.startswith("short: ") and "\ngood: " in printed
    files = {}
    for number, names in enumerate(("short,good", " short , good")):
        path = results.parent / f"{number}.json"
        succeed("manifest", results, "--datasets", names, "-o", path)
        files[names] = read_json(path)["files"]
    first, second = files.values()
    assert first == second and first


@pytest.mark.parametrize("verb", ["summary", "manifest"])
@pytest.mark.parametrize("names", [",", "good,", "", "good, ,short"])
def test_an_empty_name_of_a_data_set_is_refused(verb, names, results):
    done = phasevae(verb, results, "--datasets", names)
    assert done.returncode == 2
    assert f"--datasets: {names!r}, must be names with commas between, such as a,b" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("results", "--datasets", "good,shrt"), "--datasets: 'shrt', did you mean 'short'? (must be one of "),
        (("results", "--datasets", "good,logs"), "results/logs/fit.json: no such file"),
        (("results/good",), "must be a folder of results: for this data set, phasevae summary results --datasets good"),
        (("results/logs",), "results/logs: no data set has a fit.json, must be a folder of results\n"),
        (("results/broken",), "results/broken/set/fit.json: "),
    ],
)
def test_a_folder_without_usable_results_is_an_error_of_one_line(arguments, words, results):
    (results / "broken" / "set").mkdir(parents=True)
    write_json(results / "broken" / "set" / "fit.json", {"verdict": "none"})
    done = phasevae("summary", *arguments, folder=results.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_data_set_from_within_names_its_folder(results):
    done = phasevae("summary", ".", folder=results / "good")
    assert done.stderr.endswith(f"phasevae summary {results} --datasets good\n")


@pytest.mark.parametrize(("target", "config"), [("demo", "config/demo.yaml"), ("paper", "config.yaml")])
def test_make_ends_with_the_summary_of_its_data_sets(target, config):
    """Also where nothing is left to do: it is a command of its own."""
    # `make test` hands down what it was called with.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    command = ["make", "--dry-run", target]
    printed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    names = ",".join(yaml.safe_load((ROOT / config).read_text(encoding="utf-8"))["run"])
    assert printed.stdout.rstrip().endswith(f"/phasevae summary results --datasets {names}")
