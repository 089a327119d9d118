"""How far the largest eigenvalue of a sample lies above that of its source."""

from __future__ import annotations

import numpy as np

from phasevae.spectrum.spectrum import Spectrum
from phasevae.wording import counted

BIAS_ERRORS = 1.0
"""A bias of more than this many standard errors is worth a warning: 95 % intervals then no longer hold."""

_LEAST_GAP = 0.5
"""Eigenvalues nearer to the first than this many of its standard errors repel it by chance, and count as this far."""


def sampling_bias(spectrum: Spectrum) -> float:
    """Estimate by how much the largest eigenvalue l_1 of N samples exceeds that of the distribution they are from.

    The other eigenvalues l_j say what an eigenvalue at l_1 belongs to: l_1 / (1 + b), b = (1 / N) sum_j l_j /
    (l_1 - l_j). To first order in 1 / N this is Lawley's bias. It also holds with as many features as samples. For an
    eigenvalue that does not stand out, such as those of isotropic data, it gives about half of the bias.

    Parameters
    ----------
    spectrum : Spectrum
        Of its eigenvalues that are not known, each counts as their mean: the estimate is then a lower bound.

    References
    ----------
    D. N. Lawley, Tests of significance for the latent roots of covariance and correlation matrices, Biometrika 43
    (1956). J. Baik and J. W. Silverstein, Eigenvalues of large sample covariance matrices of spiked population models,
    J. Multivariate Analysis 97 (2006).
    """
    first, others = float(spectrum.eigenvalues[0]), spectrum.eigenvalues[1:]
    unknown = spectrum.dimension - spectrum.eigenvalues.size
    if unknown:
        rest = max(0.0, spectrum.trace - first - float(others.sum()))
        others = np.append(others, np.full(unknown, rest / unknown))
    least = _LEAST_GAP * first * (2 / spectrum.n_samples) ** 0.5
    b = float((others / np.maximum(first - others, least)).sum()) / spectrum.n_samples
    return first * b / (1 + b)


def _matters(spectrum: Spectrum) -> bool:
    return sampling_bias(spectrum) > BIAS_ERRORS * float(spectrum.standard_errors[0])


def bias_decides(spectrum: Spectrum, ratio: float) -> bool:
    """Whether latents that live may be dead for other samples of the same source, where the bias is worth a warning.

    The bias counts twice, as its estimate is half of it for an eigenvalue that does not stand out, with two standard
    errors.

    Parameters
    ----------
    spectrum : Spectrum
    ratio : float
        The weight of KL in units of the critical one.
    """
    margin = 2 * (sampling_bias(spectrum) + float(spectrum.standard_errors[0]))
    return _matters(spectrum) and ratio >= 1 - margin / float(spectrum.eigenvalues[0])


def bias_warning(spectrum: Spectrum, factor: float = 1.0) -> str | None:
    """Return what to say of a bias that matters, None of a smaller one.

    Parameters
    ----------
    spectrum : Spectrum
        Of data with classes, that of the class with the largest eigenvalue.
    factor : float
        The critical value in units of the largest eigenvalue.
    """
    bias, error = sampling_bias(spectrum), float(spectrum.standard_errors[0])
    if not _matters(spectrum):
        return None
    return (
        f"{counted(spectrum.n_samples, 'sample')} of {counted(spectrum.dimension, 'feature')} have on average a larger "
        f"first eigenvalue than the source that they are from, which +- {factor * error:.2g} leaves out: the critical "
        f"value {factor * float(spectrum.eigenvalues[0]):.4g} is right for a VAE trained on these very samples, for "
        f"other samples of this source too high by about {factor * bias:.2g}, or up to twice that if the first "
        f"eigenvalue does not stand out"
    )
