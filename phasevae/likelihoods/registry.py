"""All families of likelihoods, by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from phasevae.errors import InputError
from phasevae.likelihoods.base import Likelihood
from phasevae.likelihoods.bernoulli import Bernoulli
from phasevae.likelihoods.categorical import Categorical
from phasevae.likelihoods.gaussian import Gaussian, GaussianVariance
from phasevae.likelihoods.laplace import Laplace
from phasevae.likelihoods.multinomial import Multinomial
from phasevae.likelihoods.negative_binomial import NegativeBinomial
from phasevae.likelihoods.poisson import Poisson
from phasevae.likelihoods.student_t import StudentT
from phasevae.likelihoods.zero_inflated import ZeroInflatedNegativeBinomial

LIKELIHOODS: dict[str, type[Likelihood]] = {
    family.name: family
    for family in (
        Gaussian,
        GaussianVariance,
        Bernoulli,
        Poisson,
        NegativeBinomial,
        ZeroInflatedNegativeBinomial,
        Multinomial,
        Categorical,
        Laplace,
        StudentT,
    )
}


def find_likelihood(name: str, **options: Any) -> Likelihood:
    """Return a likelihood by its name, with options.

    Parameters
    ----------
    name : str
        A name in LIKELIHOODS.
    **options
        Fields of the family.

    Returns
    -------
    Likelihood

    Raises
    ------
    InputError
        For an unknown name or option, with the known ones, and for a value that an option cannot have.
    """
    if name not in LIKELIHOODS:
        raise InputError(f"likelihood: {name!r}, must be one of {', '.join(LIKELIHOODS)}")
    known = [field.name for field in fields(LIKELIHOODS[name])]
    for option in options:
        if option not in known:
            choices = f"one of {', '.join(known)}" if known else "left out"
            raise InputError(f"{option}: no option of the likelihood {name}, must be {choices}")
    return LIKELIHOODS[name](**options)
