from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_vaes import gaussian_samples, linear_vae

from phasevae.architecture import Architecture
from phasevae.kernels.reconstruction import Reconstruction
from phasevae.measurement.residual import measure_residual, residual_numbers
from phasevae.measurement.residual_bases import LatentBasis, input_axes, unbiased_square
from phasevae.model import VAEEnsemble, initialise
from phasevae.rows import Rows
from phasevae.sweeps.settings import Member
from phasevae.theory.residual import ppca_residual_edge

N_LATENT = 3


@pytest.fixture(scope="module")
def gaussian():
    x, values, vectors = gaussian_samples([2.0, 1.2, 0.7, 0.3, 0.1], 20_000)
    return torch.from_numpy(x), values, vectors


def truth(values, s, n_active):
    """Linear functions: what no latent carries, and copies of what one carries."""
    return np.sort(np.concatenate([values[n_active:], s**2 / values[:n_active]]))[::-1]


@pytest.mark.parametrize(
    ("s", "n_active"), [(2.2, 0), (1.6, 0), (1.6, 1), (1.0, 2), (1.0, 1), (0.5, 3), (0.5, 2), (0.15, 3)]
)
def test_the_spectrum_of_a_linear_vae(gaussian, s, n_active):
    x, values, vectors = gaussian
    member = Member(s / 1.5, 1.5, 0)
    found = measure_residual(linear_vae(values, vectors, s, n_active, N_LATENT), x, member, range(n_active))
    expected = truth(values, s, n_active)
    assert found.edge == pytest.approx(expected[0], rel=0.01)
    assert found.eigenvalues == pytest.approx(expected, rel=0.01, abs=0.01 * expected[0])
    assert abs(found.edge - expected[0]) < 5 * found.standard_error + 1e-6 < 0.02 * expected[0]
    assert found.corrected_edge == pytest.approx(expected[0], rel=0.01)
    assert found.decoder_gap < 1e-3 * s


def test_the_edge_of_the_optimum_is_the_closed_form(gaussian):
    x, values, vectors = gaussian
    for s in (0.4, 0.8, 1.1, 1.7, 2.5):
        n_active = min(N_LATENT, int((values > s).sum()))
        found = measure_residual(
            linear_vae(values, vectors, s, n_active, N_LATENT), x, Member(s, 1.0, 0), range(n_active)
        )
        assert found.edge == pytest.approx(float(ppca_residual_edge(values, s, N_LATENT)), rel=0.01)


def test_the_leading_mode_is_the_next_component(gaussian):
    x, values, vectors = gaussian
    found = measure_residual(linear_vae(values, vectors, 1.0, 1, N_LATENT), x, Member(1.0, 1.0, 0), [0])
    assert abs(found.directions[0] @ vectors[:, 1]) == pytest.approx(1, abs=1e-3)
    h = x.numpy() @ found.functions[0]
    assert h.std() == pytest.approx(1, rel=1e-3)
    assert abs(np.corrcoef(h, x.numpy() @ vectors[:, 1])[0, 1]) == pytest.approx(1, abs=1e-3)


def test_any_latents_may_be_the_active_ones(gaussian):
    x, values, vectors = gaussian
    model, architecture = linear_vae(values, vectors, 0.5, 3, 4), Architecture(5, 4, ())
    tensors = {
        name: torch.tensor(array.copy()) for name, array in architecture.tensors(model.parameters[0].numpy()).items()
    }
    order = [3, 1, 0, 2]
    tensors["encoder.0.weight"] = tensors["encoder.0.weight"].unflatten(1, (2, 4))[:, :, order].flatten(1)
    tensors["encoder.0.bias"] = tensors["encoder.0.bias"].unflatten(0, (2, 4))[:, order].flatten()
    tensors["decoder.0.weight"] = tensors["decoder.0.weight"][order]
    row = torch.cat(
        [tensors[f"{part}.0.{kind}"].flatten() for part in ("encoder", "decoder") for kind in ("weight", "bias")]
    )
    permuted = VAEEnsemble(architecture, torch.nn.functional.pad(row[None], (0, architecture.row_length - len(row))))
    found = measure_residual(permuted, x, Member(0.5, 1.0, 0), [1, 2, 3])
    assert found.edge == pytest.approx(truth(values, 0.5, 3)[0], rel=0.01)


def test_a_decoder_off_the_conditional_mean_is_measured_and_corrected(gaussian):
    x, values, vectors = gaussian
    model = linear_vae(values, vectors, 1.0, 2, N_LATENT)
    layer = model.architecture.layers["decoder.0"]
    weight = slice(layer.offset, layer.offset + layer.fan_in * layer.fan_out)
    loadings = model.parameters[0, weight].clone()
    model.parameters[0, weight] *= 0.6
    found = measure_residual(model, x, Member(1.0, 1.0, 0), range(2))
    expected = truth(values, 1.0, 2)[0]
    # E |0.4 W z|^2 / 2 with E z z^T = 1.
    assert found.decoder_gap == pytest.approx(0.5 * 0.16 * float(loadings.square().sum()), rel=0.05)
    assert found.edge > 1.05 * expected
    assert found.corrected_edge == pytest.approx(expected, rel=0.01)


def test_numbers_do_not_depend_on_the_ensemble(gaussian):
    x = gaussian[0][:3000].float()
    architecture, member = Architecture(5, N_LATENT, (16,)), Member(0.5, 1.0, 3)
    several = initialise(architecture, [1, 3, 2])
    kl = np.array([1.0, 0.0, 1.0])
    first, second = (
        residual_numbers(model, x, member, kl, None) for model in (several.member(1), initialise(architecture, [3]))
    )
    assert first["residual_edge"] == second["residual_edge"]
    assert first["residual_margin"] == 0.5 - first["residual_edge"]


class Logits(Reconstruction):
    """Independent binary features, or one class: cross entropy of logits."""

    is_linear = True

    def __init__(self, x, one_class: bool):
        self.n_outputs, self._one_class = x.shape[1], one_class
        p = x.mean(0)
        self.offset = p.log() if one_class else (p / (1 - p)).log()

    def statistics(self, x):
        return x

    def energy(self, statistics, outputs, sigma2):
        kept = outputs.logsumexp(-1) if self._one_class else torch.nn.functional.softplus(outputs).sum(-1)
        return (kept - (statistics[:, None] * outputs).sum(-1)) / sigma2[:, None, None]

    def means(self, outputs):
        return outputs.softmax(-1) if self._one_class else outputs.sigmoid()

    def constant(self, x, sigma2):
        return x.new_zeros(x.shape[0])


def collapsed(dimension: int, n_condition: int = 0) -> VAEEnsemble:
    architecture = Architecture(dimension, 2, (), n_condition=n_condition)
    return VAEEnsemble(architecture, torch.zeros(1, architecture.row_length, dtype=torch.float64))


def test_binary_features_have_the_eigenvalues_of_their_correlation():
    hidden = np.random.default_rng(0).normal(size=(8000, 1))
    drawn = np.random.default_rng(1).normal(size=(8000, 4))
    x = torch.from_numpy((hidden * [1.5, 1.0, 0.5, 0.0] + drawn > [0.0, 0.5, -0.5, 1.0]).astype(float))
    found = measure_residual(collapsed(4), x, Member(1.0, 1.0, 0), [], Logits(x, False))
    assert found.eigenvalues == pytest.approx(np.linalg.eigvalsh(np.corrcoef(x.T.numpy()))[::-1], rel=0.01)


def test_one_class_has_an_edge_of_1():
    """An exact decoder of nothing else: G = H, and the direction of constant logits costs and gains nothing."""
    x = torch.eye(4, dtype=torch.float64)[
        torch.from_numpy(np.random.default_rng(0).choice(4, 5000, p=[0.4, 0.3, 0.2, 0.1]))
    ]
    found = measure_residual(collapsed(4), x, Member(1.0, 1.0, 0), [], Logits(x, True))
    assert found.eigenvalues[:3] == pytest.approx(np.ones(3), rel=1e-2)


def test_a_loss_without_curvature_has_no_spectrum(gaussian):
    class Linear(Logits):
        def energy(self, statistics, outputs, sigma2):
            return -(statistics[:, None] * outputs).sum(-1) / sigma2[:, None, None]

    x = gaussian[0][:500]
    numbers = residual_numbers(collapsed(5), x, Member(1.0, 1.0, 0), np.zeros(2), Linear(x.sigmoid(), False))
    assert set(numbers.values()) == {None}


def test_a_latent_may_serve_one_condition_alone():
    rng = np.random.default_rng(0)
    label = rng.integers(2, size=20_000)
    spread = np.sqrt([[1.0, 0.1, 0.2], [0.1, 0.4, 0.2]])
    x = torch.from_numpy(rng.normal(size=(20_000, 3)) * spread[label])
    condition = torch.eye(2, dtype=torch.float64)[torch.from_numpy(label)]
    x = x - condition @ (condition.T @ x / condition.sum(0)[:, None])
    rows = Rows(x, np.zeros(3, dtype=np.float32), torch.cat([x, condition], 1), condition)
    found = measure_residual(collapsed(3, 2), rows, Member(1.0, 1.0, 0), [])
    expected = max(np.linalg.eigvalsh(np.cov(x[condition[:, c] == 1].T.numpy(), bias=True))[-1] for c in range(2))
    assert found.edge == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("n", "functions"), [(0, 1), (2, 6), (9, 55), (12, 25), (40, 41), (80, 64)])
def test_the_basis_of_the_latents_is_bounded(n, functions):
    latents = torch.randn(2, 10, n, generator=torch.Generator().manual_seed(0))
    basis = LatentBasis.of(latents)(latents)
    assert basis.shape == (2, 10, functions)
    assert (basis[..., 0] == 1).all()


def test_products_of_different_parts_have_no_bias():
    parts = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 3, 2)))
    pairs = [parts[r].T @ parts[s] for r in range(4) for s in range(4) if r != s]
    assert torch.allclose(unbiased_square(parts), torch.stack(pairs).mean(0))


def test_wide_inputs_keep_their_leading_directions():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(1500, 3)))[0]
    x = torch.from_numpy(rng.normal(size=(300, 3)) * [9.0, 6.0, 4.0] @ basis.T + 0.01 * rng.normal(size=(300, 1500)))
    axes = input_axes(x)
    assert axes.shape[1] < 30
    assert np.linalg.norm(axes.numpy().T @ basis, axis=0) == pytest.approx(np.ones(3), abs=1e-3)
