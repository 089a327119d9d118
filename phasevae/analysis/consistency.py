"""Do the points of a sweep agree with each other? No theory of the data is asked, only that each is an optimum.

At an optimum d KL / d sigma2 = -1 / (2 beta sigma2) d mse / d sigma2, the analogue of dS = dU / T. Its integral form
needs no derivative: measured at the sigma2 of point i, no other network of the sweep may have a better ELBO than the
one that was trained there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.measured import numbers

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 2e-3
"""Nats that another network may be better by: twice the largest of the converged reference sweep (docs/training.md)."""


def shortfall(sweep: pd.DataFrame) -> NDArray[np.float64]:
    """By how much the best network of the sweep, measured at each point's sigma2 and beta, beats the one trained there.

    sweep: columns sigma2, beta, mse, kl, all of one data set. Returns nats of ELBO, [points], 0 where the point's own
    network is the best: a lower bound of its distance from the optimum.
    """
    sigma2, beta, mse, kl = (numbers(sweep, column) for column in ("sigma2", "beta", "mse", "kl"))
    own = mse / (2 * sigma2) + beta * kl
    best = np.array(
        [np.min(mse / (2 * value) + weight * kl) for value, weight in zip(sigma2, beta, strict=True)], dtype=float
    )
    return own - best


def summary(sweep: pd.DataFrame) -> dict[str, Any]:
    """{largest, sigma2}: the largest shortfall in nats, and the decoder variances of points above TOLERANCE; None and
    an empty list for a sweep without mse."""
    if "mse" not in sweep:
        return {"largest": None, "sigma2": []}
    found = shortfall(sweep)
    beaten = np.unique(numbers(sweep, "sigma2")[found > TOLERANCE])
    return {"largest": float(found.max()), "sigma2": beaten.tolist()}


def warning(found: dict[str, Any]) -> str | None:
    """One line about the points of `summary` that another network beats, None if there is none."""
    if not found["sigma2"]:
        return None
    named = ", ".join(f"{value:g}" for value in found["sigma2"])
    return (
        f"at sigma2 = {named} the network of another point has a better ELBO, by up to {found['largest']:.2g} nats: "
        "train longer there"
    )
