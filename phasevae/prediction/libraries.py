"""The losses of public code, and how a loss is found by its name.

Every preset names the line of public code that it models, at a commit or a release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from phasevae.errors import InputError, no_such_choice
from phasevae.likelihoods.registry import find_likelihood
from phasevae.prediction.losses import ALIASES, LOSS_NAMES, LOSSES, PER_FEATURE, SCORES, Loss, no_such_loss

LIBRARIES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss(
            "pythae",
            "0.5 * SSE + w * KL",
            source="pythae 0.1.2, pythae/models/vae/vae_model.py, lines 102-110 and 120-122; with a weight: "
            "pythae/models/beta_vae/beta_vae_model.py, line 107",
            note="before 0.1.2 the factor 0.5 was missing: --loss sse",
        ),
        replace(
            LOSSES["bce"],
            name="pythae-bce",
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
        replace(
            LOSSES["bce"],
            name="disentangling-vae",
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
        replace(
            LOSSES["bce"],
            name="pyro",
            source="pyro-ppl/pyro at 07ad8d8, examples/vae/vae.py, line 97 (Bernoulli likelihood under Trace_ELBO)",
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
        replace(
            LOSSES["bce"],
            name="pytorch-examples",
            source="pytorch/examples at 77f55b9, vae/main.py, lines 80-89",
        ),
        replace(
            LOSSES["bce"],
            name="keras-io",
            source="keras-team/keras-io at cca4efb, examples/generative/vae.py, lines 92-99",
            note="for images of one channel; of c channels the cross entropy is their mean: divide it by c",
        ),
        Loss(
            "scvi",
            "-ln ZINB(x; library * softmax f, r_g, dropout logit) summed over genes + w * KL",
            SCORES,
            family="zinb",
            options=(("normalised", True), ("size_factors", "total")),
            source="scvi-tools 1.4.2, scvi/module/_vae.py, lines 515-532, 563-580 (the default gene_likelihood); "
            "scvi/distributions/_negative_binomial.py, lines 42-102",
            raw_counts=True,
            conditions="batches and covariates",
            note="the weight is that at the end of the warm-up",
        ),
        Loss(
            "scvi-nb",
            "-ln NB(x; library * softmax f, r_g) summed over genes + w * KL",
            SCORES,
            family="negative-binomial",
            options=(("normalised", True), ("size_factors", "total")),
            source="scvi-tools 1.4.2, scvi/module/_vae.py, lines 515-532, 563-580 (gene_likelihood='nb'); "
            "scvi/nn/_base_components.py, lines 377-386",
            raw_counts=True,
            conditions="batches and covariates",
            note="the weight is that at the end of the warm-up",
        ),
        Loss(
            "scvi-normal",
            "SSE_g / (2 s2_g) + (1/2) ln s2_g summed over genes + w * KL, s2_g learned",
            decoder=PER_FEATURE,
            source="scvi-tools 1.4.2, scvi/module/_vae.py, lines 516-518, 531-532 and 578 (gene_likelihood='normal')",
            raw_counts=False,
            conditions="batches and covariates",
            note="the data must already be corrected for library size and covariates",
        ),
        Loss(
            "mult-vae",
            "-sum x ln softmax f + w * KL",
            SCORES,
            family="multinomial",
            kl_weight=0.2,
            source="dawenl/vae_cf at ad103c5, VAE_ML20M_WWW2018.ipynb, lines 747-786 and 979-984 (weight at the end)",
            note="without the dropout of the encoder's input",
        ),
        Loss(
            "recommenders",
            "-sum x ln softmax f + w * KL",
            SCORES,
            family="multinomial",
            source="recommenders-team/recommenders at b02c95e, recommenders/models/vae/multinomial_vae.py, "
            "lines 329-344; beta = 1 in line 207",
            note="without the dropout of the encoder's input",
        ),
        replace(
            LOSSES["laplace"],
            name="act",
            formula="mean absolute error + w * KL",
            mean_over_features=True,
            kl_weight=10.0,
            source="tonyzhaozh/act at 742c753, policy.py, lines 28-34 and 71-84; weight 10 of README.md, line 76",
            conditions="observations",
            note="without padding",
        ),
        Loss(
            "diffusers",
            "SSE + w * KL",
            scale=1.0,
            kl_weight=1e-6,
            source="huggingface/diffusers at 58eb52c, examples/research_projects/autoencoderkl/train_autoencoderkl.py, "
            "lines 902-929; kl_scale in line 436",
            note="until step 50,000: later a discriminator is added; LPIPS has no gradient there",
        ),
        replace(
            LOSSES["laplace"],
            name="compvis",
            kl_weight=1e-6,
            source="CompVis/latent-diffusion at a506df5, ldm/modules/losses/contperceptual.py, lines 48-60 and 83; "
            "weight of configs/autoencoder/autoencoder_kl_32x32x4.yaml, line 11",
            note="without LPIPS and the discriminator",
        ),
    )
}
"""Presets of public code, by name. Their `kl_weight` is the default of that code."""

LIBRARY_SYNONYMS = {
    "scvi-tools": ("scvi",),
    "scvi-zinb": ("scvi",),
    "zinb": ("scvi",),
    "antixk": ("pytorch-vae",),
    "vae-cf": ("mult-vae",),
    "multvae": ("mult-vae",),
    "keras": ("keras-io",),
    "pytorch": ("pytorch-examples", "pytorch-vae"),
    "autoencoderkl": ("diffusers", "compvis"),
    "stable-diffusion": ("compvis", "diffusers"),
    "latent-diffusion": ("compvis",),
    "ldm": ("compvis",),
    "dis-vae": ("disentangling-vae",),
    "disvae": ("disentangling-vae",),
}
"""What else people call the libraries."""


def find_loss(loss: str | None = None, library: str | None = None, options: Mapping[str, Any] | None = None) -> Loss:
    """Return a loss by its name.

    Parameters
    ----------
    loss : str, optional
        A name in LOSS_NAMES.
    library : str, optional
        A name in LIBRARIES, which comes first.
    options : mapping, optional
        Options of the likelihood, such as the dispersion.

    Returns
    -------
    Loss

    Raises
    ------
    InputError
        For an unknown name, with the known ones, and for options that the loss does not take.
    """
    key, name = ("loss", loss) if library is None else ("library", library)
    if not isinstance(name, str):
        raise InputError(f"{key}: {name!r}, must be the name of a {key}")
    if library is not None and name not in LIBRARIES:
        raise no_such_choice(key, name, LIBRARIES, LIBRARY_SYNONYMS)
    if library is None and name not in LOSS_NAMES:
        raise no_such_loss(name)
    found = LOSSES[ALIASES.get(name, name)] if library is None else LIBRARIES[name]
    return _with_options(found, options or {})


def _with_options(loss: Loss, options: Mapping[str, Any]) -> Loss:
    if not options:
        return loss
    if loss.decoder != SCORES:
        raise InputError(f"loss_options: {', '.join(options)}, must be left out for the loss {loss.name}")
    merged = dict(loss.options) | dict(options)
    find_likelihood(loss.family, **merged)  # says what is wrong with them
    return replace(loss, options=tuple(merged.items()))
