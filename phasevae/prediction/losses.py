"""Loss conventions of VAE code, and the decoder variance that each of them stands for.

A loss a * (squared error summed over features) + b * KL has the optimum of a Gaussian decoder with
beta * sigma2 = b / (2 a) (`theory.effective_variance`), whatever the names of its parts. Averages over features or
latents are factors of D and n in a and b: the usual reason why a weight that looks small is not.

Every library preset names the line of public code that it models, at a commit or a release.
"""

from __future__ import annotations

from dataclasses import dataclass

from phasevae.errors import InputError
from phasevae.theory.ppca import effective_variance

FIXED, BERNOULLI, LEARNED, PER_FEATURE = "fixed", "bernoulli", "learned", "per-feature"


@dataclass(frozen=True)
class Loss:
    """One way to write the loss: scale * error + kl_weight * KL, each summed unless it says averaged.

    decoder: ``fixed`` (squared error), ``bernoulli`` (cross entropy; the error is then the squared one in units of
    p (1 - p) per feature, to second order), ``learned`` (one variance for all features, learned) or ``per-feature``
    (one learned variance a feature).
    """

    name: str
    formula: str
    decoder: str = FIXED
    scale: float = 0.5
    mean_over_features: bool = False
    mean_over_latents: bool = False
    kl_weight: float = 1.0  # the default of the code it models
    source: str = ""
    note: str = ""

    def weights(self, kl_weight: float, dimension: int, n_latent: int) -> tuple[float, float]:
        """(a, b) of a * (error summed over features) + b * (KL summed over latents)."""
        a = self.scale / (dimension if self.mean_over_features else 1)
        return a, kl_weight / (n_latent if self.mean_over_latents else 1)

    def effective_variance(self, kl_weight: float, dimension: int, n_latent: int) -> float:
        """beta * sigma2, in squared units of the data, or in units of the decoder's own variances (see `decoder`)."""
        return effective_variance(*self.weights(kl_weight, dimension, n_latent))

    def kl_weight_of(self, variance: float, dimension: int, n_latent: int) -> float:
        """The weight of KL whose effective variance is `variance`: the inverse of `effective_variance`."""
        return variance / self.effective_variance(1.0, dimension, n_latent)


def fixed_variance_loss(sigma2: float) -> Loss:
    """The paper's loss with decoder variance `sigma2`: squared error / (2 sigma2) + kl_weight * KL."""
    if not sigma2 > 0:
        raise InputError(f"sigma2: {sigma2}, must be positive")
    return Loss("sigma2", f"SSE / (2 * {sigma2:g}) + w * KL", scale=0.5 / sigma2)


LOSSES: dict[str, Loss] = {
    convention.name: convention
    for convention in (
        Loss("half-sse", "0.5 * SSE + w * KL", source="Kingma & Welling, arXiv:1312.6114, with sigma = 1"),
        Loss("sse", "SSE + w * KL", scale=1.0),
        Loss("mean-se", "SSE / D + w * KL", scale=1.0, mean_over_features=True),
        Loss("mean-se-mean-kl", "SSE / D + w * KL / n", scale=1.0, mean_over_features=True, mean_over_latents=True),
        Loss("bce", "BCE + w * KL", decoder=BERNOULLI),
        Loss("mean-bce", "BCE / D + w * KL", decoder=BERNOULLI, mean_over_features=True),
        Loss(
            "gaussian-nll",
            "SSE / (2 s2) + (D / 2) ln s2 + w * KL, s2 learned",
            decoder=LEARNED,
            source="Rybkin, Daniilidis & Levine, ICML 2021 (sigma-VAE); Lucas et al., NeurIPS 2019",
        ),
    )
}
"""By name. SSE, BCE: squared error, binary cross entropy summed over the D features of a sample; KL summed over the n
latents; all averaged over the batch."""

LIBRARIES: dict[str, Loss] = {
    convention.name: convention
    for convention in (
        Loss(
            "pythae",
            "0.5 * SSE + w * KL",
            source="pythae 0.1.2, pythae/models/vae/vae_model.py, lines 102-110 and 120-122; with a weight: "
            "pythae/models/beta_vae/beta_vae_model.py, line 107",
            note="before 0.1.2 the factor 0.5 was missing: --loss sse",
        ),
        Loss(
            "pythae-bce",
            "BCE + w * KL",
            decoder=BERNOULLI,
            source="pythae 0.1.2, pythae/models/vae/vae_model.py, lines 112-118 (reconstruction_loss='bce')",
        ),
        Loss(
            "pytorch-vae",
            "mean squared error + w * KL",
            scale=1.0,
            mean_over_features=True,
            kl_weight=0.00025,
            source="AntixK/PyTorch-VAE at 2946d7a, models/vanilla_vae.py, lines 137-143; "
            "the default 0.00025 of configs/vae.yaml is discussed in its issue 56",
        ),
        Loss(
            "disentangling-vae",
            "BCE + w * KL",
            decoder=BERNOULLI,
            kl_weight=4.0,
            source="YannDubs/disentangling-vae at 0a38ac7, disvae/models/losses.py, line 136 and "
            "_reconstruction_loss (distribution 'bernoulli'); beta = 4 in line 124",
        ),
        Loss(
            "disentangling-vae-gaussian",
            "255 * SSE + w * KL",
            scale=255.0,
            kl_weight=4.0,
            source="YannDubs/disentangling-vae at 0a38ac7, disvae/models/losses.py, line 136 and "
            "_reconstruction_loss (distribution 'gaussian': errors of x * 255, divided by 255)",
        ),
        Loss(
            "pyro",
            "BCE + w * KL",
            decoder=BERNOULLI,
            source="pyro-ppl/pyro at 07ad8d8, examples/vae/vae.py, line 97 (Bernoulli likelihood under Trace_ELBO)",
        ),
        Loss(
            "scvi",
            "SSE_g / (2 s2_g) + (1/2) ln s2_g summed over genes + w * KL, s2_g learned",
            decoder=PER_FEATURE,
            source="scvi-tools 1.4.2, scvi/module/_vae.py, lines 516-518, 531-532 and 578 (gene_likelihood='normal')",
            note="library size and covariates are taken to be accounted for in the data",
        ),
        Loss(
            "mlcolvar",
            "mean squared error + w * KL",
            scale=1.0,
            mean_over_features=True,
            source="mlcolvar 1.3.1, mlcolvar/core/loss/elbo.py, lines 136-152, and mse.py, line 73",
        ),
        Loss(
            "beta-vae",
            "SSE + w * KL",
            scale=1.0,
            kl_weight=4.0,
            source="1Konny/Beta-VAE at 007fb99, solver.py, lines 24-26 (decoder 'gaussian') and its objective 'H'",
        ),
    )
}
"""Presets of public code; their `kl_weight` is the default there."""


def find_loss(loss: str | None = None, library: str | None = None) -> Loss:
    """The convention of that name. Raises InputError that lists the names."""
    table, key, name = (LOSSES, "loss", loss) if library is None else (LIBRARIES, "library", library)
    if name not in table:
        raise InputError(f"{key}: {name!r}, must be one of {', '.join(table)}")
    return table[name]
