"""The second variation of the ELBO in the collapsed latents, mode by mode (the paper's appendix, Eq. 26).

Where all latents are collapsed, each couples to each principal direction of the data in two channels of two amplitudes;
all other modes are massive (1 / sigma2, 1 or 2). Only the covariance of the data enters: the criterion holds for any
distribution. Beside active latents, the modes of the residual spectrum take the place of the principal directions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def stability_blocks(eigenvalue: float, sigma2: float, beta: float = 1.0) -> dict[str, NDArray]:
    """Return the second variation of -ELBO in one collapsed latent along one mode of the residual spectrum.

    Both blocks have a negative eigenvalue exactly if beta * sigma2 < eigenvalue.

    Parameters
    ----------
    eigenvalue : float
        That of the mode. Without active latents, the variance of the data along a principal direction.
    sigma2 : float
        Decoder variance, in the same units.
    beta : float

    Returns
    -------
    dict of arrays [2, 2], in nats
        Blocks in the amplitudes u of the decoder and v of the encoder. With e(z_A) how the outputs move along the mode
        and h(x) what the latent encodes, E |e|^2 = E h^2 = 1, ``mean`` is the block for f + u z e, mu = v h, and
        ``width`` the block for f + u (z^2 - 1) / sqrt(2) e, sigma = 1 + v h. Without active latents e is a principal
        direction and h the component along it.
    """
    s = float(sigma2)
    coupling = np.sqrt(eigenvalue) / s
    mean = np.array([[1 / s, -coupling], [-coupling, beta]])
    width = np.array([[1 / s, -np.sqrt(2) * coupling], [-np.sqrt(2) * coupling, 2 * beta]])
    return {"mean": mean, "width": width}


def soft_modes(eigenvalues: ArrayLike, sigma2: ArrayLike) -> dict[str, NDArray]:
    """Return the lower eigenvalue of each block of `stability_blocks`.

    At s = sigma2 they are [1 + s - sqrt((1 - s)^2 + 4 lambda)] / (2 s) for ``mean`` and
    [1 + 2 s - sqrt((1 - 2 s)^2 + 8 lambda)] / (2 s) for ``width``. The collapsed state is locally stable where all are
    positive.

    Parameters
    ----------
    eigenvalues : array [D]
    sigma2 : array of any shape

    Returns
    -------
    dict of arrays of the shape of sigma2 + [D], in nats
        The keys are ``mean`` and ``width``.
    """
    lam, s = np.asarray(eigenvalues, dtype=float), np.asarray(sigma2, dtype=float)[..., None]
    mean = (1 + s - np.sqrt((1 - s) ** 2 + 4 * lam)) / (2 * s)
    width = (1 + 2 * s - np.sqrt((1 - 2 * s) ** 2 + 8 * lam)) / (2 * s)
    return {"mean": mean, "width": width}
