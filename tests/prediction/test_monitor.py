from __future__ import annotations

import numpy as np
import pytest
import torch
from monitor_reports import posterior, quiet_report, reported
from torch import nn

from phasevae import CollapseMonitor, InputError, predict
from phasevae.prediction.reports import LOGVAR_BOUND, STATUSES

LOSS = {"n_latent": 2, "sigma2": 1.0}


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(4000, 3)) * np.sqrt([4.0, 2.0, 0.5])


def test_kl_is_averaged_over_all_rows_of_an_epoch(x):
    monitor = CollapseMonitor(x, **LOSS)
    monitor.update(*posterior(0.6, 0.2, rows=30))
    monitor.update(*(part.numpy() for part in posterior(0.2, 0.2, rows=10)))
    report = monitor.end_epoch()
    np.testing.assert_allclose(report.kl_per_dim, [0.5, 0.2], rtol=1e-6)
    expected = predict(x, 2, sigma2=1.0)
    assert report.kl == pytest.approx(0.7)
    assert report.distance == pytest.approx(0.7 - expected.kl)
    assert (report.active_units, report.predicted_active_units) == (2, 2)
    assert report.epoch == 1 and monitor.reports == [report]


def test_kl_of_a_width_alone(x):
    monitor = CollapseMonitor(x, **LOSS)
    variance = torch.tensor([[0.25, 1.0]])
    monitor.update(torch.zeros(1, 2), variance.log())
    assert monitor.end_epoch().kl_per_dim == pytest.approx([0.5 * (0.25 - 1 - np.log(0.25)), 0])


def test_a_falling_kl_warns_before_it_is_zero(x):
    monitor = CollapseMonitor(x, **LOSS)
    reports = list(reported(monitor, [(0.5 * 0.5**i, 0.01) for i in range(5)]))
    assert [r.status for r in reports] == ["behind", "behind", "behind", "collapsing", "collapsing"]
    assert "falling" in str(reports[3])


def test_the_warning_is_given_once(x):
    monitor = CollapseMonitor(x, **LOSS)
    with pytest.warns(UserWarning, match="falling") as caught:
        for i in range(6):
            monitor.update(*posterior(0.5 * 0.5**i, 0.01))
            monitor.end_epoch()
    assert len(caught) == 1


def test_a_kl_that_settles_from_above_or_slowly_does_not_warn(x):
    predicted = predict(x, 2, sigma2=1.0).kl
    above = CollapseMonitor(x, **LOSS)
    assert {r.status for r in reported(above, [(predicted * (1 + 0.5**i), 0.01) for i in range(6)])} == {"ok"}
    slow = CollapseMonitor(x, **LOSS)
    assert {r.status for r in reported(slow, [(0.9 * predicted * 0.99**i, 0.01) for i in range(6)])} == {"ok"}


FALLING = [(0.5 * 0.5**i, 0.01) for i in range(4)]
CASES = {
    "ok": (1.0, [(0.5, 0.1)], ""),
    "behind": (1.0, [(0.6, 0.0)], "only 1 of the 2 latents"),
    "collapsing": (1.0, FALLING, "KL is falling"),
    "collapsed": (1.0, [(1e-4, 0.0)], "optimum keeps 2 latents"),
    "expected-collapse": (6.0, [(0.5, 0.1)], "lower the KL weight"),
    "diverged": (1.0, [(float("nan"), 0.1)], "not a finite number"),
}


@pytest.mark.parametrize("status", [status for status in STATUSES if status != LOGVAR_BOUND])
def test_each_status_has_its_case(x, status):
    sigma2, series, words = CASES[status]
    *_, report = reported(CollapseMonitor(x, n_latent=2, sigma2=sigma2), series)
    assert report.status == status and words in report.message
    assert bool(words) == bool(report.message)


def test_the_weight_of_kl_may_change(x):
    monitor = CollapseMonitor(x, n_latent=2, loss="half-sse", kl_weight=1e-3)
    monitor.update(*posterior(1.0, 1.0))
    assert monitor.end_epoch(kl_weight=1.0).predicted_kl == pytest.approx(predict(x, 2, beta=1.0).kl)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (CollapseMonitor, "n_latent: missing"),
        (lambda x: CollapseMonitor(predict(x, 2, beta=1.0), beta=1.0), "takes only a prediction"),
        (lambda x: CollapseMonitor(x, n_latent=2, beta=1.0, kl_schedule="linear:0,1,4"), "beta: 1.0, cannot be given"),
        (lambda x: CollapseMonitor(x, **LOSS, kl_schedule="linear:0,1"), "kl_schedule: 'linear:0,1', must be linear:"),
        (lambda x: CollapseMonitor(x, **LOSS).end_epoch(), "no batch"),
        (lambda x: CollapseMonitor(x, **LOSS, foo=1), "^CollapseMonitor: 'foo', must be one of"),
        (lambda x: CollapseMonitor(x, **LOSS, los="x"), "^CollapseMonitor: 'los', .*loss"),
        (lambda x: CollapseMonitor(x, **LOSS, select=3), "^select: 3, must be a function"),
        (lambda x: CollapseMonitor(x, **LOSS, encoder=3), "^encoder: 3, must be the name"),
        (lambda x: CollapseMonitor(x, **LOSS, encoder=("a", "b", "c")), "^encoder: .*, must be the name"),
        (lambda x: CollapseMonitor(x, **LOSS, kl_weight_from=3), "^kl_weight_from: 3, must be a name"),
        (
            lambda x: CollapseMonitor(x, **LOSS).update(torch.zeros(3, 3), torch.zeros(3, 3)),
            r"must both be \[batch, 2\]",
        ),
        (lambda x: CollapseMonitor(x, **LOSS).watch(nn.Linear(1, 1)), "must be the name of a submodule of Linear"),
    ],
)
def test_wrong_use_is_one_line(x, action, words):
    with pytest.raises(InputError, match=words):
        action(x)


def my_loss(recon, x, mu, logvar):
    """Mean over the batch beside a sum over it."""
    kl = 0.5 * (mu.pow(2) + logvar.exp() - logvar - 1).sum()
    return 0.5 * (recon - x).pow(2).sum(1).mean() + kl / 64


def test_a_loss_function_goes_on_to_predict_with_its_options(x):
    monitor = CollapseMonitor(x, n_latent=2, loss=my_loss, batch_size=32)
    expected = predict(x, 2, loss=my_loss, batch_size=32)
    assert monitor.prediction.to_json()["thresholds"] == expected.to_json()["thresholds"]
    assert expected.critical_kl_weight == pytest.approx(2 * x.var(0).max(), rel=0.05)
    assert monitor.prediction.kl == pytest.approx(predict(x, 2, beta=0.5).kl, rel=1e-6)
    with pytest.raises(InputError, match="batch_size: missing"):
        CollapseMonitor(x, n_latent=2, loss=my_loss)


def test_a_schedule_of_a_loss_function_is_of_factors_of_its_kl_term(x):
    monitor = CollapseMonitor(x, n_latent=2, loss=my_loss, batch_size=32, kl_schedule="linear:0,2,2")
    assert monitor.prediction.kl == pytest.approx(predict(x, 2, beta=1.0).kl, rel=1e-6)
    _, half, last = reported(monitor, [(1.0, 0.5)] * 3)
    assert half.predicted_kl == pytest.approx(predict(x, 2, beta=0.5).kl, rel=1e-6)
    assert last.predicted_kl == pytest.approx(predict(x, 2, beta=1.0).kl, rel=1e-6)


def test_a_training_with_a_loss_function(x):
    """A linear VAE trained with the function that was predicted ends at the prediction."""
    torch.manual_seed(0)
    data = torch.as_tensor(x).float()
    encoder, decoder = nn.Linear(3, 4), nn.Linear(2, 3)
    monitor = CollapseMonitor(x, n_latent=2, loss=my_loss, batch_size=200)
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.02)
    for step in range(600):
        batch = data[torch.randint(len(data), (200,))]
        mu, logvar = encoder(batch).chunk(2, 1)
        if step >= 500:
            monitor.update(mu, logvar)
        recon = decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
        optimiser.zero_grad()
        my_loss(recon, batch, mu, logvar).backward()
        optimiser.step()
    report = quiet_report(monitor)
    assert report.predicted_active_units == report.active_units
    assert report.kl == pytest.approx(report.predicted_kl, abs=0.06)
