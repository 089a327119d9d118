"""The ELBO of the smallest VAE: one feature, one latent, linear networks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phasevae.theory.inputs import checked_sigma2
from phasevae.theory.ppca import collapsed_elbo, gaussian_kl


def linear_vae_elbo(u: ArrayLike, v: ArrayLike, sigma2: float, eigenvalue: float = 1.0) -> NDArray:
    """Return the ELBO of one feature x ~ N(0, eigenvalue) with decoder f(z) = u z and encoder mean mu(x) = v x.

    The latent variance has its optimal value sigma2 / (sigma2 + u^2) for the given u. Below the critical variance the
    maxima are at u^2 = eigenvalue - sigma2, v = u / eigenvalue. The collapsed point is u = v = 0.

    Parameters
    ----------
    u, v : arrays
    sigma2, eigenvalue : float

    Returns
    -------
    array of the broadcast shape of u and v
        In nats per sample (Eq. 17).
    """
    s = checked_sigma2(sigma2)
    u, v = np.asarray(u, dtype=float), np.asarray(v, dtype=float)
    latent_variance = s / (s + u**2)
    mse = eigenvalue * (1 - u * v) ** 2 + u**2 * latent_variance
    return collapsed_elbo(mse, 1, s) - gaussian_kl(np.sqrt(eigenvalue) * v, np.log(latent_variance))
