"""Mean, width and sample are told apart over batches, against the KL that torch computes from the true posterior."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from monitor_reports import quiet_report
from torch.distributions import Normal, kl_divergence

from phasevae import CollapseMonitor, InputError, predict
from phasevae.prediction.epoch_sums import ALIKE_ACTIVE, ALIKE_SHARE
from phasevae.prediction.output_roles import SPREAD_KINDS, RoleFinder, Roles

WIDTHS = dict(
    zip(SPREAD_KINDS, (lambda lv: lv, lambda lv: (0.5 * lv).exp(), torch.exp, lambda lv: 0.5 * lv), strict=True)
)
ORDERS = list(itertools.permutations(range(3)))


def prediction_for(n, **limits):
    data = np.random.default_rng(0).normal(size=(200, n + 1)) * np.linspace(3, 1, n + 1)
    return predict(data, n, sigma2=0.3, **limits)


def batches(kind, order, rows, n, count, seed=0, scale=1.0, level=-1.0, spread=0.3, noise_scale=1.0):
    """Batches of an encoder's tensors (mu, width, z in an order) with the log variances and the means."""
    random = torch.Generator().manual_seed(seed)
    for _ in range(count):
        mu, logvar, noise = (torch.randn(rows, n, generator=random) for _ in range(3))
        mu, logvar = scale * mu, level + spread * logvar
        parts = (mu, WIDTHS[kind](logvar), mu + noise_scale * (0.5 * logvar).exp() * noise)
        yield [parts[place] for place in order], mu, logvar


def watched(monitor, series):
    """Update a monitor; return the KL of each latent by torch's formula."""
    expected = []
    for output, mu, logvar in series:
        monitor.update(tuple(output))
        posterior = Normal(mu.double(), (0.5 * logvar.double()).exp())
        expected.append(kl_divergence(posterior, Normal(0.0, 1.0)).mean(0))
    return torch.stack(expected).mean(0).numpy()


@settings(max_examples=20, deadline=None)
# The noise is correlated with the mean by chance, 3.3 standard errors.
@example(kind="logvar", order=(0, 1, 2), rows=70, n=1, seed=9722, scale=2.0, level=0.0, noise_scale=0.3)
@given(
    kind=st.sampled_from(SPREAD_KINDS),
    order=st.sampled_from(ORDERS),
    rows=st.integers(8, 128),
    n=st.integers(1, 8),
    seed=st.integers(0, 10**6),
    scale=st.floats(0.01, 3.0),
    level=st.floats(-4.0, 0.5),
    noise_scale=st.sampled_from([1.0, 0.3]),
)
def test_the_kl_is_right_or_refused(kind, order, rows, n, seed, scale, level, noise_scale):
    """At the start mu and logvar are small, and z is little else than noise."""
    monitor = CollapseMonitor(prediction_for(n, noise_scale=noise_scale))
    varied = {"scale": scale, "level": level, "spread": 0.3 * scale, "noise_scale": noise_scale}
    expected = watched(monitor, batches(kind, order, rows, n, min(2000 // (rows * n) + 1, 30), seed, **varied))
    truth = Roles(order.index(0), order.index(1), kind)
    assert truth in monitor._reader.left
    try:
        report = quiet_report(monitor)
    except InputError as error:
        assert "too few samples to tell" in str(error) and "\n" not in str(error)
    else:
        limits = monitor.prediction.setting.limits
        alike = {"rtol": 1.2 * ALIKE_SHARE, "atol": 1.2 * ALIKE_ACTIVE * limits.active_kl}
        np.testing.assert_allclose(report.kl_per_dim + limits.collapsed_kl, expected, **alike)


@pytest.mark.parametrize("kind", SPREAD_KINDS)
@pytest.mark.parametrize("order", ORDERS)
def test_an_epoch_of_small_batches_is_enough(kind, order):
    monitor = CollapseMonitor(prediction_for(2))
    expected = watched(monitor, batches(kind, order, 16, 2, 100))
    assert monitor._reader.left == (Roles(order.index(0), order.index(1), kind),)
    np.testing.assert_allclose(quiet_report(monitor).kl_per_dim, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", SPREAD_KINDS)
@pytest.mark.parametrize(("rows", "n", "count"), [(32, 2, 100), (64, 3, 1), (8, 1, 200)])
def test_a_dead_encoder_is_collapsed_whatever_it_gives_for_the_width(kind, rows, n, count):
    monitor = CollapseMonitor(prediction_for(n))
    expected = watched(monitor, batches(kind, (2, 0, 1), rows, n, count, scale=1e-3, level=0.0, spread=1e-3))
    report = quiet_report(monitor)
    assert expected.max() < 1e-5 and report.status == "collapsed"
    assert report.kl < 1e-5


@pytest.mark.parametrize("kind", SPREAD_KINDS)
def test_first_batches_that_leave_the_roles_open_count_with_the_right_ones(kind):
    monitor = CollapseMonitor(prediction_for(2))
    series = [*batches(kind, (2, 0, 1), 8, 2, 3, seed=1), *batches(kind, (2, 0, 1), 64, 2, 20, level=-2.0)]
    open_first = CollapseMonitor(prediction_for(2))
    open_first.update(tuple(series[0][0]))
    assert len(open_first._reader.left) > 1
    rows = np.array([len(mu) for _, mu, _ in series])
    each = [
        watched(CollapseMonitor(prediction_for(2), select=lambda out, item=item: item[1:]), [item]) for item in series
    ]
    watched(monitor, series)
    expected = np.average(each, axis=0, weights=rows)
    np.testing.assert_allclose(quiet_report(monitor).kl_per_dim, expected, rtol=1e-6)


def test_too_few_samples_are_refused_at_the_report_and_more_decide():
    monitor = CollapseMonitor(prediction_for(3))
    lone = torch.tensor([[0.1, -0.2, 0.1]])
    monitor.update((lone + 1, lone, -lone))
    with pytest.raises(InputError, match=r"^encoder: gives too few samples to tell whether tensors .* give `select`"):
        monitor.end_epoch()
    watched(monitor, batches("logvar", (2, 0, 1), 64, 3, 20))
    assert monitor._reader.left == (Roles(1, 2, "logvar"),) and quiet_report(monitor).kl > 1


def test_what_first_batches_allow_and_later_ones_do_not_is_refused():
    """A standard deviation and a variance of 1 are alike; the tensors of the next batches are unrelated."""
    finder = RoleFinder(None, 1.0)
    mu, one = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)), torch.ones(64, 3)
    z = mu + torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    assert {roles.kind for roles in finder.add((z, mu, one))} == {"std", "var"}
    with pytest.raises(InputError, match="of which none is a sample"):
        finder.add((10 * z, mu, one))
    with pytest.raises(InputError, match="gave more before"):
        finder.add((mu, one))


def test_a_training_that_has_diverged_says_so():
    monitor = CollapseMonitor(prediction_for(2))
    monitor.update((torch.full((8, 2), torch.nan),) * 3)
    assert quiet_report(monitor).status == "diverged"


def test_noise_in_half_precision():
    monitor = CollapseMonitor(prediction_for(2))
    for (z, mu, std), _, _ in batches("std", (2, 0, 1), 500, 2, 20, scale=3.0, level=-2.0):
        monitor.update((z.bfloat16(), mu.bfloat16(), std.bfloat16()))
    assert monitor._reader.left == (Roles(1, 2, "std"),)


@pytest.mark.parametrize("decided", [True, False])
def test_a_monitor_that_no_longer_watches_can_be_pickled_with_what_it_knows(decided):
    model = torch.nn.Module()
    model.encoder = torch.nn.Linear(3, 4)
    monitor, series = CollapseMonitor(prediction_for(2)), list(batches("std", (2, 0, 1), 64 if decided else 4, 2, 2))
    expected = watched(monitor, series)
    with monitor.watch(model):
        pass
    again = pickle.loads(pickle.dumps(monitor))
    assert again._reader.left == monitor._reader.left and (len(again._reader.left) == 1) == decided
    if decided:
        np.testing.assert_allclose(quiet_report(again).kl_per_dim, expected, rtol=1e-6)
