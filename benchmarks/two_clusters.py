"""What is the exact optimum for two clusters: where does the active state lose its advantage, and where does it end?

    python benchmarks/two_clusters.py                  weight 0.1: binodal 1.400, branch lost at 1.446
    python benchmarks/two_clusters.py --weight 0.3

takes a few seconds, writes no file and prints the active branch, the binodal and the end of the branch.

If the data have two values, the encoder has four parameters: the mean and the width of the posterior for each value.
The best decoder is the posterior mean of the data given z, by quadrature. So the ELBO over all Gaussian encoders and
all decoders is a function of four numbers. At each decoder variance the optimiser starts from the previous
optimum, as `phasevae hysteresis` does. Both give the same curve (docs/research/transitions.md). Decoder variances are
in units of lambda_1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from shared import make_parser

from phasevae.theory.ppca import ACTIVE_KL, gaussian_kl

Z, STEP = np.linspace(-12.0, 12.0, 3001, retstep=True)
START = (-0.2, -0.25, 2.0, -1.2)
"""Means and log widths of the two posteriors of an active state at a small decoder variance."""


def terms(parameters: NDArray, weight: float, ratio: float) -> tuple[float, float]:
    """Return (ELBO minus that of the collapsed state, KL) of an encoder with its best decoder, in nats.

    Parameters
    ----------
    parameters : mean and log width of the posterior of the heavier value, then of the lighter value
    weight : probability of the lighter value
    ratio : decoder variance over lambda_1
    """
    share = np.array([1 - weight, weight])
    mean, log_width = np.asarray(parameters)[[0, 2]], np.asarray(parameters)[[1, 3]]
    width = np.exp(log_width)
    density = share * np.exp(-0.5 * ((Z[:, None] - mean) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    total = density.sum(1) + 1e-300
    explained = STEP * float(np.sum((density[:, 1] / total - weight) ** 2 * total)) / (weight * (1 - weight))
    kl = float(share @ gaussian_kl(mean, 2 * log_width))
    return explained / (2 * ratio) - kl, kl


def climb(weight: float, ratio: float, start: NDArray | tuple[float, ...] = START) -> tuple[float, float, NDArray]:
    """Maximise the ELBO from `start`; return (gap, KL, encoder parameters), the gap as the first value of `terms`."""
    options = {"xatol": 1e-7, "fatol": 1e-12, "maxiter": 8000}
    optimum = minimize(lambda p: -terms(p, weight, ratio)[0], start, method="Nelder-Mead", options=options).x
    return *terms(optimum, weight, ratio), optimum


def branch(weight: float, ratios: NDArray) -> list[tuple[float, float, float]]:
    """Follow the active branch upwards as far as it goes; return (ratio, gap, KL) of each point."""
    points, parameters = [], np.array(START)
    for ratio in ratios:
        gap, kl, parameters = climb(weight, ratio, parameters)
        if kl < ACTIVE_KL:
            break
        points.append((float(ratio), gap, kl))
    return points


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--weight", type=float, default=0.1, help="probability of the smaller cluster")
    parser.add_argument("--step", type=float, default=0.005, help="step of the decoder variance")
    parser.add_argument("--highest", type=float, default=2.0, help="largest decoder variance")
    options = parser.parse_args()
    points = branch(options.weight, np.arange(0.7, options.highest, options.step))
    for ratio, gap, kl in points[:: max(1, round(0.05 / options.step))]:
        print(f"{ratio:.3f}  gap {gap:9.5f}  KL {kl:.4f}")
    ratio, gap, _ = np.array(points).T
    for i in np.flatnonzero((gap[:-1] > 0) & (gap[1:] <= 0))[-1:]:
        print(f"binodal {ratio[i] + (ratio[i + 1] - ratio[i]) * gap[i] / (gap[i] - gap[i + 1]):.4f} lambda_1")
    print(f"branch lost after {ratio[-1]:.4f} lambda_1")


if __name__ == "__main__":
    main()
