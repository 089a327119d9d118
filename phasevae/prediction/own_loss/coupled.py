"""The leading eigenvalues of H^-1 G where a loss couples very many outputs: from products with H and G alone.

Locally optimal block preconditioned conjugate gradients: A. V. Knyazev, SIAM J. Sci. Comput. 23, 517 (2001).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import thinned
from phasevae.errors import InputError
from phasevae.likelihoods.kinks import KINK_WIDTH
from phasevae.prediction.own_loss.curvature import Derivatives
from phasevae.spectrum.moments import shape_of_powers
from phasevae.spectrum.spectrum import Spectrum, assemble_spectrum

Product = Callable[[NDArray], NDArray]
"""A symmetric matrix as a function of directions [P, k]."""

_SCORES = 3 * 2**27
"""Scores of at most this number (1.5 GiB in float32) are held; with more, rows are thinned."""

_CURVATURE_ROWS = 64
_EXTRA, _STEPS, _TOLERANCE = 8, 300, 1e-3
_RIDGE = 1e-9
"""Added to the curvature, relative to its typical value: a loss may leave some directions without curvature."""


def coupled_spectrum(
    derivatives: Derivatives, constant: NDArray, few: NDArray, kinked: bool, top: int | None
) -> Spectrum:
    """Compute the leading eigenvalues of H^-1 G.

    Parameters
    ----------
    derivatives : Derivatives
    constant : array [P]
        The best constant output.
    few : array [b, D]
        Rows of the target, of which a part gives the curvature.
    kinked : bool
        Whether the curvature is taken from finite differences.
    top : int, optional
        The number of eigenvalues; by default 32, or somewhat more than latents.

    Raises
    ------
    InputError
        If the iteration does not converge, and for more latents than a fifth of the outputs.
    """
    from scipy.sparse.linalg import LinearOperator, lobpcg

    p = derivatives.loss.n_outputs
    k = min(max(top or 32, derivatives.loss.n_latent + _EXTRA), p // 5)
    if k < derivatives.loss.n_latent:
        raise InputError(
            f"n_latent: {derivatives.loss.n_latent}, must be at most {k} for a loss that couples {p} outputs"
        )
    scores = _scores(derivatives, constant)
    n = len(scores)
    curve = curvature_product(derivatives, constant, few, kinked)
    rng = np.random.default_rng(0)
    start = _start(scores, k + _EXTRA, rng)
    # In units in which the curvature and the eigenvalues are about 1, because the tolerance is absolute.
    signs = rng.choice([-1.0, 1.0], (p, 4))
    curvature = float(np.abs((signs * curve(signs)).mean()))
    rough = np.square(scores @ start[:, 0].astype(np.float32)).mean() / (start[:, 0] @ curve(start[:, :1])[:, 0])

    def spread(directions: NDArray) -> NDArray:
        product = scores.T @ (scores @ directions.astype(np.float32))
        return product.astype(np.float64) / (n * curvature * rough)

    def curved(directions: NDArray) -> NDArray:
        return curve(directions) / curvature + _RIDGE * directions

    def operator(product: Product) -> LinearOperator:
        return LinearOperator((p, p), lambda v: product(v.reshape(p, -1))[:, 0], matmat=product, dtype=np.float64)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about directions that have not converged: checked below
        values, vectors = lobpcg(
            operator(spread), start, operator(curved), largest=True, maxiter=_STEPS, tol=_TOLERANCE
        )
    order = np.argsort(values)[::-1][:k]
    values, vectors = values[order], vectors[:, order]
    left = np.linalg.norm(spread(vectors) - curved(vectors) * values, axis=0)
    if not left[0] <= 0.05 * values[0] * np.linalg.norm(curved(vectors[:, :1])):
        raise InputError(f"loss {derivatives.loss.name}: its leading eigenvalues did not converge in {_STEPS} steps")
    values = np.maximum(values, 0.0) * rough
    projected = (scores @ vectors.astype(np.float32)).astype(np.float64) / np.sqrt(curvature)
    powers = np.stack([np.full(k, float(n)), *(np.power(projected, m).sum(0) for m in (2, 3, 4))])
    found = assemble_spectrum(values, float(values.sum()), n, *shape_of_powers(powers, values), None)
    label = derivatives.loss.target.stream.label
    return replace(found, n_features=p, name="" if label == "data" else label)


def _start(scores: NDArray, k: int, rng: np.random.Generator) -> NDArray:
    """Directions of combinations of scores: those without scores have the eigenvalue zero."""
    return (scores.T @ rng.standard_normal((len(scores), k)).astype(np.float32)).astype(np.float64)


def _scores(derivatives: Derivatives, constant: NDArray) -> NDArray[np.float32]:
    """The centred scores of all rows, or of as many as fit, [N, P]."""
    p = derivatives.loss.n_outputs
    n = sum(map(len, derivatives.loss.target.stream.read()))
    step = -(-n // max(1, _SCORES // p))
    scores, start, filled = np.empty((-(-n // step), p), np.float32), 0, 0
    for block in derivatives.chunks():
        chosen = block[-start % step :: step]
        start += len(block)
        if len(chosen):
            scores[filled : filled + len(chosen)] = derivatives.gradients(constant, chosen)
            filled += len(chosen)
    scores -= scores.mean(0, dtype=np.float64).astype(np.float32)
    return scores


def curvature_product(derivatives: Derivatives, constant: NDArray, few: NDArray, kinked: bool) -> Product:
    """Return the function of directions [P, k] that gives their products with the mean second derivative.

    Parameters
    ----------
    derivatives, constant, few, kinked : as for `coupled_spectrum`
    """
    if kinked:
        rows = thinned(few, _CURVATURE_ROWS)
        return lambda directions: _differences(derivatives, constant, rows, directions)
    rows = derivatives.curvature_rows(constant, few)
    rows = thinned(rows, _CURVATURE_ROWS)
    return lambda directions: derivatives.products(constant, directions, rows)


def _differences(derivatives: Derivatives, constant: NDArray, rows: NDArray, directions: NDArray) -> NDArray:
    """Products from differences of the mean gradient, over KINK_WIDTH of the outputs' root mean square width."""
    width = KINK_WIDTH * float(np.sqrt(np.mean(np.square(derivatives.widths))))
    columns = []
    for direction in directions.T:
        size = float(np.sqrt(np.mean(np.square(direction)))) or 1.0
        low, high = derivatives.around(constant, width * direction / size)
        change = derivatives.mean_gradient(high, rows) - derivatives.mean_gradient(low, rows)
        columns.append(change * size / width)
    return np.stack(columns, 1)
