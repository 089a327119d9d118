from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_vaes import gaussian_samples, linear_vae

import phasevae
from phasevae import InputError
from phasevae.architecture import Architecture
from phasevae.artifacts.files import write_json
from phasevae.measurement.stability import measure_stability
from phasevae.model import VAEEnsemble, initialise
from phasevae.trained import TrainedVAE, save_model


def collapsed_model(folder, sigma2: float = 1.5, mean: float = 0.0):
    """A network whose encoder ignores its input and whose decoder gives the mean, saved and loaded again."""
    ensemble = initialise(Architecture(3, 2, (8,)), [0])
    for name in ("encoder.1", "decoder.1"):
        layer = ensemble.architecture.layers[name]
        end = layer.offset + (layer.fan_in + 1) * layer.fan_out
        ensemble.parameters[0, layer.offset : end] = 0.0
    metadata = {"sigma2": sigma2, "beta": 1.0, "seed": 0}
    save_model(folder / "weights.safetensors", ensemble, 0, np.full(3, mean, np.float32), metadata)
    return phasevae.load(folder)


@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_second_differences_at_a_collapsed_network_are_the_blocks(tmp_path, mean):
    """Strongly non-Gaussian data: only their covariance may matter."""
    rng = np.random.default_rng(0)
    x = mean + (rng.exponential(size=(3000, 3)) - 1) * np.sqrt([1.0, 0.5, 0.2])
    measured = measure_stability(collapsed_model(tmp_path, mean=mean), x, n_modes=3)
    assert measured["active"] == []
    assert measured["eigenvalues"] == pytest.approx(np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1], rel=1e-4)
    assert len(measured["blocks"]) == 2 * 3 * 2
    # Of the noise, 3000 rows x 32 draws are left: a few parts in a thousand.
    assert measured["largest_error"] < 0.03
    assert all(block["soft_mode"] > 0 for block in measured["blocks"])
    write_json(tmp_path / "stability.json", measured)


@pytest.fixture(scope="module")
def gaussian():
    return gaussian_samples([2.0, 1.0, 0.5, 0.1], 4000)


def optimum(gaussian, sigma2: float, beta: float, n_active: int, n_latent: int = 3):
    """The linear VAE at the optimum of Gaussian data with some of its latents active."""
    _, values, vectors = gaussian
    ensemble = linear_vae(values, vectors, beta * sigma2, n_active, n_latent)
    single = VAEEnsemble(ensemble.architecture, ensemble.parameters.float())
    return TrainedVAE(single, torch.zeros(4), {"sigma2": sigma2, "beta": beta})


@pytest.mark.parametrize(
    ("sigma2", "beta", "n_active"),
    [(0.7, 1.0, 2), (0.35, 2.0, 2), (1.3, 1.0, 1), (0.3, 1.0, 1)],
)
def test_second_differences_beside_active_latents_are_those_of_the_closed_form(gaussian, sigma2, beta, n_active):
    """A mode is a direction that no latent carries, or a copy of one that is carried, with s^2 / lambda."""
    x, values, _ = gaussian
    s = beta * sigma2
    expected = np.sort(np.concatenate([values[n_active:], s**2 / values[:n_active]]))[::-1]
    found = measure_stability(optimum(gaussian, sigma2, beta, n_active), x, latents=[n_active])
    assert found["active"] == list(range(n_active))
    for block in found["blocks"]:
        coupling, scale = np.sqrt(expected[block["mode"]]) / sigma2, 2**0.5 if block["channel"] == "width" else 1
        form = np.array([[1 / sigma2, -scale * coupling], [-scale * coupling, scale**2 * beta]])
        assert np.array(block["measured"]) == pytest.approx(form, abs=0.03 * np.diag(form).max())
        # The sign of the soft mode says whether the latent would live.
        assert (block["soft_mode"] > 0) == (s > expected[block["mode"]])


def test_what_has_not_collapsed_is_refused(gaussian, tmp_path):
    x = gaussian[0]
    with pytest.raises(InputError, match="latent 2, must be from 0 to 1"):
        measure_stability(collapsed_model(tmp_path), x[:100, :3], latents=[2])
    with pytest.raises(InputError, match="names none"):
        measure_stability(collapsed_model(tmp_path), x[:100, :3], latents=[])
    with pytest.raises(InputError, match="1 samples, must be 2 or more"):
        measure_stability(collapsed_model(tmp_path), x[:1, :3])
    model = optimum(gaussian, 0.7, 1.0, 2)
    with pytest.raises(InputError, match=r"latent 1 has a KL of 0\.\d+ nats, must have collapsed"):
        measure_stability(model, x, latents=[1])
    with pytest.raises(InputError, match="all 1 latents are active"):
        measure_stability(optimum(gaussian, 0.7, 1.0, 1, n_latent=1), x)


def test_a_model_that_has_diverged_is_no_active_one(gaussian):
    model = optimum(gaussian, 0.7, 1.0, 2)
    model._ensemble.parameters.fill_(np.nan)
    with pytest.raises(InputError, match="not finite"):
        measure_stability(model, gaussian[0])


def test_more_modes_than_the_spectrum_has_are_all_of_them(gaussian, tmp_path):
    found = measure_stability(collapsed_model(tmp_path), gaussian[0][:200, :3], latents=[0], n_modes=40)
    assert [block["mode"] for block in found["blocks"]] == [0, 0, 1, 1, 2, 2]
