"""Data far from zero: the training reaches the predicted KL, and every number is that of the centred data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from job_runs import job_in, rows
from small import recipe

import phasevae
from phasevae import predict
from phasevae.artifacts.files import read_json
from phasevae.rows import Rows
from phasevae.sweeps.settings import Settings
from phasevae.theory.ppca import gaussian_kl
from phasevae.training.hysteresis import hysteresis_sweep
from phasevae.training.job import run_job

FEATURES, LATENTS, RATIO = 300, 4, 0.057
QUICK = recipe(hidden=(8,), samples=3200.0, learning_rate=1e-2)
OFFSETS = np.array([0.0, 3.0, -20.0, 100.0], dtype=np.float32)
NUMBERS = ("elbo", "kl", "mse", "collapsed_elbo", "elbo_gap", "log_likelihood", "kl_per_dim", "latent_variance")


def wide(offset: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(1000, LATENTS)) @ rng.normal(size=(LATENTS, FEATURES))
    return (offset + 0.1 * (factors + rng.normal(size=(1000, FEATURES)))).astype(np.float32)


def trained_point(folder: Path, x: np.ndarray, sigma2: float, settings: Settings) -> Path:
    job = job_in(folder, [sigma2], x=x, settings=settings)
    (point,) = run_job(job)
    return point


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_annealing_reaches_the_predicted_kl_on_wide_data(tmp_path, offset):
    x = wide(offset)
    predicted = predict(x, LATENTS, beta=1.0)
    sigma2 = RATIO * predicted.critical_kl_weight
    settings = Settings(n_latent=LATENTS, hidden=(64,), samples=64 * 500, batch=64)
    point = read_json(trained_point(tmp_path, x, sigma2, settings) / "point.json")
    assert point["kl"] == pytest.approx(predicted.at(sigma2).kl, rel=0.1)
    assert any(warning.code == "not-centred" for warning in predicted.warnings) == bool(offset)


def on_a_grid() -> np.ndarray:
    """Rows of multiples of 1/256, a power of two of them: whole numbers can be added and their mean taken exactly."""
    return np.round(256 * rows()[:256]) / np.float32(256)


@pytest.mark.parametrize(
    ("x", "holdout", "tolerance"),
    [(on_a_grid(), 0.0, 0.0), (on_a_grid(), 0.2, 0.0), (rows(), 0.0, 1e-4)],
    ids=["exact", "exact, some held out", "rounded"],
)
def test_the_numbers_of_a_point_do_not_depend_on_the_mean(tmp_path, x, holdout, tolerance):
    # Rows that are rounded differently may take other sides in the balanced order: another training, as good.
    settings = QUICK.with_changes(holdout=holdout, balanced_order=tolerance == 0)
    first, second = (
        read_json(trained_point(tmp_path / name, x + mean, 0.3, settings) / "point.json")
        for name, mean in (("as drawn", 0), ("shifted", OFFSETS))
    )
    assert first["kl"] > 0.1
    for name in NUMBERS:
        assert second[name] == pytest.approx(first[name], rel=0, abs=tolerance), name
    for name in ("elbo", "kl", "mse") if holdout else ():
        assert second["holdout"][name] == pytest.approx(first["holdout"][name], rel=0, abs=tolerance), name


def test_a_loaded_model_gives_the_numbers_of_its_point(tmp_path):
    """Encoded and decoded as the data are, with other noise than the measurement's."""
    x, sigma2 = rows() + np.float32(50), 0.3
    folder = trained_point(tmp_path, x, sigma2, QUICK)
    point, model = read_json(folder / "point.json"), phasevae.load(folder)
    mu, variance = (part.double() for part in model.encode(x))
    assert gaussian_kl(mu, variance.log(), torch.expm1).mean(0).numpy() == pytest.approx(point["kl_per_dim"], abs=1e-6)
    assert mu.mean(0).numpy() == pytest.approx(point["latent_mean"], abs=1e-6)
    noise = torch.randn(100, *mu.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = [(torch.from_numpy(x) - model.decode(mu + variance.sqrt() * e)).square().sum(1).mean() for e in noise]
    assert np.mean(errors) == pytest.approx(point["mse"], rel=0.01)
    assert point["mse"] < 0.9 * x.var(0).sum()
    drawn = model.sample(2000).numpy()
    assert drawn.mean(0) == pytest.approx(x.mean(0), abs=0.2)


def test_an_upward_sweep_does_not_depend_on_the_mean():
    settings = QUICK.with_changes(samples=1600.0)
    first, second = (hysteresis_sweep(on_a_grid() + mean, settings, [0.3, 0.6], [0]) for mean in (0, OFFSETS))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


@given(
    x=arrays.arrays(
        np.float32, st.tuples(st.integers(1, 40), st.integers(1, 5)), elements=st.floats(-1e6, 1e6, width=32)
    ),
    order=st.sampled_from("CF"),
)
def test_centred_rows_and_their_mean_are_the_rows(x, order):
    given_x = np.array(x, order=order)
    rows = Rows.of(given_x)
    centred, mean = rows.x, rows.mean
    assert np.array_equal(given_x, x)
    assert mean == pytest.approx(x.mean(0, dtype=np.float64), rel=1e-6)
    assert mean.dtype == np.float32 and centred.dtype == torch.float32
    np.testing.assert_array_equal(centred.numpy(), x - mean)
