"""What users of Snakemake expect: metadata for the catalogue, containers, an environment, use as a module."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import forked
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from workflow_runs import ROOT, planned_jobs

CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
TINY = {"kind": "synthetic", "eigenvalues": [2.0, 1.0], "n_samples": 200, "n_latent": 1, "sigma2": [1.0, 2.5]}
OUTER = """
configfile: "outer.yaml"


module phasevae:
    snakefile:
        "{root}/Snakefile"
    config:
        config["phasevae"]


use rule * from phasevae as phasevae_*


rule mine:
    default_target: True
    input:
        "elsewhere/tiny/{file}",
    output:
        "mine.txt",
    shell:
        "cp {{input}} {{output}}"
"""


def test_the_catalogue_has_what_its_standard_asks_for():
    listed = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert listed["report"] is True
    assert listed["software-stack-deployment"]["conda"] is True
    assert (ROOT / "config" / "README.md").is_file()
    included = re.search(r'include: "(.*)"', (ROOT / "workflow" / "Snakefile").read_text())[1]
    assert (ROOT / "workflow" / included).resolve() == ROOT / "Snakefile"


def test_the_conda_environment_has_what_the_package_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = yaml.safe_load((ROOT / "workflow" / "envs" / "phasevae.yaml").read_text())["dependencies"]
    environment = dict(re.match(r"([\w-]+) *(.*)", entry).groups() for entry in listed)
    for entry in project["dependencies"]:
        name, bound = re.match(r"([\w-]+)(.*)", entry).groups()
        assert environment[CONDA_NAMES.get(name, name)] == bound
    assert environment["python"] == project["requires-python"]


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(canonical_pair(line) for line in lines if not line.startswith("#"))


def canonical_pair(line: str) -> tuple[str, str]:
    name, version = line.split("==")
    return canonicalize_name(name), version


def test_the_lock_has_a_version_within_bounds_for_each_requirement():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras, versions = project["optional-dependencies"], locked()
    asked = [entry for entries in (project["dependencies"], *extras.values()) for entry in entries]
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), "0")), str(requirement)
    recipe = (ROOT / "requirements.lock").read_text().split("'.[", 1)[1].split("]", 1)[0]
    assert set(recipe.split(",")) == set(extras)


def test_containers_have_a_supported_python_and_the_versions_of_the_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in ("Dockerfile", "phasevae.def"):
        text = (ROOT / "containers" / name).read_text()
        python = re.search(r"python:([\d.]+)", text)[1]
        assert SpecifierSet(project["requires-python"]).contains(python)
        for command in re.findall(r"pip install (.*)", text):
            assert "--constraint requirements.lock" in command or "'^torch==' requirements.lock" in command


def test_both_containers_install_the_same():
    docker, apptainer = ((ROOT / "containers" / name).read_text() for name in ("Dockerfile", "phasevae.def"))
    base = re.search(r"^FROM (.*)$", docker, re.MULTILINE)[1]
    assert f"From: {base}" in apptainer
    installed = re.findall(r"pip install (.*?)(?: \\)?$", docker, re.MULTILINE)
    same = re.findall(r"pip install (.*)$", apptainer, re.MULTILINE)
    assert [line.replace("$TORCH_INDEX", "{{ torch_index }}") for line in installed] == same
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.search(r"\.\[(.*)\]", installed[-1])[1].split(",")) <= set(extras)


def test_the_dockerfile_is_sound():
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("no hadolint here")
    result = subprocess.run([hadolint, ROOT / "containers" / "Dockerfile"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def outer(tmp_path):
    """Runs an outer workflow that uses this workflow as a module and needs a file of it."""

    def run(file: str, *arguments: str, **changes) -> subprocess.CompletedProcess:
        (tmp_path / "Snakefile").write_text(OUTER.format(root=ROOT, file=file))
        config = {"results": "elsewhere", "datasets": {"tiny": TINY | changes}}
        (tmp_path / "outer.yaml").write_text(yaml.safe_dump({"phasevae": config}))
        environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        return forked.run("snakemake.cli:main", "--cores", "1", *arguments, folder=tmp_path, environment=environment)

    return run


@pytest.mark.workflow
def test_as_a_module_it_is_planned_in_full(outer):
    result = outer("fit.json", "--dry-run", refine=True, shards=2)
    assert result.returncode == 0, result.stderr
    jobs = planned_jobs(result.stdout + result.stderr)
    assert {
        "mine",
        "phasevae_dataset",
        "phasevae_gather",
        "phasevae_collect",
        "phasevae_refine",
        "phasevae_fit",
    } <= set(jobs)


@pytest.mark.workflow
def test_as_a_module_it_runs(outer, tmp_path):
    result = outer("spectrum.json")
    assert result.returncode == 0, result.stderr
    assert '"critical_variance"' in (tmp_path / "mine.txt").read_text()
