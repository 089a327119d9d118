from __future__ import annotations

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch.autograd import gradcheck
from torch.nn.functional import binary_cross_entropy_with_logits

from phasevae import InputError
from phasevae.kernels import noise
from phasevae.kernels.elbo import bernoulli_nll, gaussian_nll, posterior_draws, reparam_kl
from phasevae.kernels.reference import softplus, width

KEYS = torch.tensor([1, -2, 3])


def ensemble(*shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


@given(st.floats(-12, 8), st.sampled_from([torch.float32, torch.float64]))
def test_kl_has_no_cancellation(t, dtype):
    value = torch.tensor(t, dtype=dtype)
    with mpmath.workdps(700):
        exact = mpmath.expm1(mpmath.mpf(value.item())) - mpmath.mpf(value.item())
    tiny = torch.finfo(dtype).tiny
    assert width(value)[1].item() == pytest.approx(float(exact), rel=20 * torch.finfo(dtype).eps, abs=tiny)


def test_kl_is_that_of_torch_distributions():
    mu, logvar = ensemble(3, 5, 2), ensemble(3, 5, 2, scale=2.0)
    _, kl = reparam_kl(mu, logvar, KEYS, 0)
    posterior = torch.distributions.Normal(mu, (logvar / 2).exp())
    prior = torch.distributions.Normal(torch.zeros(()).double(), torch.ones(()).double())
    assert torch.allclose(kl, torch.distributions.kl_divergence(posterior, prior))


def test_draws_are_the_documented_noise():
    mu, logvar = ensemble(3, 5, 2), ensemble(3, 5, 2)
    eps = noise.normals(KEYS, torch.arange(5), 2, 7, torch.float64)
    pair, _ = reparam_kl(mu, logvar, KEYS, 7, antithetic=True)
    single, _ = reparam_kl(mu, logvar, KEYS, 7)
    assert pair.shape == (3, 2, 5, 2)
    assert torch.allclose(pair[:, 0], mu + (logvar / 2).exp() * eps)
    assert torch.allclose(pair.mean(1), mu)
    assert torch.equal(single[:, 0], pair[:, 0])


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_at_several_steps_are_those_of_reparam_kl(antithetic, dtype):
    mu, logvar = ensemble(3, 5, 2, dtype=dtype), ensemble(3, 5, 2, scale=2.0, dtype=dtype)
    steps = [0, 7, (3 << 32) + 1]
    together = posterior_draws(mu, logvar, KEYS, torch.tensor(steps), antithetic)
    singly = torch.cat([reparam_kl(mu, logvar, KEYS, step, antithetic)[0] for step in steps], 1)
    assert together.shape == (3, 6 if antithetic else 3, 5, 2)
    if dtype == torch.float32:
        assert torch.equal(together, singly)
    assert torch.allclose(together, singly)


@pytest.mark.parametrize("antithetic", [False, True])
def test_gradients_of_reparam_kl(antithetic):
    mu, logvar = ensemble(3, 2, 2).requires_grad_(), ensemble(3, 2, 2, scale=0.4).requires_grad_()
    assert gradcheck(lambda m, v: reparam_kl(m, v, KEYS, 3, antithetic), (mu, logvar))


def test_gradient_near_the_collapsed_state_is_exact_in_float32():
    logvar = torch.tensor([1e-6, -1e-4, 1e-3]).view(1, 1, 3).requires_grad_()
    _, kl = reparam_kl(torch.zeros(1, 1, 3), logvar, KEYS[:1], 0)
    kl.sum().backward()
    assert torch.allclose(2 * logvar.grad.double(), torch.expm1(logvar.detach().double()), rtol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_gaussian_nll_and_its_gradient(shared):
    x = ensemble(1 if shared else 3, 4, 5)
    xhat = ensemble(3, 2, 4, 5).requires_grad_()
    sigma2 = torch.tensor([0.1, 1.0, 30.0], dtype=torch.float64)
    expected = ((xhat - x[:, None]) ** 2).sum(-1) / (2 * sigma2[:, None, None])
    assert torch.allclose(gaussian_nll(x, xhat, sigma2), expected)
    assert gradcheck(lambda y: gaussian_nll(x, y, sigma2), (xhat,))


def test_gaussian_nll_is_the_log_density_up_to_its_constant():
    x, xhat, sigma2 = ensemble(1, 4, 5), ensemble(1, 1, 4, 5), torch.tensor([0.7], dtype=torch.float64)
    density = torch.distributions.Normal(xhat[:, 0], sigma2.sqrt()).log_prob(x).sum(-1)
    constant = -2.5 * torch.log(2 * torch.pi * sigma2)
    assert torch.allclose(constant - gaussian_nll(x, xhat, sigma2)[:, 0], density)


@pytest.mark.parametrize("shared", [False, True])
def test_bernoulli_nll_and_its_gradient(shared):
    x = ensemble(1 if shared else 3, 4, 5).sigmoid()
    logits = ensemble(3, 2, 4, 5, scale=3.0).requires_grad_()
    sigma2 = torch.tensor([0.1, 1.0, 30.0], dtype=torch.float64)
    target = x[:, None].expand_as(logits)
    expected = binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1) / sigma2[:, None, None]
    assert torch.allclose(bernoulli_nll(x, logits, sigma2), expected)
    assert gradcheck(lambda f: bernoulli_nll(x, f, sigma2), (logits,))


@given(st.floats(-100, 100, width=32))
def test_softplus_keeps_its_digits_in_float32(t):
    value, slope = softplus(torch.tensor(t, dtype=torch.float32))
    exact = mpmath.log1p(mpmath.exp(t))
    tiny = torch.finfo(torch.float32).tiny
    assert float(value) == pytest.approx(float(exact), rel=1e-6, abs=tiny)
    assert float(slope) == pytest.approx(float(1 / (1 + mpmath.exp(-t))), rel=1e-6, abs=tiny)


@given(arrays.arrays("float32", (1, 3, 2), elements=st.just(float("nan"))))
def test_nan_stays_visible(values):
    mu = torch.zeros(1, 3, 2)
    z, kl = reparam_kl(mu, torch.from_numpy(values), KEYS[:1], 0)
    assert z.isnan().all()
    assert kl.isnan().all()
    assert bernoulli_nll(mu, torch.from_numpy(values)[None], torch.ones(1)).isnan().all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: reparam_kl(torch.zeros(3, 4, 2), torch.zeros(3, 4, 3), KEYS, 0),
        lambda: reparam_kl(torch.zeros(2, 4, 2), torch.zeros(2, 4, 2), KEYS, 0),
        lambda: reparam_kl(torch.zeros(4, 2), torch.zeros(4, 2), KEYS, 0),
        lambda: posterior_draws(torch.zeros(3, 4, 2), torch.zeros(3, 4, 3), KEYS, KEYS),
        lambda: gaussian_nll(torch.zeros(2, 4, 5), torch.zeros(3, 1, 4, 5), torch.ones(3)),
        lambda: gaussian_nll(torch.zeros(3, 4, 5), torch.zeros(3, 1, 4, 6), torch.ones(3)),
        lambda: gaussian_nll(torch.zeros(3, 4, 5), torch.zeros(3, 1, 4, 5), torch.ones(2)),
        lambda: bernoulli_nll(torch.zeros(2, 4, 5), torch.zeros(3, 1, 4, 5), torch.ones(3)),
    ],
)
def test_wrong_shapes_are_refused_with_the_right_ones(call):
    with pytest.raises(InputError, match="must be"):
        call()
