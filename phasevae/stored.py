"""Trained models, read from their files: an ordinary VAE, or a hierarchy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from phasevae import hierarchy, trained
from phasevae.artifacts.tensors import read_tensors


def load(
    point: Path | str, build: Callable[..., Any] | Path | str | None = None, trust_code: bool = False
) -> trained.TrainedVAE | hierarchy.TrainedHierarchy:
    """Load a trained model from the folder of a point, or from its weights.safetensors.

    Parameters
    ----------
    point : Path or str
    build : callable, Path or str, optional
        For networks of your own: the function that built them, or the Python file that defines it.
    trust_code : bool
        For networks of your own, instead of `build`: run the copy of the Python file that is stored with the weights.
        Like any program, run it only if you trust its origin.

    Raises
    ------
    InputError
        If there is no such point, or its file is damaged, has other layers than it records, or holds networks of
        somebody's own and neither `build` nor `trust_code` is given.
    """
    path = trained.weights_file(point)
    architecture = read_tensors(path)[1].get("architecture")
    if isinstance(architecture, dict) and "n_top" in architecture:
        return hierarchy.load_hierarchy(path)
    return trained.load_vae(path, build, trust_code)
