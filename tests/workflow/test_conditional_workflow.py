"""config/conditional.yaml at a tiny size, through the real workflow."""

from __future__ import annotations

import pytest
import yaml
from workflow_runs import ROOT, snakemake

from phasevae.artifacts.files import read_json
from phasevae.artifacts.tables import read_table
from phasevae.provenance.verify import verify_results
from phasevae.spectrum.spectrum_files import read_spectrum

pytestmark = pytest.mark.workflow


def test_conditional_data_from_the_configuration_to_the_figure(tmp_path):
    config = yaml.safe_load((ROOT / "config" / "conditional.yaml").read_text())
    tiny = {"n_samples": 400, "hidden": [8], "sigma2": [0.2, 0.3, 0.9, 1.3], "seeds": [0], "samples": 3000}
    config["datasets"]["conditional"] |= tiny | {"n_buckets": 1}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config | {"train_threads": 1}))
    wanted = [f"results/conditional/{file}" for file in ("fit.json", "figures/conditions.png")]
    run = snakemake(tmp_path, *wanted, "--configfile", str(tmp_path / "tiny.yaml"))
    assert run.returncode == 0, run.stdout
    results = tmp_path / "results" / "conditional"
    spectrum = read_spectrum(results / "spectrum.json")
    assert [each.value for each in spectrum.conditions] == [0, 1]
    dimensions = read_table(results / "dimensions.csv", "dimensions")
    assert sorted(set(dimensions["condition"])) == ["", "0", "1"]
    fit = read_json(results / "fit.json", kind="fit")
    assert [each["value"] for each in fit["conditions"]] == [0, 1]
    assert (results / "figures" / "conditions.png").is_file()
    assert verify_results(results)[0] == []
    (results / "condition.npy").write_bytes(b"other")
    (found,) = verify_results(results)[0]
    assert (found.path, found.state) == ("condition.npy", "altered")
