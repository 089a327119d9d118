"""The command `phasevae predict`, and rows to predict."""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path

import numpy as np
from commands import phasevae


def predict_command(*arguments: object, folder: Path) -> subprocess.CompletedProcess:
    """Run the command in a folder with all its warnings shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        return phasevae("predict", *arguments, folder=folder)


def save_rows(folder: Path) -> Path:
    """Write x.npy: 500 rows of three Gaussian features."""
    x = np.random.default_rng(0).normal(size=(500, 3)) * [2, 1, 0.5]
    np.save(folder / "x.npy", x)
    return folder / "x.npy"
