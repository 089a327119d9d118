"""Finished results: what they record, and what `phasevae verify` lists after every kind of damage."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import phasevae
from phasevae import InputError
from phasevae.artifacts.files import file_sha256, read_json, write_json
from phasevae.cli.main import app
from phasevae.provenance import verify
from phasevae.provenance.manifest import artifact_files
from phasevae.provenance.stages import read_provenance, stage_code

POINT = "set/points/sigma2=0.5,seed=0"
POINT_FILES = [f"{POINT}/{name}" for name in ("weights.safetensors", "history.csv", "point.json")]
MADE = ["set/sweep.csv", "set/timing.csv", "set/fit.json", "set/figures/spectrum.png"]
SETTINGS = ["--latent", "2", "--hidden", "8", "--samples", "2000", "--batch", "64"]


def run(*arguments: str | Path):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def make_fit(results: Path) -> None:
    """Everything after the training."""
    made = results / "set"
    tables = ["--dimensions", made / "dimensions.csv", "--timing", made / "timing.csv"]
    commands = [
        ["collect", made / "points", "-o", made / "sweep.csv", *tables],
        ["fit", made / "sweep.csv", "--spectrum", made / "spectrum.json", "-o", made / "fit.json"],
        ["plot", "spectrum", "--spectrum", made / "spectrum.json", "-o", made / "figures" / "spectrum"],
        ["manifest", results],
    ]
    for command in commands:
        result = run(*command)
        assert result.exit_code == 0, (result.output, result.exception)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    results = tmp_path_factory.mktemp("trace") / "results"
    data = ["--eigenvalues", "4,2,1", "--n-samples", "300"]
    for command in (
        ["dataset", "synthetic", *data, "-o", results / "set"],
        ["spectrum", results / "set", "-o", results / "set" / "spectrum.json"],
        ["train", results / "set", "--sigma2", "0.5,2,3,5", *SETTINGS, "-o", results / "set" / "points"],
    ):
        result = run(*command)
        assert result.exit_code == 0, (result.output, result.exception)
    make_fit(results)
    return results


@pytest.fixture
def results(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "results")


def findings(results: Path) -> set[tuple[str, str]]:
    return {(finding.path, finding.state) for finding in verify.verify_results(results)[0]}


def test_untouched_results_are_as_they_were_written(results):
    """Also after the folder was moved."""
    assert verify.verify_results(results) == ([], len(artifact_files(results)))
    result = run("verify", results)
    assert result.exit_code == 0 and "all as they were written" in result.output


def test_every_artifact_says_where_it_comes_from(finished):
    made = finished / "set"
    stages = {
        "data.json": "dataset",
        "spectrum.json": "spectrum",
        "sweep.csv": "collect",
        "dimensions.csv": "collect",
        "timing.csv": "collect",
        "fit.json": "fit",
        "figures/spectrum.png": "figure",
    }
    for name, stage in stages.items():
        origin = read_provenance(made / name)
        assert origin["stage"] == stage
        assert origin["version"] == phasevae.__version__
        assert {"git", "dirty", "python", "code_hash", "inputs"} <= origin.keys()
    sweep = read_provenance(made / "sweep.csv")
    data = read_json(made / "data.json")
    assert sweep["seeds"] == [0] and sweep["data_sha256"] == [data["sha256"]] and sweep["device"] == ["cpu"]
    assert sweep["torch"] == [torch.__version__] and sweep["cuda"] == [torch.version.cuda]
    point = read_provenance(finished / POINT / "point.json")
    assert {"git", "dirty", "backend", "device", "torch", "cuda", "data_sha256"} <= point.keys()
    assert read_provenance(made / "fit.json")["inputs"]["sweep.csv"] == file_sha256(made / "sweep.csv")
    assert b"spectrum.json" in (made / "figures" / "spectrum.pdf").read_bytes()


def test_tables_are_described_by_the_w3cs_terms(finished):
    metadata = json.loads((finished / "set" / "sweep.csv-metadata.json").read_text())
    table = pd.read_csv(finished / "set" / "sweep.csv")
    assert metadata["@context"] == "http://www.w3.org/ns/csvw" and metadata["url"] == "sweep.csv"
    columns = {column["name"]: column["datatype"] for column in metadata["tableSchema"]["columns"]}
    assert list(columns) == list(table.columns)
    assert (columns["sigma2"], columns["seed"], columns["backend"]) == ("double", "integer", "string")


def test_the_manifest_lists_every_file(finished):
    manifest = read_json(finished / "manifest.json")
    assert [entry["path"] for entry in manifest["files"]] == [
        path.relative_to(finished).as_posix() for path in artifact_files(finished)
    ]
    fit = next(entry for entry in manifest["files"] if entry["path"] == "set/fit.json")
    assert fit["sha256"] == file_sha256(finished / "set" / "fit.json") and fit["stage"] == "fit"


@pytest.mark.parametrize("with_manifest", [True, False])
@pytest.mark.parametrize(
    "name",
    [*POINT_FILES, "set/data.npy", "set/data.json", "set/spectrum.json", *MADE],
)
def test_a_changed_byte_is_detected(results, name, with_manifest):
    if not with_manifest:
        (results / "manifest.json").unlink()
    path = results / name
    content = bytearray(path.read_bytes())
    changed = len(content) // 2
    if path.suffix == ".json":
        # A number's last digit may change and the number not.
        changed = re.compile(rb"\d\.\d").search(content, changed).end() - 1
    content[changed] ^= 1
    path.write_bytes(content)
    assert (name, "altered") in findings(results)


@pytest.mark.parametrize("with_manifest", [True, False])
@pytest.mark.parametrize(
    "name",
    [*POINT_FILES[:2], "set/data.npy", "set/sweep.csv", "set/spectrum.json", "set/figures/spectrum.pdf"],
)
def test_a_missing_file_is_detected(results, name, with_manifest):
    if not with_manifest:
        (results / "manifest.json").unlink()
    (results / name).unlink()
    assert (name, "missing") in findings(results)


def test_what_was_made_of_what_has_changed_is_stale(results):
    (results / "manifest.json").unlink()
    assert (
        run(
            "train", results / "set", "--sigma2", "0.5", *SETTINGS[:-1], "32", "-o", results / "set" / "points"
        ).exit_code
        == 0
    )
    assert findings(results) == {("set/sweep.csv", "stale")}
    run("dataset", "synthetic", "--eigenvalues", "5,2,1", "--n-samples", "300", "-o", results / "set")
    assert {("set/spectrum.json", "stale"), (f"{POINT}/point.json", "stale")} <= findings(results)


def test_other_code_makes_results_stale(results, monkeypatch):
    now = stage_code
    monkeypatch.setattr(verify, "stage_code", lambda stage, entry="": "x" if stage == "train" else now(stage, entry))
    points = {(path.relative_to(results).as_posix(), "stale") for path in results.rglob("point.json")}
    assert findings(results) == points
    monkeypatch.setattr(verify, "stage_code", lambda stage, entry="": "x" if stage == "fit" else now(stage, entry))
    assert findings(results) == {("set/fit.json", "stale")}


def test_the_verb_lists_findings_and_fails(results):
    (results / "set" / "sweep.csv").unlink()
    result = run("verify", results)
    assert result.exit_code == 1
    assert "missing: set/sweep.csv: " in result.output
    listed = run("verify", results, "--json")
    assert listed.exit_code == 1
    assert {"path": "set/sweep.csv", "state": "missing"}.items() <= json.loads(listed.output)["findings"][0].items()
    make_fit(results)
    assert run("verify", results).exit_code == 0


def test_the_worst_is_listed_first_and_published_results_are_one_line(results):
    (results / "manifest.json").unlink()
    published = shutil.copytree(results / "set", results / "reference" / "set")
    for name in ("sweep.csv", "spectrum.json"):
        (published / name).unlink()
    (results / "set" / "spectrum.json").unlink()
    with (results / "set" / "timing.csv").open("a") as stream:
        stream.write("\n")
    lines = run("verify", results).output.splitlines()
    assert [line.split(": ")[:2] for line in lines[:2]] == [
        ["altered", "set/timing.csv"],
        ["missing", "set/spectrum.json"],
    ]
    assert lines[2] == (
        f"{results / 'reference'}: 2 missing: published results, of which only tables and figures are kept"
    )
    assert lines[3].endswith(" files, 1 altered, 3 missing") and len(lines) == 4
    assert len(json.loads(run("verify", results, "--json").output)["findings"]) == 4
    with (published / "timing.csv").open("a") as stream:
        stream.write("\n")
    lines = run("verify", results).output.splitlines()
    assert [line.split(": ")[0] for line in lines[:-1]] == ["altered"] * 2 + ["missing"] * 3


def test_a_data_set_of_the_name_of_the_published_results_is_listed(results):
    (results / "manifest.json").unlink()
    (results / "set").rename(results / "reference")
    (results / "reference" / "sweep.csv").unlink()
    assert run("verify", results).output.startswith("missing: reference/sweep.csv: ")


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        (f"{POINT}/point.json", "settings", None),
        (f"{POINT}/point.json", "provenance", "text"),
        (f"{POINT}/point.json", "sigma2", [1]),
        ("set/fit.json", "provenance", {"stage": "fit"}),
        ("set/fit.json", "provenance", {"stage": "nothing", "code_hash": "", "inputs": {}}),
        ("set/spectrum.json", "made_by", {"stage": "spectrum", "code_hash": "", "inputs": 3}),
        ("manifest.json", "files", [None]),
        ("manifest.json", "files", 5),
    ],
)
def test_damage_that_fits_its_seal_is_detected(results, file, key, value):
    record = read_json(results / file)
    write_json(results / file, record | {key: value})
    assert (file, "altered") in findings(results)


@pytest.mark.parametrize("made_by", [{"stage": "conjecture"}, {"stage": "figure", "entry": "hologram"}])
def test_what_a_later_version_made_is_stale_and_not_damaged(results, made_by):
    record = read_json(results / "set" / "fit.json")
    write_json(results / "set" / "fit.json", record | {"provenance": record["provenance"] | made_by})
    assert run("manifest", results).exit_code == 0
    ((finding), *others), _ = verify.verify_results(results)
    assert (finding.path, finding.state, others) == ("set/fit.json", "stale", [])
    assert finding.reason == f"made by '{' '.join(made_by.values())}', which this version lacks"


@pytest.mark.parametrize("folder", ["absent", "empty"])
def test_a_folder_without_results_is_refused(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no such folder|holds no results"):
        verify.verify_results(tmp_path / folder)


@pytest.mark.parametrize("name", ["crate.zip", "crate"])
def test_an_exported_crate_reads_back(finished, tmp_path, name):
    rocrate = pytest.importorskip("rocrate.rocrate")
    result = run("export", finished, "-o", tmp_path / name)
    assert result.exit_code == 0, (result.output, result.exception)
    crate = rocrate.ROCrate(tmp_path / name)
    described = {unquote(entity.id): entity for entity in crate.get_entities() if entity.type == "File"}
    names = {path.relative_to(finished).as_posix() for path in artifact_files(finished)} - {"set/data.npy"}
    assert set(described) == names | {"manifest.json"}
    for identity, entity in described.items():
        assert entity["sha256"] == file_sha256(finished / identity)
        assert entity["contentSize"] == str((finished / identity).stat().st_size)
    run_ = crate.get("#run")
    assert run_["instrument"]["softwareVersion"] == phasevae.__version__
    assert {unquote(entity.id) for entity in run_["result"]} == set(described)
    assert "set: critical variance" in crate.description and crate.license
    if name == "crate":
        assert findings(tmp_path / name) == {("set/data.npy", "missing")}
    again = run("export", finished, "-o", tmp_path / name)
    assert isinstance(again.exception, InputError) and "must be a new folder or .zip file" in str(again.exception)


def test_export_without_its_package_says_what_to_install(finished, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    result = run("export", finished, "-o", tmp_path / "crate.zip")
    assert isinstance(result.exception, InputError) and "pip install rocrate" in str(result.exception)


def test_the_png_is_still_a_png(finished):
    with Image.open(finished / "set" / "figures" / "spectrum.png") as image:
        assert image.size[0] > 100
