from __future__ import annotations

import numpy as np
import pytest
import torch
from monitor_reports import posterior, quiet_report
from torch import nn

from phasevae import CollapseMonitor, InputError

LOSS = {"n_latent": 2, "sigma2": 1.0}


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(4000, 3)) * np.sqrt([4.0, 2.0, 0.5])


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 4)

    def forward(self, x):
        return self.body(x).chunk(2, dim=-1)


class Model(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder


@pytest.mark.parametrize("encoder", [Pair(), nn.Linear(3, 4)])
def test_a_watched_encoder_counts_in_training_only(x, encoder):
    monitor, model = CollapseMonitor(x, **LOSS), Model(encoder)
    batch = torch.from_numpy(x[:50]).float()
    monitor.watch(model)
    model.eval()
    model.encoder(batch)
    with pytest.raises(InputError, match="no batch"):
        monitor.end_epoch()
    model.train()
    output = model.encoder(batch)
    mu, logvar = output if isinstance(output, tuple) else (output[:, :2], output[:, 2:])
    expected = 0.5 * (mu.double() ** 2 + logvar.double().exp() - 1 - logvar.double()).mean(0)
    assert monitor.end_epoch().kl_per_dim == pytest.approx(expected.detach().numpy())
    monitor.unwatch()
    model.encoder(batch)
    with pytest.raises(InputError, match="no batch"):
        monitor.end_epoch()


def kl_of(mu, logvar):
    """KL of each latent, averaged over rows, by torch's own formula."""
    posterior = torch.distributions.Normal(mu.detach().double(), (0.5 * logvar.detach().double()).exp())
    return torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).flatten(1).mean(0).numpy()


class Conditional(nn.Module):
    """Takes a condition too, gives more than mu and logvar."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(5, 4)

    def forward(self, x, c, *, scale=1.0):
        mu, logvar = (scale * self.body(torch.cat([x, c], dim=-1))).chunk(2, dim=-1)
        return mu, logvar, mu + (0.5 * logvar).exp() * torch.randn_like(mu)


def test_a_conditional_encoder_and_several_passes_a_step(x):
    torch.manual_seed(0)
    monitor, model = CollapseMonitor(x, **LOSS), Model(Conditional())
    monitor.watch(model)
    rows, condition = torch.from_numpy(x).float(), torch.ones(4000, 2)
    first = model.encoder(rows, c=condition, scale=0.5)
    second = model.encoder(rows[:1000], 2 * condition[:1000])
    expected = (4 * kl_of(*first[:2]) + kl_of(*second[:2])) / 5
    assert quiet_report(monitor).kl_per_dim == pytest.approx(expected)


class Posterior(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 4)

    def forward(self, x):
        mu, logvar = self.body(x).chunk(2, dim=-1)
        return torch.distributions.Independent(torch.distributions.Normal(mu, (0.5 * logvar).exp()), 1), mu


def test_an_encoder_that_returns_a_distribution(x):
    monitor, model = CollapseMonitor(x, **LOSS), Model(Posterior())
    rows = torch.from_numpy(x[:40]).float()
    monitor.watch(model)
    model.encoder(rows)
    expected = kl_of(*model.encoder.body(rows).chunk(2, dim=-1))
    assert quiet_report(monitor).kl_per_dim == pytest.approx(expected, rel=1e-5)
    monitor.unwatch()
    monitor.update(model.encoder(rows)[0])
    assert quiet_report(monitor).kl_per_dim == pytest.approx(expected, rel=1e-5)


def test_latents_in_space_count_one_by_one():
    images = np.random.default_rng(0).normal(size=(50, 16))
    monitor = CollapseMonitor(images, n_latent=8, sigma2=0.1)
    model = Model(nn.Conv2d(1, 4, 2, stride=2))
    monitor.watch(model)
    moments = model.encoder(torch.from_numpy(images).float().reshape(-1, 1, 4, 4))
    assert quiet_report(monitor).kl_per_dim == pytest.approx(kl_of(moments[:, :2], moments[:, 2:]))
    with pytest.raises(InputError, match=r"must both be \[batch, 8\]"):
        monitor.update(torch.zeros(2, 2, 2, 3), torch.zeros(2, 2, 2, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision_is_summed_in_double_precision(x, dtype):
    monitor, model = CollapseMonitor(x, **LOSS), Model(Pair())
    monitor.watch(model)
    batches, seen = torch.from_numpy(x).float().split(100), []
    with torch.autocast("cpu", dtype=dtype):
        for batch in batches:
            mu, logvar = model.encoder(batch)
            assert mu.dtype == dtype
            seen.append(kl_of(mu, logvar))
            monitor.update(*posterior(1e-4, 1e-4))  # lost in a sum of halves
    expected = (4000 * np.mean(seen, axis=0) + 400 * 1e-4) / 4400
    np.testing.assert_allclose(quiet_report(monitor).kl_per_dim, expected, rtol=1e-7)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
@pytest.mark.parametrize("ran", [False, True], ids=["before", "after"])
def test_a_wrapped_model(x, wrap, ran):
    class Whole(Model):
        def forward(self, x):
            return self.encoder(x)[0].sum()

    monitor, inner = CollapseMonitor(x, **LOSS), Whole(Pair())
    model, batches = wrap(inner), torch.from_numpy(x[:90]).float().split(30)
    if ran:
        model(batches[0])
    monitor.watch(model)
    for batch in batches:
        model(batch).backward()
    expected = kl_of(*inner.encoder(torch.cat(batches)))
    monitor.unwatch()
    assert quiet_report(monitor).kl_per_dim == pytest.approx(expected)
