"""The losses that VAE code uses, and the effective variance of each.

A loss a * (squared error summed over features) + b * KL has the optimum of a Gaussian decoder with
beta * sigma2 = b / (2 a) (`theory.ppca.effective_variance`). Averages over features or latents are factors of D and n
in a and b. They are the usual reason why a weight that looks small is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from phasevae.errors import InputError, no_such_choice
from phasevae.likelihoods.registry import LIKELIHOODS
from phasevae.theory.ppca import effective_variance

FIXED, BERNOULLI, SCORES, LEARNED, PER_FEATURE = "fixed", "bernoulli", "scores", "learned", "per-feature"
"""Kinds of decoder."""

FIXED_VARIANCE = "sigma2"
"""Name of the loss whose decoder variance is given."""

OWN = "own"
"""Name of a user's own loss function. Its KL weight is a factor of the KL term as the user wrote it."""


@dataclass(frozen=True)
class Loss:
    """A loss of VAE code: scale * error + kl_weight * KL. Both are sums over features and latents unless averaged.

    The decoder is ``fixed`` (squared error), ``bernoulli`` (cross entropy: to second order the squared error in units
    of p (1 - p) of each feature), ``scores`` (any other loss: to second order the squared error of its scores in units
    of its curvature), ``learned`` (one learned variance for all features) or ``per-feature`` (one learned variance for
    each feature).
    """

    name: str
    formula: str
    decoder: str = FIXED
    scale: float = 0.5
    mean_over_features: bool = False
    mean_over_latents: bool = False
    kl_weight: float = 1.0  # default of the code that it models
    family: str = ""  # of a Bernoulli decoder and of scores: a name in likelihoods.registry.LIKELIHOODS
    options: tuple[tuple[str, Any], ...] = ()  # of the family
    constant: float = 0.0  # part of the family's negative log likelihood of a feature that the loss leaves out
    kl_unit: float = 1.0  # weight of KL in the loss where kl_weight is 1
    raw_counts: bool | None = None  # whether the data must be raw counts, or must not; None where both are possible
    conditions: str = ""  # what else the networks of that code can be given
    source: str = ""
    note: str = ""
    changes: tuple[str, ...] = ()  # of a user's own loss: what about its KL term is not the usual KL

    def weights(self, kl_weight: float, dimension: int, n_latent: int) -> tuple[float, float]:
        """Return the weights of the summed error and of the summed KL.

        Parameters
        ----------
        kl_weight : float
            Weight of KL as the loss is written.
        dimension : int
            Number of features D.
        n_latent : int

        Returns
        -------
        (a, b) : floats
            The loss is a * (error summed over features) + b * (KL summed over latents).
        """
        a = self.scale / (dimension if self.mean_over_features else 1)
        return a, kl_weight * self.kl_unit / (n_latent if self.mean_over_latents else 1)

    def effective_variance(self, kl_weight: float, dimension: int, n_latent: int) -> float:
        """Return beta * sigma2 of the loss.

        Parameters
        ----------
        kl_weight, dimension, n_latent : as for `weights`

        Returns
        -------
        float
            In squared units of the data, or relative to p (1 - p) for a Bernoulli decoder.
        """
        return effective_variance(*self.weights(kl_weight, dimension, n_latent))

    def kl_weight_of(self, variance: float, dimension: int, n_latent: int) -> float:
        """Return the weight of KL that has an effective variance: the inverse of `effective_variance`.

        Parameters
        ----------
        variance : float
        dimension, n_latent : as for `weights`

        Returns
        -------
        float
        """
        return variance / self.effective_variance(1.0, dimension, n_latent)


def fixed_variance_loss(sigma2: float) -> Loss:
    """Return the paper's loss with decoder variance `sigma2`: squared error / (2 sigma2) + kl_weight * KL."""
    if not sigma2 > 0:
        raise InputError(f"sigma2: {sigma2}, must be positive")
    return Loss(FIXED_VARIANCE, f"SSE / (2 * {sigma2:g}) + w * KL", scale=0.5 / sigma2)


LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss("half-sse", "0.5 * SSE + w * KL", source="Kingma & Welling, arXiv:1312.6114, with sigma = 1"),
        Loss("sse", "SSE + w * KL", scale=1.0),
        Loss("mean-se", "SSE / D + w * KL", scale=1.0, mean_over_features=True),
        Loss("mean-se-mean-kl", "SSE / D + w * KL / n", scale=1.0, mean_over_features=True, mean_over_latents=True),
        Loss("bce", "BCE + w * KL", decoder=BERNOULLI, family="bernoulli"),
        Loss("mean-bce", "BCE / D + w * KL", decoder=BERNOULLI, family="bernoulli", mean_over_features=True),
        Loss(
            "gaussian-nll",
            "SSE / (2 s2) + (D / 2) ln s2 + w * KL, s2 learned",
            decoder=LEARNED,
            source="Rybkin, Daniilidis & Levine, ICML 2021 (sigma-VAE); Lucas et al., NeurIPS 2019",
        ),
        *(
            Loss(name, f"-ln {LIKELIHOODS[name].formula} + w * KL", SCORES, family=name)
            for name in (
                "gaussian-variance", "poisson", "negative-binomial", "zinb", "multinomial", "categorical", "student-t",
            )
        ),
        Loss("laplace", "L1 + w * KL", SCORES, family="laplace", constant=math.log(2)),
    )
}  # fmt: skip
"""Losses by name. SSE, BCE and L1 are squared error, binary cross entropy and absolute error, summed over the features
of a sample, as the other negative log likelihoods are. KL is summed over the n latents. All are averaged over the
batch."""

LOSS_SYNONYMS = {
    "mse": ("mean-se",),
    "mse-loss": ("mean-se",),
    "mean-squared-error": ("mean-se",),
    "squared-error": ("sse",),
    "l2": ("sse",),
    "normal": ("half-sse", "gaussian-nll"),
    "nll": ("gaussian-nll",),
    "gaussian-nll-loss": ("gaussian-variance",),
    "sigma-vae": ("gaussian-nll",),
    "heteroscedastic": ("gaussian-variance",),
    "l1": ("laplace",),
    "l1-loss": ("laplace",),
    "mae": ("laplace",),
    "mean-absolute-error": ("laplace",),
    "absolute-error": ("laplace",),
    "ce": ("bce", "categorical"),
    "cross-entropy": ("bce", "categorical"),
    "binary-cross-entropy": ("bce",),
    "bce-loss": ("mean-bce",),
    "bce-with-logits": ("bce",),
    "softmax": ("categorical", "multinomial"),
    "one-hot": ("categorical",),
    "nb": ("negative-binomial",),
    "negbin": ("negative-binomial",),
    "zero-inflated-negative-binomial": ("zinb",),
    "counts": ("poisson", "negative-binomial"),
    "poisson-nll": ("poisson",),
    "t": ("student-t",),
    "students-t": ("student-t",),
}
"""What else people call the losses."""

ALIASES = {"gaussian": "half-sse", "bernoulli": "bce"}
"""Likelihoods that have another name as losses."""

LOSS_NAMES = (*LOSSES, *ALIASES)
"""All names that a loss can be given by."""


def no_such_loss(name: object, known: Sequence[str] = LOSS_NAMES) -> InputError:
    """Return the error for a name that is none of the known losses, with the one of them that was probably meant.

    Parameters
    ----------
    name : object
        What the user gave.
    known : sequence of str
    """
    meant = {word: tuple(each for each in losses if each in known) for word, losses in LOSS_SYNONYMS.items()}
    return no_such_choice("loss", name, known, {word: losses for word, losses in meant.items() if losses})
