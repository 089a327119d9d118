"""Whether a training has converged, judged from its own history and moments, without theory of the data.

The learning rate decays to zero, so every training ends at rest, converged or not. We therefore look at how KL and ELBO
moved while the learning rate was still high, and at an identity that every latent satisfies at any optimum.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

EARLY, LATE = (0.2, 0.5), (0.9, 1.0)
"""The two windows whose means are compared, as fractions of the training at constant sigma2."""

DRIFT_ABSOLUTE, DRIFT_RELATIVE = 2.5e-3, 0.02
"""Largest allowed difference of KL and ELBO between the windows: in nats, plus a fraction of KL. The thresholds apply
when points are collected, so a changed threshold judges finished trainings anew. With extend_unconverged above 1 they
also decide which points are trained with more samples. docs/research/training.md shows what they catch."""

SECOND_MOMENT_DEVIATION = 4e-3
"""Largest allowed deviation of E mu_j^2 + E sigma_j^2 from 1, its value at every stationary point."""

_DRIFTS = ("kl_late", "kl_drift", "elbo_drift", "elbo_drift_standard_error")


def assess_convergence(
    samples: NDArray[np.float64],
    kl: NDArray[np.float64],
    elbo: NDArray[np.float64],
    constant_from: float,
    second_moment: NDArray[np.float64],
) -> dict[str, float | None]:
    """Measure how far one trained model is from convergence.

    Parameters
    ----------
    samples, kl, elbo : array [R]
        The rows of its history: samples shown so far, and the means of KL and ELBO since the row before, in nats.
    constant_from : float
        Fraction of the training after which sigma2 has its final value.
    second_moment : array [n]
        E mu_j^2 + E sigma_j^2 of each latent over the data.

    Returns
    -------
    dict
        kl_late, the mean KL of the late window; kl_drift and elbo_drift, late minus early window, and
        elbo_drift_standard_error, in nats, None if the history is too short; second_moment_deviation, the largest
        deviation of a second moment from 1.
    """
    progress = (samples / samples[-1] - constant_from) / (1.0 - constant_from) if constant_from < 1 else samples * 0
    early, late = ((progress > low) & (progress <= high) for low, high in (EARLY, LATE))
    deviation = float(np.abs(second_moment - 1.0).max())
    if min(early.sum(), late.sum()) < 2:
        return dict.fromkeys(_DRIFTS) | {"second_moment_deviation": deviation}
    (kl_drift, _), (elbo_drift, elbo_error) = (_difference(values[early], values[late]) for values in (kl, elbo))
    drifts = float(kl[late].mean()), kl_drift, elbo_drift, elbo_error
    return dict(zip(_DRIFTS, drifts, strict=True)) | {"second_moment_deviation": deviation}


def is_converged(assessed: Mapping[str, float | None]) -> bool | None:
    """Whether the numbers of `assess_convergence` are within the thresholds; None if they are not known.

    The ELBO scatters with the rows of the batches, so its drift may exceed the threshold by three standard errors.
    """
    if assessed["second_moment_deviation"] is None or any(assessed[key] is None for key in _DRIFTS):
        return None
    kl_late, kl_drift, elbo_drift, elbo_error = (assessed[key] for key in _DRIFTS)
    tolerance = DRIFT_ABSOLUTE + DRIFT_RELATIVE * kl_late
    still = abs(kl_drift) <= tolerance and abs(elbo_drift) <= tolerance + 3 * elbo_error
    return bool(still and assessed["second_moment_deviation"] <= SECOND_MOMENT_DEVIATION)


def _difference(early: NDArray[np.float64], late: NDArray[np.float64]) -> tuple[float, float]:
    """Difference of the means and its standard error."""
    error = np.sqrt(early.var(ddof=1) / early.size + late.var(ddof=1) / late.size)
    return float(late.mean() - early.mean()), float(error)
