"""Mean negative log likelihood of counts under negative binomials, with its derivatives by log mean, dropout logit and
log inverse dispersion, for all features together.

Notation: m mean, l size factor, r inverse dispersion, t = ln(1 + l m / r), b = l m / (l m + r). For counts x the
negative log likelihood is (x + r) t - x ln m - sum_(j < x) ln(1 + j / r), without constants. It is linear in x, so rows
of the same size factor may be summed before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from phasevae.likelihoods.counts import Block, CountSummary


@dataclass(frozen=True)
class CountObjective:
    """A function for `newton.minimise`. Its parameters are log overall mean, dropout logit and log inverse dispersion.

    The overall mean m (1 - dropout) is known much better than m and the dropout, so minimisation takes fewer steps in
    it. `pressure` * m is added to the value of each feature: the Lagrangian of a given sum of the means m.
    """

    summary: CountSummary
    dropout: bool  # whether there is a dropout logit
    dispersion: NDArray | None = None  # [D] fixed inverse dispersions; None: they are parameters
    grouped: bool = False  # whether to take groups of rows for the rows
    pressure: float = 0.0

    def __call__(self, theta: NDArray, columns: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        fitted = self.dispersion is None
        r = np.exp(theta[-1]) if fitted else self.dispersion[columns]
        logit = theta[1] if self.dropout else None
        log_mean = self.log_mean(theta)
        sums = self._sums(log_mean, logit, r, columns)
        rising = self.summary.rising(r, columns) if fitted else np.zeros((3, columns.size))
        total = self.summary.total[columns]
        value, gradient, hessian = _negative_binomial(sums, total, log_mean, r, rising)
        if self.dropout:
            extra = _dropout(sums, logit, r, self.summary.n)
            value, gradient, hessian = value + extra[0], gradient + extra[1], hessian + extra[2]
        push = self.pressure * np.exp(log_mean) * self.summary.n
        value, gradient[0], hessian[0, 0] = value + push, gradient[0] + push, hessian[0, 0] + push
        if self.dropout:
            gradient, hessian = _by_overall_mean(gradient, hessian, special.expit(logit))
        kept = np.flatnonzero([True, self.dropout, fitted])
        n = self.summary.n
        return value / n, gradient[kept].T / n, hessian[np.ix_(kept, kept)].transpose(2, 0, 1) / n

    def log_mean(self, theta: NDArray) -> NDArray:
        """Return ln m of parameters [k, A]."""
        return theta[0] - special.log_expit(-theta[1]) if self.dropout else theta[0]

    def log_mean_slope(self, theta: NDArray) -> NDArray:
        """Return the derivatives [k, A] of ln m by the parameters."""
        slope = np.zeros_like(theta)
        slope[0] = 1
        if self.dropout:
            slope[1] = special.expit(theta[1])
        return slope

    def by_log_mean(self, theta: NDArray, hessian: NDArray) -> NDArray:
        """Return the Hessian [A, k, k] by ln m instead of the log overall mean, at a minimum."""
        if not self.dropout:
            return hessian
        jacobian = np.zeros_like(hessian)
        jacobian[:, np.arange(len(theta)), np.arange(len(theta))] = 1
        jacobian[:, 0, 1] = -special.expit(theta[1])
        return jacobian.transpose(0, 2, 1) @ hessian @ jacobian

    def _sums(self, log_mean: NDArray, logit: NDArray | None, r: NDArray, columns: NDArray) -> dict[str, NDArray]:
        grouped = self.grouped or self.summary.groups_are_exact
        blocks = [self.summary.grouped(columns)] if grouped else self.summary.blocks(columns)
        sums: dict[str, NDArray] = {}
        for block in blocks:
            for name, value in _block_sums(block, log_mean, logit, r).items():
                sums[name] = sums[name] + value if name in sums else value
        return sums


def _block_sums(block: Block, log_mean: NDArray, logit: NDArray | None, r: NDArray) -> dict[str, NDArray]:
    """Sum products over the rows: of x, t, b and, at zeros, of v (the chance of a dropout) and w = v (1 - v)."""
    x, zeros, size, n = block
    b = size * (np.exp(log_mean) / r)
    t = np.log1p(b)
    b /= 1 + b
    bb = b * b
    sums = {"t": n @ t, "b": n @ b, "bb": n @ bb}
    sums |= {"x" + name: np.einsum("bd,bd->d", x, value) for name, value in (("t", t), ("b", b), ("bb", bb))}
    if logit is None:
        return sums
    odds = logit + r * t
    v = special.expit(odds)
    sums["log"] = np.einsum("bd,bd->d", zeros, special.log_expit(-odds))
    v_rest = zeros * v
    sums["v"] = v_rest.sum(0)
    sums |= {"v" + name: np.einsum("bd,bd->d", v_rest, value) for name, value in (("t", t), ("b", b), ("bb", bb))}
    v_rest *= 1 - v
    sums["w"] = v_rest.sum(0)
    for name, value in (("t", t), ("b", b), ("bb", bb)):
        sums["w" + name] = np.einsum("bd,bd->d", v_rest, value)
    v_rest *= t
    sums |= {"wtt": np.einsum("bd,bd->d", v_rest, t), "wbt": np.einsum("bd,bd->d", v_rest, b)}
    return sums


def _negative_binomial(
    sums: dict[str, NDArray], total: NDArray, log_mean: NDArray, r: NDArray, rising: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    """Return value [A], gradient [3, A] and Hessian [3, 3, A], summed over the rows. The dropout logit has zeros."""
    t, b, bb, xt, xb, xbb = (sums[name] for name in ("t", "b", "bb", "xt", "xb", "xbb"))
    zero = np.zeros_like(t)
    value = r * t + xt - log_mean * total - rising[0]
    gradient = np.stack([r * b + xb - total, zero, r * (t - b) - xb + rising[1]])
    slope = r * (b - bb) + xb - xbb
    mixed = r * bb + xbb - xb
    width = r * (t - 2 * b) + slope - rising[2]
    return value, gradient, np.array([[slope, zero, mixed], [zero, zero, zero], [mixed, zero, width]])


def _dropout(sums: dict[str, NDArray], logit: NDArray, r: NDArray, n: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return what dropout adds to value [A], gradient [3, A] and Hessian [3, 3, A], summed over the rows."""
    v, vt, vb, vbb = (sums[name] for name in ("v", "vt", "vb", "vbb"))
    w, wt, wb, wbb, wtt, wbt = (sums[name] for name in ("w", "wt", "wb", "wbb", "wtt", "wbt"))
    share, other = special.expit(logit), special.expit(-logit)
    value = sums["log"] - n * special.log_expit(-logit)
    gradient = np.stack([-r * vb, n * share - v, -r * (vt - vb)])
    slope = -r * (vb - vbb) - r**2 * wbb
    width = -r * (vt - vb - vbb) - r**2 * (wtt - 2 * wbt + wbb)
    mixed = -r * vbb - r**2 * (wbt - wbb)
    logits = n * share * other - w
    with_mean, with_dispersion = -r * wb, -r * (wt - wb)
    hessian = np.array(
        [[slope, with_mean, mixed], [with_mean, logits, with_dispersion], [mixed, with_dispersion, width]]
    )
    return value, gradient, hessian


def _by_overall_mean(gradient: NDArray, hessian: NDArray, share: NDArray) -> tuple[NDArray, NDArray]:
    """Return gradient [3, A] and Hessian [3, 3, A] by log overall mean instead of log mean, for shares of dropout."""
    gradient, hessian = gradient.copy(), hessian.copy()
    hessian[1, 1] += 2 * share * hessian[0, 1] + share**2 * hessian[0, 0] + share * (1 - share) * gradient[0]
    for other in (0, 2):
        hessian[1, other] += share * hessian[0, other]
        hessian[other, 1] = hessian[1, other]
    gradient[1] += share * gradient[0]
    return gradient, hessian
