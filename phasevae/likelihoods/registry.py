"""All families of likelihoods, by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from phasevae.errors import InputError, no_such_choice
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
from phasevae.wording import suggestion

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
        raise no_such_choice("likelihood", name, LIKELIHOODS)
    known = [field.name for field in fields(LIKELIHOODS[name])]
    for option in options:
        if option not in known:
            choices = suggestion(option, known, "must be one of") if known else "must be left out"
            raise InputError(f"{option}: no option of the likelihood {name}, {choices}")
    return LIKELIHOODS[name](**options)
