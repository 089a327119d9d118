"""Stored hierarchies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import phasevae
from phasevae.errors import InputError
from phasevae.hierarchy import HierarchyArchitecture, HierarchyEnsemble, TrainedHierarchy
from phasevae.measurement.stability import measure_stability
from phasevae.model import initialise
from phasevae.trained import load_vae, save_model

MEAN = np.array([1.0, -2.0, 0.5], dtype=np.float32)


@pytest.fixture(params=[None, 0.3], ids=["learned", "fixed"])
def stored(request, tmp_path) -> tuple[HierarchyEnsemble, TrainedHierarchy]:
    architecture = HierarchyArchitecture(3, 2, (7, 4), n_top=1, posterior_variance=request.param)
    ensemble = HierarchyEnsemble(architecture, initialise(architecture, [0, 1]).parameters)
    metadata = {"sigma2": 0.5, "beta": 1.0, "seed": 1, "beta_top": 2.0}
    save_model(tmp_path / "weights.safetensors", ensemble, 1, MEAN, metadata)
    return ensemble.member(1), phasevae.load(tmp_path)


def test_a_stored_hierarchy_computes_the_same(stored):
    ensemble, model = stored
    x, z1, z2 = torch.randn(5, 3), torch.randn(5, 2), torch.randn(5, 1)
    pairs = [
        (model.encode(x)[0], ensemble.encode(x[None] - torch.from_numpy(MEAN))[0][0]),
        (model.decode(z1), ensemble.decode(z1[None])[0] + torch.from_numpy(MEAN)),
        (model.encode_top(z1)[0], ensemble.encode_top(z1[None])[0][0]),
        (model.decode_top(z2), ensemble.decode_top(z2[None])[0]),
    ]
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    if ensemble.architecture.posterior_variance is not None:
        assert model.encode(x)[1] == pytest.approx(np.full((5, 2), 0.3))


def test_samples_come_through_both_levels(stored):
    _, model = stored
    drawn = model.sample(20_000, seed=3)
    means = model.decode_top(torch.randn(20_000, 1))
    z1 = means + torch.randn(means.shape)
    expected = model.decode(z1)
    assert drawn.mean(0) == pytest.approx(expected.mean(0), abs=0.03)
    assert drawn.var(0) == pytest.approx(expected.var(0) + 0.5, rel=0.05)


def test_the_second_variation_of_a_hierarchy_is_refused(stored):
    with pytest.raises(InputError, match="stability: the model has two levels"):
        measure_stability(stored[1], np.zeros((4, 3)))


def test_a_hierarchy_is_no_plain_vae(stored, tmp_path):
    with pytest.raises(InputError, match=r"weights\.safetensors: has two levels of latents, must have one"):
        load_vae(tmp_path)


def test_the_diagnosis_of_a_hierarchy_is_refused(stored, tmp_path):
    x = np.random.default_rng(0).normal(size=(100, 3))
    with pytest.raises(InputError, match="model: has two levels of latents, must be a plain VAE"):
        phasevae.diagnose(tmp_path, x)
