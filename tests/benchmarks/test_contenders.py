"""The contenders of benchmarks/time_to_accuracy.py against phasevae's model; frameworks may be missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from contenders import common, compiled_loop, course, multi_rate
from networks import recorded
from numpy.typing import NDArray

from phasevae.architecture import Architecture
from phasevae.model import posterior
from phasevae.theory.ppca import gaussian_kl
from phasevae.training.variance_reduction import rao_blackwell_targets

SIGMA2 = (0.3, 0.9)
ARCHITECTURE = Architecture(5, 2, (7, 6))
# Antithetic or not, and the number of rows that share the decoder's targets.
WAYS = [(False, 1), (True, 1), (False, 16), (True, 4)]


@pytest.fixture
def run() -> common.Run:
    x = np.random.default_rng(0).standard_normal((64, 5), dtype=np.float32)
    settings = common.settings_of("ours", 2, (7, 6), 640).with_changes(batch=16)
    return common.Run(x, SIGMA2, 3, settings, 1)


def reference(
    parameters: NDArray, x: NDArray, mean: NDArray, eps: NDArray, antithetic: bool, group: int
) -> tuple[NDArray, NDArray]:
    """Negative ELBOs [M] and the gradients [M, P] of a step by phasevae's model for given noise [M, B, n]."""
    leaf = torch.from_numpy(parameters.copy()).requires_grad_()
    encoder, decoder = ARCHITECTURE.networks
    rows = torch.from_numpy(x)[None]
    mu, logvar = posterior(recorded(encoder, leaf, rows))
    spread = (0.5 * logvar).exp() * torch.from_numpy(eps)
    z = torch.stack((mu + spread, mu - spread) if antithetic else (mu + spread,), 1)
    xhat = recorded(decoder, leaf, z.flatten(1, 2)).unflatten(1, z.shape[1:3])

    def nll(target: torch.Tensor) -> torch.Tensor:
        return (xhat - target).square().sum(-1).mean((1, 2)) / (2 * torch.tensor(SIGMA2))

    kl = gaussian_kl(mu, logvar, torch.expm1).sum(-1).mean(1)
    loss = nll(rows[:, None]) + kl
    (gradients,) = torch.autograd.grad(loss.sum(), leaf, retain_graph=True)
    if group > 1:
        shared = nll(rao_blackwell_targets(rows, torch.from_numpy(mean), mu, logvar, z, xhat, group)).sum()
        (of_decoder,) = torch.autograd.grad(shared, leaf)
        gradients[:, encoder.end :] = of_decoder[:, encoder.end :]
    return loss.detach().numpy(), gradients.numpy()


@pytest.fixture
def jax_ensemble():
    pytest.importorskip("jax")
    from contenders import jax_ensemble

    return jax_ensemble


@pytest.mark.parametrize(("antithetic", "group"), WAYS)
@pytest.mark.parametrize("products", ["vmap", "unrolled"])
def test_jax_has_phasevaes_loss_and_gradient(jax_ensemble, run, products, antithetic, group):
    import jax

    rng = np.random.default_rng(1)
    models = [jax_ensemble.initial(run, rng) for _ in SIGMA2]
    eps = rng.standard_normal((2, 16, 2), dtype=np.float32)
    loss, gradient = reference(rows_of(models), run.x[:16], run.x.mean(0), eps, antithetic, group)
    total = jax_ensemble.total_loss(products, antithetic, group, run.x.mean(0))
    arguments = (jax_ensemble.stack(models) if products == "vmap" else models, run.x[:16], eps, np.float32(SIGMA2))
    assert float(total(*arguments)) == pytest.approx(loss.sum(), rel=1e-5)
    actual = jax.grad(total)(*arguments)
    actual = jax_ensemble.unstack(actual, 2) if products == "vmap" else actual
    np.testing.assert_allclose(rows_of(actual), gradient, rtol=1e-4, atol=1e-6)


def rows_of(models: list) -> NDArray:
    """Weights [M, P] of (encoder, decoder) pairs of JAX arrays."""
    return np.stack(
        [common.flat([map(np.asarray, layer) for layer in (*encoder, *decoder)]) for encoder, decoder in models]
    )


def test_jaxs_adam_is_torchs(jax_ensemble):
    rng = np.random.default_rng(2)
    expected = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    optimiser = torch.optim.Adam([expected], lr=0.01)
    actual, mean, square = np.float32([1, -2, 3]), np.zeros(3, np.float32), np.zeros(3, np.float32)
    for step in range(5):
        gradient = rng.standard_normal(3).astype(np.float32)
        expected.grad = torch.from_numpy(gradient)
        optimiser.step()
        actual, mean, square = jax_ensemble.adam(actual, gradient, mean, square, np.float32(0.01), step + 1.0)
    np.testing.assert_allclose(actual, expected.detach(), rtol=1e-6)


def test_jax_shows_every_row_once_an_epoch_and_follows_the_schedules(jax_ensemble, run):
    contender = jax_ensemble.JaxEnsemble(run, "vmap")
    rows, factors, rates, first, count = contender._inputs(6)
    assert (int(first), int(count)) == (0, 6)
    assert sorted(np.asarray(rows)[:4].ravel()) == list(range(64))
    np.testing.assert_allclose(factors[:6], [run.settings.sigma2_factor_at(step) for step in range(6)], rtol=1e-6)
    np.testing.assert_allclose(rates[:6], [run.settings.learning_rate_at(step) for step in range(6)], rtol=1e-6)


def test_jax_in_one_call_is_jax_in_several(jax_ensemble, run, monkeypatch):
    monkeypatch.setattr(jax_ensemble, "BLOCK", 8)
    whole, parts = (jax_ensemble.JaxEnsemble(run, "vmap") for _ in range(2))
    start = whole.parameters()
    whole.train(20)
    for steps in (1, 7, 12):
        parts.train(steps)
    np.testing.assert_array_equal(whole.parameters(), parts.parameters())
    assert (np.abs(whole.parameters() - start).max(1) > 1e-3).all()


@pytest.fixture
def pythae_trainer():
    pytest.importorskip("pythae.trainers")
    from contenders import pythae_trainer

    return pythae_trainer


@pytest.mark.parametrize(("antithetic", "group"), WAYS)
def test_pythaes_loss_and_gradient_are_the_decoder_variance_times_ours(
    pythae_trainer, run, antithetic, group, monkeypatch
):
    run = run.with_settings(antithetic=antithetic, rao_blackwell_group=group, schedule="scratch")
    contender = pythae_trainer.start(run, workers=0, threads=1)
    eps = np.random.default_rng(1).standard_normal((2, 16, 2), dtype=np.float32)
    loss, gradient = reference(contender.parameters(), run.x[:16], run.x.mean(0), eps, antithetic, group)
    for i, trainer in enumerate(contender._trainers):
        monkeypatch.setattr(torch, "randn_like", lambda *_, i=i: torch.from_numpy(eps[i]))
        output = trainer.model({"data": torch.from_numpy(run.x[:16])})
        assert output.loss.item() == pytest.approx(SIGMA2[i] * loss[i], rel=1e-5)
        output.loss.backward()
        parts = (*trainer.model.encoder.net, *trainer.model.decoder.net)
        linear = [part for part in parts if isinstance(part, torch.nn.Linear)]
        actual = common.flat([(layer.weight.grad.numpy().T, layer.bias.grad.numpy()) for layer in linear])
        np.testing.assert_allclose(actual, SIGMA2[i] * gradient[i], rtol=1e-4, atol=1e-6)


def test_pythae_follows_the_schedules_step_by_step(pythae_trainer, run):
    contender = pythae_trainer.start(run, workers=0, threads=1)
    start = contender.parameters()
    for done in (0, 3, 8):
        for trainer, sigma2 in zip(contender._trainers, SIGMA2, strict=True):
            assert trainer.model.beta == pytest.approx(sigma2 * run.settings.sigma2_factor_at(done))
            assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(run.settings.learning_rate_at(done))
        contender.train(3 if done == 0 else 5)
    assert (np.abs(contender.parameters() - start).max(1) > 1e-4).all()


def test_pythae_trains_the_models_that_are_measured(pythae_trainer, run):
    run = replace(run, settings=common.settings_of("usual", 2, (7, 6), 1e6))
    contender = pythae_trainer.start(run, workers=0, threads=1)
    kl = course.kl_per_dim(contender.parameters(), run)
    for trainer, of_model in zip(contender._trainers, kl, strict=True):
        output = trainer.model({"data": torch.from_numpy(run.x)})
        assert output.reg_loss.item() == pytest.approx(of_model.sum(), rel=1e-4)


def test_the_compiled_loop_compiles_once_for_all_variances_and_before_the_training(run, monkeypatch):
    """What the compiler would make a constant is a tensor; the compiler itself takes half a minute."""
    calls, compiled = [], []

    def compile_(function):
        compiled.append(function)
        return lambda model, *tensors: calls.append([type(part) for part in tensors]) or function(model, *tensors)

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    contender = compiled_loop.start(run, workers=0, threads=1)
    start = contender.parameters()
    assert len(compiled) == 1
    assert len(calls) == len(SIGMA2)
    contender.train(4)
    assert len(calls) == 5 * len(SIGMA2)
    assert all(kinds == [torch.Tensor, torch.Tensor] for kinds in calls)
    assert (np.abs(contender.parameters() - start).max(1) > 1e-4).all()


@pytest.fixture
def trained(run):
    """A Multi-Rate VAE whose gates have become different at different decoder variances."""
    contender = multi_rate.start(run.with_settings(learning_rate=0.02), workers=0, threads=1)
    contender.train(40)
    parameters = contender.parameters()
    assert np.abs(parameters[0] - parameters[1]).max() > 1e-3
    return contender


def test_a_multi_rate_vae_at_one_variance_is_an_ordinary_network(trained, run, monkeypatch):
    eps = np.random.default_rng(1).standard_normal((16, 2), dtype=np.float32)
    expected, _ = reference(trained.parameters(), run.x[:16], run.x.mean(0), np.stack([eps, eps]), False, 1)
    monkeypatch.setattr(torch, "randn_like", lambda _: torch.from_numpy(eps))
    for sigma2, nll in zip(SIGMA2, expected, strict=True):
        loss = trained.loss(torch.from_numpy(run.x[:16]), torch.full((16,), sigma2))
        assert loss.item() == pytest.approx(sigma2 * nll, rel=1e-4)


def test_a_multi_rate_vae_is_trained_within_the_range_of_the_points(trained, monkeypatch):
    seen = []
    loss = trained.loss
    monkeypatch.setattr(trained, "loss", lambda x, sigma2: seen.append(sigma2) or loss(x, sigma2))
    trained.train(20)
    shown = torch.cat(seen)
    assert shown.min() >= SIGMA2[0] * (1 - 1e-6)
    assert shown.max() <= SIGMA2[1] * (1 + 1e-6)
    # Uniform in the logarithm: as many below the geometric mean as above it, within five standard errors.
    assert (shown < np.sqrt(SIGMA2[0] * SIGMA2[1])).float().mean() == pytest.approx(
        0.5, abs=5 * 0.5 / len(shown) ** 0.5
    )


@pytest.mark.parametrize("argument", [-20.0, -0.3, multi_rate.SHUT, 0.0, 5.0])
def test_the_gates_have_finite_derivatives(argument):
    for gate in (multi_rate.encoder_gate, multi_rate.decoder_gate):
        x = torch.tensor(argument, requires_grad=True)
        gate(x).backward()
        assert 0 < gate(x).item() <= 1
        assert torch.isfinite(x.grad)
