"""Whether a training came to rest, from its own history and moments: no theory of the data is asked.

With a learning rate that decays to zero every training ends still, converged or not. So what is compared is how KL and
ELBO moved while the learning rate was still high, and, for every latent, an identity that holds at any optimum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

EARLY, LATE = (0.2, 0.5), (0.9, 1.0)
"""Parts of the training at constant sigma2 whose means are compared."""

DRIFT_ABSOLUTE, DRIFT_RELATIVE = 2.5e-3, 0.02
"""Most that KL and ELBO may differ between the two: nats, and part of KL. docs/training.md tells what they catch."""

BALANCE = 4e-3
"""Most that E mu_j^2 + E sigma_j^2 may differ from 1, its value at every stationary point."""


def assess(
    samples: NDArray[np.float64],
    kl: NDArray[np.float64],
    elbo: NDArray[np.float64],
    constant_from: float,
    second_moment: NDArray[np.float64],
) -> dict[str, Any]:
    """Convergence of one trained model.

    samples, kl, elbo: [R], the rows of its history, means over equal stretches up to so many samples; constant_from:
    the part of the training from which sigma2 had its final value; second_moment: [n], E mu_j^2 + E sigma_j^2 over the
    data. The ELBO, which scatters with the rows of a batch, counts beyond three standard errors of the difference.
    Returns {converged, kl_drift, elbo_drift, balance}: drifts late minus early in nats, balance the largest deviation
    of a second moment. `converged` is None where the history is too short to tell.
    """
    progress = (samples / samples[-1] - constant_from) / (1.0 - constant_from) if constant_from < 1 else samples * 0
    early, late = ((progress > low) & (progress <= high) for low, high in (EARLY, LATE))
    balance = float(np.abs(second_moment - 1.0).max())
    if min(early.sum(), late.sum()) < 2:
        return {"converged": None, "kl_drift": None, "elbo_drift": None, "balance": balance}
    tolerance = DRIFT_ABSOLUTE + DRIFT_RELATIVE * float(kl[late].mean())
    (kl_drift, _), (elbo_drift, elbo_error) = (_difference(values[early], values[late]) for values in (kl, elbo))
    still = abs(kl_drift) <= tolerance and abs(elbo_drift) <= tolerance + 3 * elbo_error
    return {
        "converged": bool(still and balance <= BALANCE),
        "kl_drift": kl_drift,
        "elbo_drift": elbo_drift,
        "balance": balance,
    }


def _difference(early: NDArray[np.float64], late: NDArray[np.float64]) -> tuple[float, float]:
    """Difference of the means and its standard error."""
    error = np.sqrt(early.var(ddof=1) / early.size + late.var(ddof=1) / late.size)
    return float(late.mean() - early.mean()), float(error)
