"""The exact optimum for two clusters: where the active state loses its advantage, and where it ends.

    python benchmarks/two_clusters.py                  weight 0.1: binodal 1.400, branch lost at 1.446
    python benchmarks/two_clusters.py --weight 0.3

Data of two values have four encoder parameters, the mean and the width of the posterior for each value; the best
decoder is the posterior mean of the data given z, by quadrature. So the ELBO over all Gaussian encoders and all
decoders is a function of four numbers. It is climbed at each decoder variance from the optimum at the one before, as
`phasevae hysteresis` trains; both give the same curve (docs/analysis.md). Decoder variances are in units of lambda_1.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Z, STEP = np.linspace(-12.0, 12.0, 3001, retstep=True)
START = (-0.2, -0.25, 2.0, -1.2)
"""Means and log widths of the two posteriors of an active state at a small decoder variance."""

ACTIVE = 1e-3


def terms(parameters: NDArray, weight: float, ratio: float) -> tuple[float, float]:
    """(ELBO less that of the collapsed state, KL), both in nats, at encoder parameters (mean, log width) of the
    heavier value and of the lighter one, which has this `weight`."""
    share = np.array([1 - weight, weight])
    mean, width = np.asarray(parameters)[[0, 2]], np.exp(np.asarray(parameters)[[1, 3]])
    density = share * np.exp(-0.5 * ((Z[:, None] - mean) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    total = density.sum(1) + 1e-300
    explained = STEP * float(np.sum((density[:, 1] / total - weight) ** 2 * total)) / (weight * (1 - weight))
    kl = float(share @ (mean**2 + width**2 - 1 - 2 * np.log(width))) / 2
    return explained / (2 * ratio) - kl, kl


def climb(weight: float, ratio: float, start: NDArray | tuple[float, ...] = START) -> tuple[float, float, NDArray]:
    """(gap, KL, encoder parameters) of the optimum uphill of `start`."""
    options = {"xatol": 1e-7, "fatol": 1e-12, "maxiter": 8000}
    found = minimize(lambda p: -terms(p, weight, ratio)[0], start, method="Nelder-Mead", options=options)
    return *terms(found.x, weight, ratio), found.x


def branch(weight: float, ratios: NDArray) -> list[tuple[float, float, float]]:
    """(ratio, gap, KL) along the active branch, upwards, as far as it goes."""
    found, parameters = [], np.array(START)
    for ratio in ratios:
        gap, kl, parameters = climb(weight, ratio, parameters)
        if kl < ACTIVE:
            break
        found.append((float(ratio), gap, kl))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weight", type=float, default=0.1, help="probability of the smaller cluster")
    parser.add_argument("--step", type=float, default=0.005)
    parser.add_argument("--highest", type=float, default=2.0)
    options = parser.parse_args()
    found = branch(options.weight, np.arange(0.7, options.highest, options.step))
    for ratio, gap, kl in found[:: max(1, round(0.05 / options.step))]:
        print(f"{ratio:.3f}  gap {gap:9.5f}  KL {kl:.4f}")
    ratio, gap, _ = np.array(found).T
    crossed = np.flatnonzero((gap[:-1] > 0) & (gap[1:] <= 0))
    for i in crossed[-1:]:
        print(f"binodal {ratio[i] + (ratio[i + 1] - ratio[i]) * gap[i] / (gap[i] - gap[i + 1]):.4f} lambda_1")
    print(f"branch lost after {ratio[-1]:.4f} lambda_1")


if __name__ == "__main__":
    main()
