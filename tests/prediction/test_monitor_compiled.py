"""A monitor beside torch.compile: each pass counts once, and nothing is compiled again for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monitor_reports import quiet_report
from torch import nn
from torch.distributions import Normal, kl_divergence

from phasevae import CollapseMonitor, predict

X = torch.randn(320, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([2.0, 1.4, 0.7])
PREDICTION = predict(X.numpy(), 2, sigma2=1.0)
BATCHES = X.split(16)  # twenty, more than torch compiles a function again


class Model(nn.Module):
    def __init__(self, with_sample):
        super().__init__()
        self.encoder, self.decoder = Encoder(with_sample), nn.Linear(2, 3)

    def forward(self, x):
        *_, mu, logvar = self.encoder(x)
        return self.decoder(mu).sum() + logvar.sum()


class Encoder(nn.Module):
    def __init__(self, with_sample):
        super().__init__()
        self.body, self.with_sample = nn.Linear(3, 4), with_sample

    def forward(self, x):
        mu, logvar = self.body(x).chunk(2, dim=-1)
        return (mu + (0.5 * logvar).exp() * torch.randn_like(mu), mu, logvar) if self.with_sample else (mu, logvar)


class Counter:
    """A backend of torch.compile that compiles nothing and counts what it is given."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, examples):
        self.graphs += 1
        return graph.forward


def compiled_model(model, backend):
    return torch.compile(model, backend=backend)


def compiled_step(model, backend):
    return torch.compile(lambda x: 2 * model(x), backend=backend)


def compiled_encoder(model, backend):
    model.encoder.compile(backend=backend)
    return model


def data_parallel(model, backend):
    return torch.compile(nn.DataParallel(model), backend=backend)


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def expected_kl(model):
    mu, logvar = model.encoder.body(X).double().chunk(2, dim=-1)
    return kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).mean(0).detach().numpy()


@pytest.mark.parametrize("with_sample", [False, True], ids=["(mu, logvar)", "(z, mu, logvar)"])
@pytest.mark.parametrize("compile_", [compiled_model, compiled_step, compiled_encoder, data_parallel])
def test_watching_compiles_nothing_again(compile_, with_sample):
    torch.manual_seed(0)
    model, backend, monitor = Model(with_sample), Counter(), CollapseMonitor(PREDICTION)
    run = compile_(model, backend)
    with monitor.watch(model):
        run(BATCHES[0])
        at_first = backend.graphs
        for rows in BATCHES[1:]:
            run(rows)
        assert at_first > 0 and backend.graphs == at_first
    np.testing.assert_allclose(quiet_report(monitor).kl_per_dim, expected_kl(model), rtol=1e-4)


def test_an_update_within_a_compiled_step_compiles_nothing_again():
    """The sums change at every step, and code that had them as constants would be compiled for each of them."""
    torch.manual_seed(0)
    model, backend, monitor = Model(False), Counter(), CollapseMonitor(PREDICTION)

    @torch.compile(backend=backend)
    def step(x):
        mu, logvar = model.encoder(x)
        monitor.update(mu, logvar)
        return model.decoder(mu).sum()

    step(BATCHES[0])
    at_first = backend.graphs
    for _ in range(3):
        for rows in BATCHES[1:]:
            step(rows)
        step(BATCHES[0])
        quiet_report(monitor)
    assert backend.graphs == at_first
    for rows in BATCHES:
        step(rows)
    np.testing.assert_allclose(quiet_report(monitor).kl_per_dim, expected_kl(model), rtol=1e-4)
