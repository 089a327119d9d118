"""Tables of finished points."""

from __future__ import annotations

import numpy as np
import pytest

from phasevae import InputError
from phasevae.artifacts.files import file_sha256
from phasevae.measurement.tables import histories_table
from phasevae.sweeps.settings import Settings

SETTINGS = {"n_latent": 1, "samples": 640, "batch": 64}


@pytest.fixture
def points(tmp_path, keys):
    """Three points, the second trained twice as long as the others."""
    made = []
    for seed, (extended, steps) in enumerate([(1, (1, 10)), (2, (1, 20)), (1, (10,))]):
        folder = tmp_path / f"seed={seed}"
        folder.mkdir()
        rows = "".join(f"{step},{64 * step},0.5,-1.0,{seed + step / 100},1.0\n" for step in steps)
        (folder / "history.csv").write_text("step,samples,sigma2,elbo,kl,mse\n" + rows)
        made.append({"folder": folder, "sigma2": 1.0, "beta": 1.0, "seed": seed, "extended": extended})
    return [point | {"settings": keys} | digest_of(point["folder"]) for point in made]


@pytest.fixture
def keys():
    """The settings of the training."""
    return {name: field.get_default() for name, field in Settings.model_fields.items()} | SETTINGS


def digest_of(folder):
    return {"history_sha256": file_sha256(folder / "history.csv")}


def test_learning_time_is_the_sum_of_the_learning_rates_of_each_training(points):
    table = histories_table(points[::-1])
    assert table["seed"].tolist() == [0, 0, 1, 1, 2]
    assert table["kl"].tolist() == [0.01, 0.1, 1.01, 1.2, 2.1]
    settings = Settings.from_keys(points[0]["settings"])
    for row in table.itertuples():
        training = settings.extended(points[row.seed]["extended"])
        expected = np.cumsum([training.learning_rate_at(step) for step in range(row.step)])[-1]
        assert row.learning_time == expected


def test_a_step_after_the_end_of_the_training_is_named(points):
    path = points[2]["folder"] / "history.csv"
    path.write_text(path.read_text().replace("10,640", "11,640"))
    points[2] |= digest_of(path.parent)
    with pytest.raises(InputError, match=f"^{path}: step 11, must be at most 10 as in point.json$"):
        histories_table(points)
