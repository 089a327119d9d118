"""What the monitor says of KL beside its prediction: at first, on schedules, and with log variances at a bound."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from monitor_reports import posterior, quiet_report, reported

from phasevae import CollapseMonitor, InputError, predict
from phasevae.prediction.reports import ENOUGH_KL, STALLED

X = np.random.default_rng(0).normal(size=(4000, 6)) * np.sqrt([8.0, 6.0, 4.0, 3.0, 0.5, 0.5])
PREDICTION = predict(X, 4, sigma2=0.1)
KL = PREDICTION.kl


def shares(*parts):
    """KL of each latent in a series of reports, as parts of the predicted one."""
    return [PREDICTION.kl_per_dim * part for part in parts]


CONSTANT = {
    "as predicted": ([1.0], "ok", ""),
    "just enough": ([ENOUGH_KL + 0.01], "ok", ""),
    "just too little": ([ENOUGH_KL - 0.01], "behind", "KL is 49% of the"),
    "an eighth, with every latent active": ([0.13] * 3, "behind", "KL is 13% of the"),
    "above": ([1.5], "ok", ""),
    "on its way up": ([0.01 * 1.3**i for i in range(15)], "behind", "% of the"),
    "arrived": ([0.1, 0.3, 0.6, 0.9], "ok", ""),
    "stuck": ([0.13] * (STALLED + 1), "behind", "has not risen for 10 reports: start again"),
    "dead": ([1e-4], "collapsed", "although the optimum keeps 4 latents: start again with a KL weight of a tenth"),
    "falling": ([0.9 * 0.4**i for i in range(4)], "collapsing", "falling"),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_at_a_constant_weight(name):
    parts, status, words = CONSTANT[name]
    *_, last = reported(CollapseMonitor(PREDICTION), shares(*parts))
    assert last.status == status and words in last.message


def test_a_kl_that_few_samples_carry_is_not_held_against_its_prediction():
    """Of one outlier alone KL is far below the one of Gaussian data: it is behind only with too few active latents."""
    prediction = predict(np.vstack([X[1:], 1000 * X[:1]]), 2, sigma2=5.0)
    assert "outlier" in {warning.code for warning in prediction.warnings}
    reports = reported(CollapseMonitor(prediction), [(0.02, 0.02), (0.04, 0.0)])
    assert [report.status for report in reports] == ["ok", "behind"]


def test_a_kl_that_is_behind_warns_once_and_only_when_it_is_stuck():
    monitor = CollapseMonitor(PREDICTION)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for part in [0.05 * 1.1**i for i in range(8)] + [0.1] * 25:
            monitor.update(*posterior(*(PREDICTION.kl_per_dim * part)))
            monitor.end_epoch()
    assert {report.status for report in monitor.reports} == {"behind"}
    assert len(caught) == 1 and "has not risen" in str(caught[0].message)


def test_an_unbounded_prediction_has_no_share():
    prediction = predict(X, 5, loss="gaussian-nll").at(1e-6)
    monitor = CollapseMonitor(predict(X[:, :4], 4, loss="gaussian-nll"))
    assert not np.isfinite(monitor.prediction.kl) and np.isfinite(prediction.kl)
    *_, last = reported(monitor, [(1.0, 1.0, 1.0, 1.0)])
    assert last.status == "ok"


SCHEDULES = ["linear:0,1,6", "linear:0.05,1,6", "cosine:0,1,6", "cyclic:0,1,6", "cyclic:0,1,6,0.9", "linear:2,1,6"]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("given", [False, True], ids=["schedule", "weights given"])
def test_a_network_that_follows_a_schedule_is_ok_and_one_without_kl_is_not(schedule, given):
    follows = CollapseMonitor(PREDICTION, kl_schedule=None if given else schedule)
    lags = CollapseMonitor(PREDICTION, kl_schedule=None if given else schedule)
    plan = CollapseMonitor(PREDICTION, kl_schedule=schedule).kl_schedule
    for epoch in range(9):
        weight = plan.weight_at(epoch)
        present = PREDICTION.at(weight).kl_per_dim if weight else PREDICTION.at(0.01).kl_per_dim
        options = {"kl_weight": weight} if given else {}
        follows.update(*posterior(*(0.8 * present)))
        lags.update(*posterior(*(0.1 * PREDICTION.kl_per_dim)))
        assert quiet_report(follows, **options).status == "ok"
        assert quiet_report(lags, **options).status == ("behind" if weight else "ok")


def test_a_warm_up_that_waits_for_the_kl_of_its_end_is_not_behind():
    monitor = CollapseMonitor(PREDICTION, kl_schedule="linear:0,1,10")
    assert {report.status for report in reported(monitor, shares(*[0.6] * 12))} == {"ok"}
    monitor = CollapseMonitor(PREDICTION, kl_schedule="linear:0,1,10")
    *_, last = reported(monitor, shares(*[0.2] * 3))
    assert last.status == "behind" and "nats at the end of the schedule" in last.message


ZEROS = [0, 0.0, False, np.float32(0), np.int64(0), torch.tensor(0.0), torch.tensor(0)]


@pytest.mark.parametrize("zero", ZEROS, ids=[f"{type(zero).__name__} {zero}" for zero in ZEROS])
@pytest.mark.parametrize("kl", [0.0, 1e-6, 1.0, 1e4])
def test_a_warm_up_may_begin_at_zero(zero, kl):
    monitor = CollapseMonitor(PREDICTION)
    for weight in (zero, zero, 0.01, 0.1, 1.0):
        monitor.update(*posterior(*[kl] * 4))
        report = quiet_report(monitor, kl_weight=weight)
    assert [report.status for report in monitor.reports[:2]] == ["ok", "ok"]
    assert report.predicted_kl == pytest.approx(KL)


@pytest.mark.parametrize("key", ["kl_weight", "beta"])
def test_a_monitor_may_be_made_at_the_weight_zero(key):
    loss = {"loss": "half-sse"} if key == "kl_weight" else {}
    monitor = CollapseMonitor(X, n_latent=4, **loss, **{key: 0})
    *_, first = reported(monitor, [(1.0,) * 4])
    assert (first.kl_weight, first.predicted_kl, first.status) == (0, np.inf, "ok")
    monitor.update(*posterior(*[1.0] * 4))
    assert quiet_report(monitor, kl_weight=0.1).predicted_kl == pytest.approx(KL)


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "a", "0.1", [1, 2], torch.ones(2), np.ones(2), 1j])
def test_a_weight_that_is_none_is_one_line(weight):
    monitor = CollapseMonitor(PREDICTION)
    monitor.update(*posterior(1.0, 1.0, 1.0, 1.0))
    with pytest.raises(InputError, match=r"(?s)^kl_weight: .*, must be a number, 0 or more$"):
        monitor.end_epoch(kl_weight=weight)
    assert quiet_report(monitor).kl == pytest.approx(4.0)


@pytest.mark.parametrize("key", ["kl_weight", "beta"])
@pytest.mark.parametrize("weight", [-1, float("nan"), "a", True])
def test_a_monitor_of_a_weight_that_is_none_is_one_line(key, weight):
    loss = {"loss": "half-sse"} if key == "kl_weight" else {}
    with pytest.raises(InputError, match=f"^{key}: .*, must be a number, 0 or more$"):
        CollapseMonitor(X, n_latent=4, **loss, **{key: weight})


def logvars(kind, rows=64):
    """Log variances around those of the optimum, as an encoder's last layer makes them."""
    mean = np.log(0.1 / np.array([8.0, 6.0, 4.0, 3.0]))
    raw = torch.randn(rows, 4) * 0.3 + torch.from_numpy(mean).float()
    return {
        "free": raw,
        "rectified": torch.relu(raw),
        "clamped below": raw.clamp(min=-2.0),
        "clamped below where the strongest is": raw.clamp(min=-4.0),
        "clamped above": raw.clamp(max=-4.5),
        "clamped far away": raw.clamp(-12, 8),
        "clamped above at zero": torch.minimum(raw + 4, torch.zeros(())),
        "soft": torch.nn.functional.softplus(raw),
        "half": raw.bfloat16(),
        "half, narrow": (torch.from_numpy(mean) + 1e-3 * raw).bfloat16(),
        "half, rectified": torch.relu(raw).bfloat16(),
        "fixed": torch.full_like(raw, -1.5),
        "a third of the rows": torch.where(torch.rand(rows, 1) < 0.3, -5.0, raw.clamp(min=-4.9)),
    }[kind]


BOUNDS = {
    "free": None,
    "rectified": "logvar is exactly 0 in 4 latents",
    "clamped below": "logvar is exactly -2 in 4 latents, clamped or rectified",
    "clamped below where the strongest is": "logvar is exactly -4 in 2 latents",
    "clamped above": "logvar is exactly -4.5 in",
    "clamped far away": None,
    "clamped above at zero": None,
    "soft": None,
    "half": None,
    "half, narrow": None,
    "half, rectified": "logvar is exactly 0 in 4 latents",
    "fixed": "logvar is exactly -1.5 in 4 latents",
    "a third of the rows": None,
}


@pytest.mark.parametrize("kind", BOUNDS)
def test_log_variances_at_a_bound(kind):
    torch.manual_seed(0)
    monitor, words = CollapseMonitor(PREDICTION), BOUNDS[kind]
    for _ in range(5):
        monitor.update(torch.randn(64, 4), logvars(kind))
    report = quiet_report(monitor)
    if words is None:
        assert report.status != "logvar-bound" and "exactly" not in report.message
    else:
        assert report.status == "logvar-bound" and words in report.message


@pytest.mark.parametrize(
    ("limits", "kind"),
    [({"posterior_std": np.exp(-0.75)}, "fixed"), ({"least_logvar": -2.0}, "clamped below"),
     ({"least_logvar": 0.0}, "rectified")],
)  # fmt: skip
def test_a_bound_that_the_prediction_knows_is_no_news(limits, kind):
    monitor = CollapseMonitor(predict(X, 4, sigma2=0.1, **limits))
    for _ in range(5):
        monitor.update(2 * torch.randn(64, 4), logvars(kind))
    assert quiet_report(monitor).status != "logvar-bound"


def test_the_bound_of_replicas_and_of_batches_that_reach_it_later():
    monitor = CollapseMonitor(PREDICTION)
    monitor.update(torch.randn(10, 4), torch.randn(10, 4))
    for _ in range(5):
        monitor.update(torch.randn(64, 4), torch.full((64, 4), -9.0))
    monitor._sums[None, "another"] = next(iter(monitor._sums.values()))
    assert "exactly -9" in quiet_report(monitor).message


def test_kl_over_replicas_is_that_of_all_rows():
    monitor = CollapseMonitor(PREDICTION)
    monitor.update(*posterior(0.6, 0.2, 0.1, 0.1, rows=30))
    monitor._sums = {(None, "another"): monitor._sums.popitem()[1]}
    monitor.update(*posterior(0.2, 0.2, 0.1, 0.5, rows=10))
    assert quiet_report(monitor).kl_per_dim == pytest.approx([0.5, 0.2, 0.1, 0.2])
