"""The workflow with networks of the user's own: config/conv.yaml at a tiny size."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from workflow_runs import ROOT, dry_run, snakemake

from phasevae.artifacts.files import read_json
from phasevae.artifacts.tables import read_table

pytestmark = pytest.mark.workflow

TINY = {"sigma2_ratio": [0.3], "seeds": [0], "samples": 640, "batch": 64, "n_latent": 2, "n_buckets": 1}
SWEEP = "results/digits_conv/sweep.csv"
AGAIN = {"train_digits_conv_0", "collect"}


def configured(folder: Path, file: str = "config/conv_vae.py") -> list[str]:
    """Write the example with fewer samples; return the arguments that name it."""
    config = yaml.safe_load((ROOT / "config" / "conv.yaml").read_text())
    own = config["datasets"]["digits_conv"] | TINY
    own["network"] = own["network"] | {"module": file}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config | {"run": ["digits_conv"], "datasets": {"digits_conv": own}}))
    return ["--configfile", str(path)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("conv")
    (folder / "config").mkdir()
    shutil.copy(ROOT / "config" / "conv_vae.py", folder / "config")
    result = snakemake(folder, SWEEP, *configured(folder))
    assert result.returncode == 0, result.stdout
    return folder


def test_the_example_trains_the_convolutions(finished):
    assert len(read_table(finished / SWEEP, "sweep")) == 1
    point = read_json(finished / "results/digits_conv/points/ratio=0.3,seed=0/point.json", (), "point")
    assert point["settings"]["network"]["input_shape"] == [1, 8, 8]
    assert point["settings"]["network"]["build"] == "build"


def test_the_content_of_the_file_counts_and_its_place_does_not(finished):
    assert dry_run(finished, SWEEP, *configured(finished)) == {}
    (finished / "elsewhere").mkdir()
    moved = shutil.copy2(finished / "config" / "conv_vae.py", finished / "elsewhere" / "mine.py")
    assert dry_run(finished, SWEEP, *configured(finished, "elsewhere/mine.py")) == {}
    moved = Path(moved)
    moved.write_text(moved.read_text() + "# another\n")
    assert set(dry_run(finished, SWEEP, *configured(finished, "elsewhere/mine.py"))) == AGAIN


def test_a_file_that_fails_stops_before_the_training(finished):
    (finished / "broken.py").write_text("def build(shape, n):\n    return 3\n")
    result = snakemake(finished, SWEEP, *configured(finished, "broken.py"))
    assert result.returncode != 0
    log = (finished / "results/digits_conv/logs/train_0.log").read_text()
    assert "phasevae: broken.py: build(): returned a int, must return (encoder, decoder)" in log
