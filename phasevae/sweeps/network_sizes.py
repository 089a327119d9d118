"""How large the networks of a sweep are: their layers, weights and multiplications."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

OWN_NETWORKS = 8.0
"""Networks of the user's own are taken to need this many times the operations and activations of an MLP of the widths
`hidden`, because convolutions use each weight at many places. Nobody knows before they have run."""


def layer_widths(settings: Mapping[str, Any], dimension: int) -> tuple[list[int], list[int]]:
    """Return the widths of the encoder's layers and of the decoder's, first to last.

    Parameters
    ----------
    settings : settings with `hidden` and `n_latent`
    dimension : number of features
    """
    hidden, n_latent = settings["hidden"], settings["n_latent"]
    return [dimension, *hidden, 2 * n_latent], [n_latent, *reversed(hidden), dimension]


def top_widths(settings: Mapping[str, Any]) -> list[list[int]]:
    """Return the widths of the networks of a hierarchy's top level; none without one."""
    hierarchy = settings.get("hierarchy")
    if hierarchy is None:
        return []
    hidden, n_latent, n_top = settings["hidden"], settings["n_latent"], hierarchy["n_top"]
    return [[n_latent, *hidden, 2 * n_top], [n_top, *reversed(hidden), n_latent]]


def n_parameters(settings: Mapping[str, Any], dimension: int) -> int:
    """Return the number of weights and biases of all networks of a model.

    Parameters
    ----------
    settings : settings with `hidden` and `n_latent`
    dimension : number of features
    """
    networks = (*layer_widths(settings, dimension), *top_widths(settings))
    return sum(multiplications(widths) + sum(widths[1:]) for widths in networks)


def multiplications(widths: list[int]) -> int:
    """Return the multiplications of a network per row, which is the number of its weights."""
    return sum(a * b for a, b in itertools.pairwise(widths))


def own_factor(settings: Mapping[str, Any]) -> float:
    """Return how many times the operations and activations of an MLP the networks need."""
    return OWN_NETWORKS if "module" in (settings.get("network") or {}) else 1.0
