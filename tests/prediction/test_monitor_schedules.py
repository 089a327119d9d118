from __future__ import annotations

import numpy as np
import pytest
from monitor_reports import posterior, quiet_report, reported

from phasevae import CollapseMonitor, predict

LOSS = {"n_latent": 2, "sigma2": 1.0}


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(4000, 3)) * np.sqrt([4.0, 2.0, 0.5])


def test_a_report_during_a_ramp_is_compared_with_the_prediction_at_its_weight(x):
    monitor = CollapseMonitor(x, **LOSS, kl_schedule="linear:0,1,4")
    assert monitor.prediction.kl == predict(x, 2, sigma2=1.0).kl
    first, *more = reported(monitor, [(0.5, 0.1)] * 6)
    assert (first.kl_weight, first.status, first.predicted_active_units) == (0, "ok", 2)
    assert first.predicted_kl == np.inf and "inf predicted" in str(first)
    weights = [monitor.kl_schedule.weight_at(epoch) for epoch in range(1, 6)]
    assert [report.kl_weight for report in more] == weights == [0.25, 0.5, 0.75, 1, 1]
    for report in more:
        assert report.predicted_kl == predict(x, 2, sigma2=1.0, kl_weight=report.kl_weight).kl
        assert not report.message


def test_the_first_report_warns_of_a_schedule_that_leads_to_collapse(x):
    prediction = predict(x, 2, sigma2=1.0)
    monitor = CollapseMonitor(prediction, kl_schedule="linear:0,10,4")
    with pytest.warns(UserWarning) as caught:
        for _ in range(5):
            monitor.update(*posterior(0.5, 0.1))
            monitor.end_epoch()
    statuses = [report.status for report in monitor.reports]
    assert statuses == ["ok", "ok", "expected-collapse", "expected-collapse", "expected-collapse"]
    line = f"leads to the KL weight 10, which collapses all latents: end it below {prediction.critical_kl_weight:.4g}"
    assert [line in str(report) for report in monitor.reports] == [True, True, False, False, False]
    assert [line in str(warning.message) for warning in caught] == [True, False], "each warning is given once"


def test_a_schedule_that_comes_down_from_a_weight_that_collapses(x):
    reports = list(reported(CollapseMonitor(x, **LOSS, kl_schedule="cosine:8,1,2"), [(0.5, 0.1)] * 3))
    assert [report.status for report in reports] == ["expected-collapse", "expected-collapse", "ok"]
    assert "the schedule leads to 1, where the optimum keeps 2" in reports[0].message


def test_kl_that_falls_because_its_weight_rises_does_not_warn(x):
    prediction = predict(x, 2, sigma2=1.0)
    ramp = [0.05 * 2**i for i in range(5)]
    follows, lags = CollapseMonitor(prediction), CollapseMonitor(prediction)
    for i, weight in enumerate(ramp):
        kl = prediction.at(weight).kl
        follows.update(*posterior(0.5 * kl, 0.2 * kl))
        lags.update(*posterior(0.7 * kl * 0.3**i, 0.01))
        assert quiet_report(follows, kl_weight=weight).status == "ok"
        assert quiet_report(lags, kl_weight=weight).status == ("ok" if i == 0 else "behind" if i < 3 else "collapsing")


def test_a_given_weight_comes_before_the_schedule_and_may_be_zero(x):
    monitor = CollapseMonitor(x, **LOSS, kl_schedule="cyclic:0,1,4,0.5")
    weights = []
    for given in (None, 0.3, None, 0, None):
        monitor.update(*posterior(0.0, 0.0))
        weights.append(quiet_report(monitor, kl_weight=given).kl_weight)
    assert weights == [0, 0.3, 1, 0, 0]
    assert [r.status for r in monitor.reports] == ["ok", "collapsed", "collapsed", "ok", "ok"]
    monitor.update(*posterior(float("nan"), 0.1))
    assert quiet_report(monitor, kl_weight=0).status == "diverged"
