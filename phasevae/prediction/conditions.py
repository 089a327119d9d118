"""Conditions among the inputs of loss functions and encoders, which a prediction does not know of."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

from phasevae.errors import InputError

CONDITION = re.compile(
    "c|y|cond.*|labels?|class(es)?|class_.*|context.*|covariates?|batch_ind(ex|ices)|batch_labels?", re.IGNORECASE
)
"""Names of inputs that are conditions."""

N_ARGUMENTS = 4
"""A loss function takes recon, x, mu and logvar."""


def conditions_of_loss(function: Callable[..., Any]) -> str:
    """Return the further inputs of a loss function that are conditions by their names, as text; empty without any.

    Raises InputError for a function that needs more than (recon, x, mu, logvar).
    """
    further = _further(function, N_ARGUMENTS)
    needed = [each.name for each in further if each.default is each.empty and each.kind is not each.VAR_POSITIONAL]
    if needed and not any(each.kind is each.VAR_POSITIONAL for each in further):
        name = getattr(function, "__name__", type(function).__name__)
        raise InputError(
            f"loss {name}: needs {', '.join(needed)} as well, must take (recon, x, mu, logvar); give fixed values with "
            f"functools.partial, or for conditions a loss without them"
        )
    return _named(further)


def conditions_of_encoder(forward: Callable[..., Any]) -> str:
    """Return the inputs of an encoder that are conditions by their names, as text; empty without any."""
    return _named(_further(forward, 1))


def warn_of_conditions(forward: Callable[..., Any]) -> None:
    """Warn of conditions among the inputs of an encoder that a monitor watches."""
    if conditions := conditions_of_encoder(forward):
        warnings.warn(
            f"CollapseMonitor: the encoder takes {conditions} as well: the prediction is for a model without "
            f"conditions",
            UserWarning,
            stacklevel=3,
        )


def _further(function: Callable[..., Any], known: int) -> list[inspect.Parameter]:
    """Parameters after the known ones, without those that collect keywords."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some callables of C have no signature
        return []
    return [
        each
        for number, each in enumerate(parameters)
        if each.kind is not each.VAR_KEYWORD
        and (number >= known or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL))
    ]


def _named(parameters: list[inspect.Parameter]) -> str:
    return " and ".join(each.name for each in parameters if CONDITION.fullmatch(each.name))
