"""What a report on a training says: the measured KL, what it is compared with, and the status that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phasevae.prediction.predict import Prediction
from phasevae.theory.ppca import ACTIVE_KL

PATIENCE = 3
"""A KL that falls in this many reports in a row is a trend."""

HORIZON = 20
"""A trend is a warning when it leads to collapse within this many reports."""

STATUSES = OK, BEHIND, COLLAPSING, COLLAPSED, EXPECTED, DIVERGED = (
    "ok",
    "behind",
    "collapsing",
    "collapsed",
    "expected-collapse",
    "diverged",
)


@dataclass(frozen=True)
class Report:
    """The state of one epoch. KL is in nats per sample. At a KL weight of 0 its prediction is infinite."""

    epoch: int  # from 1
    kl_weight: float  # the present one, with which the prediction is made
    kl: float
    kl_per_dim: NDArray  # [n_latent], in the network's order
    active_units: int  # latents with a KL above theory.ppca.ACTIVE_KL
    predicted_kl: float
    predicted_active_units: int
    distance: float  # measured less predicted KL
    status: str  # one of STATUSES
    message: str

    def __str__(self) -> str:
        n = self.kl_per_dim.size
        head = (
            f"epoch {self.epoch}: KL {self.kl:.4g} nats ({self.predicted_kl:.4g} predicted), "
            f"{self.active_units} of {n} latents active ({self.predicted_active_units} predicted)"
        )
        return f"{head}: {self.message}" if self.message else head


def report_on(
    kl_per_dim: NDArray, past: list[Report], prediction: Prediction, kl_weight: float, final: Prediction | None = None
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

    Returns
    -------
    Report
    """
    # A variance that is fixed or bounded away from 1 has a KL that tells nothing.
    kl_per_dim = kl_per_dim - prediction.setting.limits.collapsed_kl
    kl, active = float(kl_per_dim.sum()), int((kl_per_dim > ACTIVE_KL).sum())
    predicted_kl, predicted_active = prediction.kl, prediction.active_dims
    if kl_weight == 0:  # KL is free: every latent that the data have a use for grows without bound
        predicted_kl, predicted_active = math.inf, len(prediction.thresholds)
    status, message = OK, ""
    if not math.isfinite(kl):
        status, message = DIVERGED, "KL is not a finite number: the training has diverged"
    elif kl_weight > 0:
        status, message = _judged(kl, active, past, prediction, final)
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
    kl: float, active: int, past: list[Report], predicted: Prediction, final: Prediction | None
) -> tuple[str, str]:
    """Return status and message at a positive weight of KL."""
    weight, critical = predicted.setting.kl_weight, predicted.critical_kl_weight
    if predicted.verdict == "collapsed":
        if final is not None and final.verdict != "collapsed":
            ends = f"the schedule leads to {final.setting.kl_weight:.4g}, where the optimum keeps {final.active_dims}"
            return EXPECTED, f"collapse is the optimum of the present KL weight {weight:.4g}; {ends}"
        return (
            EXPECTED,
            f"collapse is the optimum of this loss: lower the KL weight {weight:.4g} below {critical:.4g}",
        )
    if active == 0:
        remedy = "start again with a small KL weight and raise it slowly"
        return COLLAPSED, f"collapsed, although the optimum keeps {predicted.active_dims} latents: {remedy}"
    left = _reports_left(kl, predicted.kl, past)
    if kl < predicted.kl and left <= HORIZON:
        optimal = f"although {predicted.kl:.4g} nats are optimal"
        return COLLAPSING, f"KL is falling and will be gone in about {left:.0f} reports, {optimal}"
    if active < predicted.active_dims:
        return BEHIND, ""
    return OK, ""


def _reports_left(kl: float, predicted_kl: float, past: list[Report]) -> float:
    """Return after how many reports a falling KL is below ACTIVE_KL at its present rate.

    A rising weight lowers KL and its prediction alike. Only the fall of KL relative to the prediction is a trend.
    """
    recent = [(report.kl, report.predicted_kl) for report in past[-PATIENCE:]] + [(kl, predicted_kl)]
    if len(recent) <= PATIENCE or any(predicted == 0 for _, predicted in recent):
        return math.inf
    measured = shares = [kl for kl, _ in recent]
    if any(predicted != predicted_kl for _, predicted in recent):
        shares = [kl / predicted for kl, predicted in recent]
    if not (np.all(np.diff(measured) < 0) and np.all(np.diff(shares) < 0)):
        return math.inf
    rate = math.log(shares[0] / shares[-1]) / PATIENCE
    return math.log(kl / ACTIVE_KL) / rate


def _warning_of_the_end(final: Prediction) -> str:
    weight, critical = final.setting.kl_weight, final.critical_kl_weight
    return f"the schedule leads to the KL weight {weight:.4g}, which collapses all latents: end it below {critical:.4g}"
