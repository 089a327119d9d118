from __future__ import annotations

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch.autograd import gradcheck

from phasevae import InputError, noise
from phasevae._reference import exp_excess
from phasevae.elbo import decoder_targets, gaussian_nll, reparam_kl

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
    assert exp_excess(value).item() == pytest.approx(float(exact), rel=20 * torch.finfo(dtype).eps, abs=tiny)


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
def test_gradients_of_reparam_kl(antithetic):
    mu, logvar = ensemble(3, 2, 2).requires_grad_(), ensemble(3, 2, 2, scale=0.4).requires_grad_()
    assert gradcheck(lambda m, v: reparam_kl(m, v, KEYS, 3, antithetic), (mu, logvar))


def test_gradient_near_the_collapsed_state_is_exact_in_float32():
    logvar = torch.tensor([1e-6, -1e-4, 1e-3], requires_grad=True)
    exp_excess(logvar).sum().backward()
    assert torch.allclose(logvar.grad.double(), torch.expm1(logvar.detach().double()), rtol=1e-6)


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


@given(arrays.arrays("float32", (1, 3, 2), elements=st.just(float("nan"))))
def test_nan_stays_visible(values):
    mu = torch.zeros(1, 3, 2)
    z, kl = reparam_kl(mu, torch.from_numpy(values), KEYS[:1], 0)
    assert z.isnan().all()
    assert kl.isnan().all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: reparam_kl(torch.zeros(3, 4, 2), torch.zeros(3, 4, 3), KEYS, 0),
        lambda: reparam_kl(torch.zeros(2, 4, 2), torch.zeros(2, 4, 2), KEYS, 0),
        lambda: reparam_kl(torch.zeros(4, 2), torch.zeros(4, 2), KEYS, 0),
        lambda: gaussian_nll(torch.zeros(2, 4, 5), torch.zeros(3, 1, 4, 5), torch.ones(3)),
        lambda: gaussian_nll(torch.zeros(3, 4, 5), torch.zeros(3, 1, 4, 6), torch.ones(3)),
        lambda: gaussian_nll(torch.zeros(3, 4, 5), torch.zeros(3, 1, 4, 5), torch.ones(2)),
    ],
)
def test_wrong_shapes_are_refused_with_the_right_ones(call):
    with pytest.raises(InputError, match="must be"):
        call()


def group_setting(n: int = 2) -> tuple[torch.Tensor, ...]:
    """x [1, 12, 3], mu and logvar [2, 12, n], z [2, 2, 12, n] in float64."""
    shapes = ((1, 12, 3), (2, 12, n), (2, 12, n), (2, 2, 12, n))
    generator = torch.Generator().manual_seed(5)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


def test_decoder_targets_are_the_means_of_x_given_z_among_a_group():
    x, mu, logvar, z = group_setting()
    found = decoder_targets(x, mu, logvar, z, 4)
    model, draw, row = 1, 0, 6
    mates = slice(4, 8)
    density = torch.distributions.Normal(mu[model, mates], (logvar[model, mates] / 2).exp())
    weights = density.log_prob(z[model, draw, row]).sum(-1).softmax(0)
    assert found.shape == (2, 2, 12, 3)
    assert torch.allclose(found[model, draw, row], weights @ x[0, mates])


def test_a_group_of_one_gives_each_row_its_own_target():
    x, mu, logvar, z = group_setting()
    assert torch.allclose(decoder_targets(x, mu, logvar, z, 1), x[:, None].expand(2, 2, -1, -1))


def test_a_group_that_does_not_divide_the_rows_is_told():
    with pytest.raises(InputError, match="group 5, must be a divisor of the 12 rows"):
        decoder_targets(*group_setting(), 5)


def test_far_apart_posteriors_share_nothing_and_collapsed_ones_everything():
    x, mu, logvar, z = group_setting()
    apart = 1e3 * torch.arange(12.0, dtype=torch.float64)[None, :, None].expand_as(mu)
    drawn = apart[:, None].expand_as(z)
    assert torch.allclose(decoder_targets(x, apart, logvar * 0, drawn, 4), x[:, None].expand(2, 2, -1, -1))
    shared = decoder_targets(x, mu * 0, logvar * 0, z, 4)
    assert torch.allclose(shared[0, 0, :4], x[0, :4].mean(0).expand(4, -1))


def test_shared_targets_change_no_mean_of_the_decoders_gradient():
    """Over many draws for one group of rows, both give the same regression of x on functions of z."""
    x, mu, logvar, _ = group_setting(1)
    mu, logvar = 0.3 * mu, 0.1 * logvar
    noise = torch.randn(4000, 2, 12, 1, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    z = mu[:1, None] + (logvar[:1, None] / 2).exp() * noise
    functions = torch.cat((z, z.square(), z.sin()), -1)
    targets = decoder_targets(x, *(t[:1].expand(4000, -1, -1) for t in (mu, logvar)), z, 12)
    own = torch.einsum("kabf,bd->kabfd", functions, x[0])
    shared = torch.einsum("kabf,kabd->kabfd", functions, targets)
    difference = (own - shared).mean((1, 2))
    standard_error = difference.std(0) / 4000**0.5
    assert (difference.mean(0).abs() < 4 * standard_error).all()
    assert shared.mean((1, 2)).var(0).sum() < 0.3 * own.mean((1, 2)).var(0).sum()
