"""Checked arguments of the closed forms."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phasevae.errors import InputError


def leading_eigenvalues(eigenvalues: ArrayLike, n_latent: int) -> NDArray:
    """Return the largest eigenvalues, padded with zeros when there are fewer than latents.

    Parameters
    ----------
    eigenvalues : array [D], descending
    n_latent : int

    Returns
    -------
    array [n_latent]
    """
    lam = checked_eigenvalues(eigenvalues)
    if n_latent < 1:
        raise InputError(f"n_latent: {n_latent}, must be at least 1")
    return np.pad(lam[:n_latent], (0, max(0, n_latent - lam.size)))


def checked_eigenvalues(eigenvalues: ArrayLike) -> NDArray:
    """Return the eigenvalues as an array [D], or raise InputError unless they descend from a positive number."""
    lam = np.asarray(eigenvalues, dtype=float)
    if lam.ndim != 1 or lam.size == 0 or not np.all(np.isfinite(lam)):
        raise InputError(f"eigenvalues: shape {lam.shape}, must be a non-empty list of finite numbers")
    if lam[0] <= 0 or np.any(np.diff(lam) > 0):
        raise InputError("eigenvalues: must descend from a positive first value")
    return lam


def checked_sigma2(sigma2: ArrayLike) -> NDArray:
    """Return the decoder variances as an array, or raise InputError unless they are positive."""
    s = np.asarray(sigma2, dtype=float)
    if not np.all(s > 0):
        raise InputError(f"sigma2: {sigma2}, must be positive")
    return s
