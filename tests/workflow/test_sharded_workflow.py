"""The spectrum of data in several files and in parts, as jobs of the workflow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from workflow_runs import dry_run, snakemake

from phasevae.datasets.store import load_dataset
from phasevae.spectrum.measure import spectrum_of
from phasevae.spectrum.spectrum_files import read_spectrum

pytestmark = pytest.mark.workflow

TARGET = "results/mine/spectrum.json"


def configured(folder: Path, **changes) -> list[str]:
    entry = {"kind": "array", "path": ["a.npy", "b.npy"], "n_latent": 1, "sigma2": [1.0], "shards": 3}
    whole = {"kind": "array", "path": "a.npy", "n_latent": 1, "sigma2": [1.0]}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"datasets": {"mine": entry | changes, "whole": whole}}))
    return [TARGET, "--configfile", str(path)]


def test_parts_give_the_spectrum_of_the_whole(tmp_path):
    rng = np.random.default_rng(0)
    for name, n in (("a", 70), ("b", 50)):
        np.save(tmp_path / f"{name}.npy", rng.exponential(size=(n, 5)).astype(np.float32))
    arguments = configured(tmp_path)
    jobs = dry_run(tmp_path, *arguments)
    assert jobs == {"dataset": 1, "moments": 3, "basis": 1, "shape": 3, "gather": 1}
    assert dry_run(tmp_path, *configured(tmp_path, shards=1)) == {"dataset": 1, "spectrum": 1}
    result = snakemake(tmp_path, *configured(tmp_path))
    assert result.returncode == 0, result.stdout
    merged = read_spectrum(tmp_path / TARGET)
    whole = spectrum_of(load_dataset(tmp_path / "results" / "mine"))
    np.testing.assert_allclose(merged.eigenvalues, whole.eigenvalues, rtol=1e-10)
    np.testing.assert_allclose(merged.standard_errors, whole.standard_errors, rtol=1e-10)
    assert merged.variance_proxy == pytest.approx(whole.variance_proxy, rel=1e-10)
    assert merged.data_sha256 == whole.data_sha256 and merged.provenance == whole.provenance
    assert not list((tmp_path / "results" / "mine").rglob("*.safetensors"))
    assert dry_run(tmp_path, *arguments) == {}
    np.save(tmp_path / "b.npy", np.ones((50, 5), dtype=np.float32))
    assert set(dry_run(tmp_path, *arguments)) == {"dataset", "moments", "basis", "shape", "gather"}
