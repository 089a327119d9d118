"""What a report on a training says: the measured KL, what it is compared with, and the status that follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.prediction.epoch_sums import LogvarBound
from phasevae.prediction.few_rows import few_rows
from phasevae.prediction.predict import Prediction
from phasevae.wording import counted

PATIENCE = 3
"""A KL that falls in this many reports in a row is a trend."""

HORIZON = 20
"""A trend is a warning when it leads to collapse within this many reports."""

ENOUGH_KL = 0.5
"""From this part of the predicted KL on, a training is as predicted. Where the prediction is rough, trained networks
reach 0.6 of it."""

SCHEDULE, STUCK = "schedule", "stuck"
"""Reasons of a Python warning that are no status: a schedule that leads to collapse, a KL that no longer rises."""

STALLED = 10
"""A KL behind the prediction that has not risen in this many reports is a warning."""

STATUSES = OK, BEHIND, LOGVAR_BOUND, COLLAPSING, COLLAPSED, EXPECTED, DIVERGED = (
    "ok",
    "behind",
    "logvar-bound",
    "collapsing",
    "collapsed",
    "expected-collapse",
    "diverged",
)


REMEDY = (
    "start again with a KL weight of a tenth of the critical one or less and raise it slowly, with centred data and "
    "the decoder's last bias at their mean"
)


@dataclass(frozen=True)
class Report:
    """The state of one epoch. KL is in nats per sample. At a KL weight of 0 its prediction is infinite."""

    epoch: int  # from 1
    kl_weight: float  # the present one, with which the prediction is made
    kl: float
    kl_per_dim: NDArray  # [n_latent], in the network's order
    active_units: int  # latents with a KL above `EncoderLimits.active_kl`
    predicted_kl: float
    predicted_active_units: int
    distance: float  # measured less predicted KL
    status: str  # one of STATUSES
    message: str

    def to_state(self) -> dict[str, Any]:
        """Return plain numbers and strings, from which `from_state` makes the same report."""
        return {**vars(self), "kl_per_dim": self.kl_per_dim.tolist()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Report:
        """Return the report of a `to_state`."""
        return cls(**{**state, "kl_per_dim": np.asarray(state["kl_per_dim"], dtype=np.float64)})

    def __str__(self) -> str:
        n = self.kl_per_dim.size
        head = (
            f"epoch {self.epoch}: KL {self.kl:.4g} nats ({self.predicted_kl:.4g} predicted), "
            f"{self.active_units} of {counted(n, 'latent')} active ({self.predicted_active_units} predicted)"
        )
        return f"{head}: {self.message}" if self.message else head


def report_on(
    kl_per_dim: NDArray,
    past: list[Report],
    prediction: Prediction,
    kl_weight: float,
    final: Prediction | None = None,
    bound: LogvarBound | None = None,
) -> Report:
    """Return the report on an epoch.

    Parameters
    ----------
    kl_per_dim : array [n_latent]
        Measured KL of each latent, in nats. That of a collapsed latent whose variance is not free is subtracted.
    past : list of Report
        All earlier reports.
    prediction : Prediction
        At `kl_weight`, or at any weight if that is 0.
    kl_weight : float
        Present weight of KL.
    final : Prediction, optional
        At the weight that a schedule leads to.
    bound : LogvarBound, optional
        A value at which log variances sit.

    Returns
    -------
    Report
    """
    # Where the variance is fixed or bounded away from 1, KL is above zero in a collapsed state, too.
    kl_per_dim = kl_per_dim - prediction.setting.limits.collapsed_kl
    kl, active = float(kl_per_dim.sum()), int((kl_per_dim > prediction.setting.limits.active_kl).sum())
    predicted_kl, predicted_active = prediction.kl, prediction.active_dims
    if kl_weight == 0:  # KL is free: every latent that the data have a use for grows without bound
        predicted_kl, predicted_active = math.inf, len(prediction.thresholds)
    status, message = OK, ""
    if not math.isfinite(kl):
        status, message = DIVERGED, "KL is not a finite number: the training has diverged"
    elif kl_weight > 0:
        status, message = _judged(kl, active, past, prediction, final, bound)
    if final is not None and final.verdict == "collapsed" and status not in (DIVERGED, EXPECTED):
        message = "; ".join(filter(None, [message, _warning_of_the_end(final)]))
    return Report(
        epoch=len(past) + 1,
        kl_weight=kl_weight,
        kl=kl,
        kl_per_dim=kl_per_dim,
        active_units=active,
        predicted_kl=predicted_kl,
        predicted_active_units=predicted_active,
        distance=kl - predicted_kl,
        status=status,
        message=message,
    )


def _judged(
    kl: float,
    active: int,
    past: list[Report],
    predicted: Prediction,
    final: Prediction | None,
    bound: LogvarBound | None,
) -> tuple[str, str]:
    """Return status and message at a positive weight of KL."""
    if predicted.verdict == "collapsed":
        return EXPECTED, _expected(predicted, final)
    if active == 0:
        keeps = counted(predicted.active_dims, "latent")
        return COLLAPSED, f"collapsed, although the optimum keeps {keeps}: {REMEDY}"
    left = _reports_left(kl, predicted, past)
    if kl < predicted.kl and left <= HORIZON:
        optimal = f"although {predicted.kl:.4g} nats are optimal"
        return COLLAPSING, f"KL is falling and will be gone in about {left:.0f} reports, {optimal}"
    if bound is not None and _matters(bound, predicted):
        return LOGVAR_BOUND, _at_bound(bound)
    behind = _behind(kl, active, predicted, final)
    return (BEHIND, behind + _stalled(kl, predicted.kl, past)) if behind else (OK, "")


def _expected(predicted: Prediction, final: Prediction | None) -> str:
    weight, critical = predicted.setting.kl_weight, predicted.critical_kl_weight
    if final is not None and final.verdict != "collapsed":
        ends = f"the schedule leads to {final.setting.kl_weight:.4g}, where the optimum keeps {final.active_dims}"
        return f"collapse is the optimum of the present KL weight {weight:.4g}; {ends}"
    return f"collapse is the optimum of this loss: lower the KL weight {weight:.4g} below {critical:.4g}"


def _behind(kl: float, active: int, predicted: Prediction, final: Prediction | None) -> str:
    """Say what is missing to the prediction, or nothing. On a rising schedule the KL at its end is enough."""
    ends_below = final is not None and 0 < final.kl < predicted.kl
    expected, when = (final.kl, "at the end of the schedule") if ends_below else (predicted.kl, "predicted")
    is_known = math.isfinite(expected) and few_rows(predicted) is None
    if is_known and kl < ENOUGH_KL * expected:
        return f"KL is {kl / expected:.0%} of the {expected:.4g} nats {when}, less than {ENOUGH_KL:.0%}"
    if active < predicted.active_dims:
        return f"only {active} of the {predicted.active_dims} latents that the optimum keeps are active"
    return ""


def _stalled(kl: float, predicted_kl: float, past: list[Report]) -> str:
    """Say what to do about a KL that is behind and no longer rises, or nothing."""
    if len(past) < STALLED or any(report.status != BEHIND for report in past[-STALLED:]):
        return ""
    earlier = past[-STALLED]
    if kl > earlier.kl or predicted_kl < earlier.predicted_kl * (1 - 1e-6):
        return ""
    return f"; it has not risen for {STALLED} reports: {REMEDY}"


def _matters(bound: LogvarBound, predicted: Prediction) -> bool:
    """Whether the prediction is for log variances without this bound, and would be another with it."""
    limits = predicted.setting.limits
    if limits.posterior_std is not None:
        return False
    if bound.is_lower:
        return limits.least_variance == 0 or bound.value > math.log(limits.least_variance) + 1e-3
    return bound.value < 0  # the optimum has no variance above 1


def _at_bound(bound: LogvarBound) -> str:
    n = counted(bound.latents, "latent")
    value = f"{bound.value:.4g}"
    option = f" (or predict with least_logvar={value})" if bound.is_lower else ""
    return (
        f"logvar is exactly {value} in {n}, clamped or rectified, and KL is not that of a free encoder: remove the "
        f"bound{option}"
    )


def reason_to_warn(report: Report, final: Prediction | None) -> str:
    """Return why a report is a Python warning, which is given once for each reason; or nothing.

    Parameters
    ----------
    report : Report
    final : Prediction, optional
        At the weight that a schedule leads to.
    """
    if report.status not in (OK, BEHIND):
        return report.status
    if final is not None and final.verdict == "collapsed":
        return SCHEDULE
    return STUCK if REMEDY in report.message else ""


def _reports_left(kl: float, prediction: Prediction, past: list[Report]) -> float:
    """Return after how many reports a falling KL is that of collapsed latents at its present rate.

    A rising weight lowers KL and its prediction alike. Only the fall of KL relative to the prediction is a trend.
    """
    predicted_kl = prediction.kl
    recent = [(report.kl, report.predicted_kl) for report in past[-PATIENCE:]] + [(kl, predicted_kl)]
    if len(recent) <= PATIENCE or any(predicted == 0 for _, predicted in recent):
        return math.inf
    measured = shares = [kl for kl, _ in recent]
    if any(predicted != predicted_kl for _, predicted in recent):
        shares = [kl / predicted for kl, predicted in recent]
    if not (np.all(np.diff(measured) < 0) and np.all(np.diff(shares) < 0)):
        return math.inf
    rate = math.log(shares[0] / shares[-1]) / PATIENCE
    return math.log(kl / prediction.setting.limits.active_kl) / rate


def _warning_of_the_end(final: Prediction) -> str:
    weight, critical = final.setting.kl_weight, final.critical_kl_weight
    return f"the schedule leads to the KL weight {weight:.4g}, which collapses all latents: end it below {critical:.4g}"
