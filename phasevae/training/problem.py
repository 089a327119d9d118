"""What a training fits: the rows of the data and the family of likelihoods, from the data set and the settings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phasevae.kernels.family import Family
from phasevae.kernels.reconstruction import GaussianReconstruction, Reconstruction
from phasevae.rows import Rows
from phasevae.sweeps.settings import GAUSSIAN, Settings
from phasevae.training.likelihoods import rows_and_family
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
        own_likelihood: Family | None = None,
    ) -> Problem:
        """Prepare data for the trainings of a sweep.

        Parameters
        ----------
        x : array or Tensor [N, D]
            The data. An array is copied to the device; a tensor is taken as centred rows. For a Gaussian decoder the
            copy is centred.
        settings : Settings
        device : torch.device or str
        own_likelihood : Family, optional
            The fitted function of the user's own, where the likelihood of the settings is one.

        Returns
        -------
        Problem

        Raises
        ------
        InputError
            If `settings.holdout` leaves no rows on one side, and for data that the likelihood cannot have.
        """
        if settings.likelihood == GAUSSIAN:
            rows = Rows.of(x, device)
            reconstruction = GaussianReconstruction(rows.x.shape[1])
        else:
            rows, reconstruction = rows_and_family(x, settings, device, own_likelihood)
        pool, held_out = split_rows(len(rows), settings.holdout)
        return cls(rows, reconstruction, pool.to(rows.x.device), held_out)
