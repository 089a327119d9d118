"""What a training fits: the rows of the data and the family of likelihoods, from the data set and the settings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phasevae.datasets.conditions import Condition
from phasevae.kernels.reconstruction import GaussianReconstruction, Reconstruction
from phasevae.rows import Rows
from phasevae.sweeps.settings import Settings
from phasevae.training.row_order import split_rows


@dataclass(frozen=True)
class Problem:
    """The data on the device, and what the decoder has to do with them.

    Attributes
    ----------
    rows : Rows
    reconstruction : Reconstruction
        The family of likelihoods, with its global parameters.
    pool, held_out : Tensor
        int64, the rows to train with, on the device, and the others.
    """

    rows: Rows
    reconstruction: Reconstruction
    pool: Tensor
    held_out: Tensor

    @classmethod
    def of(
        cls,
        x: np.ndarray | Tensor,
        settings: Settings,
        device: torch.device | str = "cpu",
        condition: Condition | None = None,
    ) -> Problem:
        """Prepare data for the trainings of a sweep.

        Parameters
        ----------
        x : array or Tensor [N, D]
            The data. An array is copied to the device and centred; a tensor is taken as centred rows.
        settings : Settings
        device : torch.device or str
        condition : Condition, optional
            What the networks see beside each row.

        Returns
        -------
        Problem

        Raises
        ------
        InputError
            If `settings.holdout` leaves no rows on one side.
        """
        if condition is None:
            rows = Rows.of(x, device)
        else:
            rows = Rows.conditional(x, condition, device, settings.encoder_sees_condition)
        pool, held_out = split_rows(len(rows), settings.holdout)
        return cls(rows, GaussianReconstruction(rows.x.shape[1]), pool.to(rows.x.device), held_out)
