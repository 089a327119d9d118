"""A fitted likelihood as named arrays and plain options, from which its reconstruction term is made."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.likelihoods.base import FittedLikelihood


def arrays_of(fitted: FittedLikelihood) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Return what `phasevae.kernels.reconstructions.make_reconstruction` needs to know of a fit.

    Parameters
    ----------
    fitted : FittedLikelihood

    Returns
    -------
    arrays : dict of str to array
        `offset` [P], the outputs of the constant decoder one after the other, infinite where they have no optimum; the
        global parameters of the family; and further numbers of the fit.
    options : dict
        All options of the family, with those that were left to the data.
    """
    outputs, options = list(fitted.outputs.values()), asdict(fitted.likelihood)
    arrays = {"offset": np.concatenate([output.ravel() for output in outputs]), **fitted.constants}
    if fitted.likelihood.name == "categorical":
        options["n_classes"] = outputs[0].shape[1]
    if fitted.likelihood.name == "gaussian-variance":
        arrays["used"] = (~fitted.constant).astype(float)
    if hasattr(fitted, "mean_total"):
        arrays["mean_total"] = np.array(fitted.mean_total)
    return arrays, options
