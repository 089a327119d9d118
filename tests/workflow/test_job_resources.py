"""Resources that the jobs of the workflow ask for, as a dry run shows them."""

from __future__ import annotations

import re
import shutil

import pytest
import yaml
from workflow_runs import ROOT, snakemake

pytestmark = pytest.mark.workflow

SMALL = {"kind": "synthetic", "eigenvalues": [2.0, 1.0], "n_samples": 1000, "n_latent": 1, "sigma2": [1.0, 2.5]}
UPWARD = {"hysteresis_ratio": [0.2, 0.6], "n_buckets": 1, "samples": 10**8}
CONFIG = {
    "cluster": {"jobs": {"slurm_partition": "short"}, "training": {"slurm_partition": "long"}},
    "datasets": {
        "narrow": SMALL | {"shards": 2},
        "wide": SMALL | {"eigenvalues": [2.0] + 2999 * [1.0], "shards": 2},
        "once": SMALL | UPWARD,
        "four": SMALL | UPWARD | {"extend_unconverged": 4},
        "five": SMALL | UPWARD | {"extend_unconverged": 5, "beta": 2.0},
    },
}
TARGETS = [
    *(f"results/{name}/spectrum.json" for name in ("narrow", "wide")),
    *(f"results/{name}/{file}" for name in ("once", "four", "five") for file in ("sweep.csv", "hysteresis.csv")),
]


@pytest.fixture(scope="module")
def planned(tmp_path_factory) -> dict[tuple[str, str], dict[str, str]]:
    """Resources and command of each (rule, data set) that a dry run plans."""
    folder, root = tmp_path_factory.mktemp("planned"), tmp_path_factory.mktemp("root")
    for name in ("Snakefile", "config.yaml", "phasevae"):
        (root / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "workflow", root / "workflow")
    for path in (root / "workflow" / "rules").iterdir():
        # Snakemake shows either a job's message or its resources.
        path.write_text(re.sub(r"(?m)^ *message:\n.*\n", "", path.read_text()))
    (folder / "mine.yaml").write_text(yaml.safe_dump(CONFIG))
    arguments = [*TARGETS, "--dry-run", "--printshellcmds", "--configfile", str(folder / "mine.yaml")]
    result = snakemake(folder, *arguments, root=root)
    assert result.returncode == 0, result.stdout
    jobs = {}
    for block in re.split(r"^ *(?:local)?(?:rule|checkpoint) ", result.stdout, flags=re.MULTILINE)[1:]:
        rule, dataset = re.match(r"\w+", block)[0], re.search(r"results/(\w+)/", block)[1]
        listed = re.search(r"^ +resources: (.*)$", block, re.MULTILINE)[1]
        command = re.search(r"^Shell command: (.*)$", block, re.MULTILINE)[1]
        jobs[rule, dataset] = dict(pair.split("=", 1) for pair in listed.split(", ")) | {"command": command}
    return jobs


def test_the_parts_of_a_spectrum_ask_for_what_the_configuration_names_and_for_their_matrices(planned):
    for rule, matrices in {"moments": 4, "basis": 8, "shape": 3}.items():
        narrow, wide = (planned[rule, name] for name in ("narrow", "wide"))
        assert narrow["slurm_partition"] == wide["slurm_partition"] == "short"
        of_matrices = matrices * 8 * 3000**2 / 2**20
        assert int(wide["mem_mb"]) - int(narrow["mem_mb"]) == pytest.approx(of_matrices, abs=1)
    assert planned["gather", "wide"]["slurm_partition"] == "short"


def test_longer_training_of_what_has_not_converged_is_asked_for_by_powers_of_two(planned):
    once, four, five = (int(planned[f"train_{name}_0", name]["runtime"]) for name in ("once", "four", "five"))
    assert four == five
    assert (four - 10) / (once - 10) == pytest.approx(1 + 2 + 4, rel=0.05)


def test_an_upward_sweep_has_the_beta_of_the_data_set_and_is_trained_once(planned):
    commands = {name: planned["hysteresis", name]["command"] for name in ("once", "five")}
    assert "--beta 1.0 " in commands["once"] and "--beta 2.0 " in commands["five"]
    once, four = (planned["hysteresis", name] for name in ("once", "four"))
    assert once["slurm_partition"] == "long" and once["runtime"] == four["runtime"]
    # Two steps of one model each, and the fresh models: between one training and a half and three.
    trained = int(planned["train_once_0", "once"]["runtime"])
    assert 1.5 * (trained - 10) < int(once["runtime"]) - 10 < 3 * (trained - 10)
