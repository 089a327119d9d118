"""All reconstruction terms beside the Gaussian one, by the name of the family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from phasevae.artifacts.names import OWN
from phasevae.errors import no_such_choice
from phasevae.kernels.class_families import Bernoulli, Categorical
from phasevae.kernels.count_families import Multinomial, NegativeBinomial, Poisson, SizedNegativeBinomial, ZeroInflated
from phasevae.kernels.error_families import GaussianVariance, Laplace, StudentT
from phasevae.kernels.family import Family
from phasevae.kernels.own_family import OwnFamily

FAMILIES: dict[str, type[Family]] = {
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "gaussian-variance": GaussianVariance,
    "laplace": Laplace,
    "multinomial": Multinomial,
    "negative-binomial": NegativeBinomial,
    "poisson": Poisson,
    "student-t": StudentT,
    "zinb": ZeroInflated,
}


def make_reconstruction(family: str, arrays: Mapping[str, NDArray], options: Mapping[str, Any]) -> Family:
    """Return the reconstruction term of a family.

    Parameters
    ----------
    family : str
        A name in FAMILIES.
    arrays : mapping of str to array
        The outputs of its constant decoder and its global parameters (`likelihoods.arrays.arrays_of`).
    options : mapping
        All options of the family.

    Raises
    ------
    InputError
        For an unknown name, with the known ones.
    """
    if family.startswith(OWN):
        return OwnFamily(arrays, options)
    if family not in FAMILIES:
        raise no_such_choice("likelihood", family, FAMILIES)
    if options.get("size_factors", "none") != "none":
        return SizedNegativeBinomial(arrays, options)
    return FAMILIES[family](arrays, options)
