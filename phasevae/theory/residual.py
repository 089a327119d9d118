"""The residual spectrum of the optimum for Gaussian data: when a dead latent could come back, and an active one dies.

Around an optimum with k active latents a further latent stays dead where beta * sigma2 is at least Lambda_A, the edge
of the residual spectrum (Li, "Residual spectral instabilities in representation learning", arXiv:2610.11257).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phasevae.theory.inputs import checked_eigenvalues, checked_sigma2
from phasevae.theory.ppca import is_active


def ppca_residual_edge(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return the edge of the residual spectrum, max(lambda_{k+1}, s^2 / lambda_k) with s = beta * sigma2.

    The first is the direction that the next latent would carry, the second a copy of the weakest active latent. A copy
    is never unstable, because s < lambda_k. Both equal s at the ends of a branch: at its lower end lambda_{k+1} = s, at
    its upper end lambda_k = s.

    Parameters
    ----------
    eigenvalues : array [D], descending
    sigma2 : array
    n_latent : int
    beta : float

    Returns
    -------
    array of the shape of sigma2
        In squared units of the data. It exceeds s where more than n_latent latents would live.
    """
    eigenvalues = checked_eigenvalues(eigenvalues)
    s = np.asarray(beta * checked_sigma2(sigma2), dtype=float)
    k = np.minimum(is_active(eigenvalues, s[..., None]).sum(-1), n_latent)
    padded = np.concatenate([[np.inf], eigenvalues, [0.0]])
    return np.maximum(padded[k + 1], s**2 / padded[k])
