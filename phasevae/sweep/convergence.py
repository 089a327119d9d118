"""Whether a training came to rest, from its own history and moments: no theory of the data is asked.

With a learning rate that decays to zero every training ends still, converged or not. So what is compared is how KL and
ELBO moved while the learning rate was still high, and, for every latent, an identity that holds at any optimum.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from phasevae.errors import InputError

EARLY, LATE = (0.2, 0.5), (0.9, 1.0)
"""Parts of the training at constant sigma2 whose means are compared."""

DRIFT_ABSOLUTE, DRIFT_RELATIVE = 2.5e-3, 0.02
"""Most that KL and ELBO may differ between the two: nats, and part of KL. docs/training.md tells what they catch.
Thresholds are asked when points are collected: another one judges the same trainings again. With extend_unconverged
above 1 they are asked before, too: a point that no longer counts as converged is trained with more samples."""

SECOND_MOMENT_DEVIATION = 4e-3
"""Most that E mu_j^2 + E sigma_j^2 may differ from 1, its value at every stationary point."""

_DRIFTS = ("kl_late", "kl_drift", "elbo_drift", "elbo_drift_standard_error")


def assess_convergence(
    samples: NDArray[np.float64],
    kl: NDArray[np.float64],
    elbo: NDArray[np.float64],
    constant_from: float,
    second_moment: NDArray[np.float64],
) -> dict[str, float | None]:
    """Convergence of one trained model.

    samples, kl, elbo: [R], the rows of its history, means over equal stretches up to so many samples; constant_from:
    the part of the training from which sigma2 had its final value; second_moment: [n], E mu_j^2 + E sigma_j^2 over the
    data.
    Returns {kl_late, kl_drift, elbo_drift, elbo_drift_standard_error, second_moment_deviation}: the mean KL of the late
    part, and drifts late minus early, in nats, None where the history is too short to tell; and the largest deviation
    of a second moment from 1.
    """
    progress = (samples / samples[-1] - constant_from) / (1.0 - constant_from) if constant_from < 1 else samples * 0
    early, late = ((progress > low) & (progress <= high) for low, high in (EARLY, LATE))
    deviation = float(np.abs(second_moment - 1.0).max())
    if min(early.sum(), late.sum()) < 2:
        return dict.fromkeys(_DRIFTS) | {"second_moment_deviation": deviation}
    (kl_drift, _), (elbo_drift, elbo_error) = (_difference(values[early], values[late]) for values in (kl, elbo))
    drifts = float(kl[late].mean()), kl_drift, elbo_drift, elbo_error
    return dict(zip(_DRIFTS, drifts, strict=True)) | {"second_moment_deviation": deviation}


def is_converged(found: Mapping[str, float | None]) -> bool | None:
    """Whether what `assess` found is within the thresholds; None where there is no telling.

    The ELBO, which scatters with the rows of a batch, counts beyond three standard errors of its drift. Raises
    InputError when it is not what `assess` gives.
    """
    if not isinstance(found, Mapping):
        raise InputError(f"convergence: is {found!r}, must be an object")
    for key in (*_DRIFTS, "second_moment_deviation"):
        value = found.get(key, "nothing")
        if not isinstance(value, float | int | None):
            raise InputError(f"convergence: '{key}' is {value!r}, must be a number or null")
    if found["second_moment_deviation"] is None or any(found[key] is None for key in _DRIFTS):
        return None
    kl_late, kl_drift, elbo_drift, elbo_error = (found[key] for key in _DRIFTS)
    tolerance = DRIFT_ABSOLUTE + DRIFT_RELATIVE * kl_late
    still = abs(kl_drift) <= tolerance and abs(elbo_drift) <= tolerance + 3 * elbo_error
    return bool(still and found["second_moment_deviation"] <= SECOND_MOMENT_DEVIATION)


def _difference(early: NDArray[np.float64], late: NDArray[np.float64]) -> tuple[float, float]:
    """Difference of the means and its standard error."""
    error = np.sqrt(early.var(ddof=1) / early.size + late.var(ddof=1) / late.size)
    return float(late.mean() - early.mean()), float(error)
