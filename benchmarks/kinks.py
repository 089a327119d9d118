"""Where do latents die with an absolute error whose criterion depends on the width of its kinks?

    python benchmarks/kinks.py                # the table of docs/research/criterion.md, about thirty minutes
    python benchmarks/kinks.py --steps 200    # a trial

Two data sets of 16 features and two factors: residuals with two peaks, and values of which 60 % are zero. For each KL
weight a network is trained from the living side, where the weight rises from a fiftieth of its target, and one from
the dead side, where it has its target from the start. `phasevae.predict` gives the range of critical weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from own_loss_vae import trained
from shared import make_parser, markdown_table
from torch import Tensor

from phasevae import predict
from phasevae.theory.ppca import gaussian_kl

ROWS, FEATURES = 20_000, 16

SIDES = {"living": 0.02, "dead": 1.0}
"""The first weight of KL, in units of the last one."""


def _factors(rng: np.random.Generator, sizes: tuple[float, float]) -> NDArray:
    z, loadings = rng.standard_normal((ROWS, 2)), rng.standard_normal((2, FEATURES))
    return (z * sizes) @ (loadings / np.linalg.norm(loadings, axis=1, keepdims=True))


def two_peaks() -> NDArray:
    """Gaussian factors, and residuals around -1 and 1 of standard deviation 0.3."""
    rng = np.random.default_rng(0)
    x = _factors(rng, (1.2, 0.8)) + rng.choice([-1.0, 1.0], (ROWS, FEATURES))
    return x + 0.3 * rng.standard_normal((ROWS, FEATURES))


def mostly_zero() -> NDArray:
    """Logarithms of gamma variables whose rates have two factors; six of ten values are zero."""
    rng = np.random.default_rng(1)
    rate = np.exp(_factors(rng, (1.5, 1.0)))
    return np.log1p(rng.gamma(2.0, rate)) * (rng.random((ROWS, FEATURES)) > 0.6)


CASES: dict[str, tuple[Callable[[], NDArray], tuple[float, ...]]] = {
    "two peaks": (two_peaks, (2.0, 3.0, 4.5, 6.0, 9.0, 18.0)),
    "mostly zero": (mostly_zero, (0.004, 0.016, 0.06, 0.25, 1.0, 2.0)),
}
"""Data and KL weights of each case."""


def absolute_error(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """The loss, with a KL weight of 1."""
    return (recon - x).abs().sum(1).mean() + gaussian_kl(mu, logvar, torch.expm1).sum(1).mean()


def trained_kl(x: NDArray, weight: float, start: float, steps: int) -> float:
    """Return the KL of a trained network, in nats.

    Parameters
    ----------
    x : data [N, D]
    weight : weight of KL at the end
    start : first weight in units of the last one
    steps : number of training steps
    """
    rows = torch.as_tensor(x).float()
    median = rows.median(0).values
    model = trained(rows, absolute_error, 2, weight, weight, steps, 0, constant=median, start=start)
    with torch.no_grad():
        _, mu, logvar = model(rows)
    return float(gaussian_kl(mu, logvar, torch.expm1).sum(1).mean())


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=3000, help="number of training steps")
    steps = parser.parse_args().steps
    found = []
    for name, (data, weights) in CASES.items():
        x = data()
        prediction = predict(x, 2, loss="laplace")
        low, high = prediction.critical_kl_weight_range
        for weight in weights:
            kl = {f"KL from the {side} side": trained_kl(x, weight, start, steps) for side, start in SIDES.items()}
            row = {"data": name, "range of critical weights": f"{low:.2g} to {high:.2g}", "KL weight": weight, **kl}
            found.append({key: f"{value:.2g}" if isinstance(value, float) else value for key, value in row.items()})
            print(found[-1], flush=True)
    print("\n".join(markdown_table(list(found[0]), [row.values() for row in found])))


if __name__ == "__main__":
    main()
