"""Centred rows: what every training and measurement of ours sees.

The optimum does not depend on the mean of the data, but on wide data far from zero a training does not reach it: a step
of Adam moves the units of the first layer in all samples alike, and latents die.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def centred_rows(x: np.ndarray, device: torch.device | str = "cpu") -> tuple[Tensor, np.ndarray]:
    """Copy rows to the device, less the mean of each feature.

    Parameters
    ----------
    x : array [N, D]
    device : torch.device or str

    Returns
    -------
    Tensor [N, D]
        The centred rows in float32.
    array [D]
        The mean that was subtracted, summed in float64 and stored as float32, as the rows are.
    """
    rows = np.array(x, dtype=np.float32)
    mean = rows.mean(0, dtype=np.float64).astype(np.float32)
    rows -= mean
    return torch.from_numpy(rows).to(device), mean
