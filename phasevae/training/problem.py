"""What a training fits: the rows of the data and the family of likelihoods, from the data set and the settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from phasevae.datasets.conditions import Condition
from phasevae.file_rows import load_rows
from phasevae.kernels.family import Family
from phasevae.kernels.reconstruction import GaussianReconstruction, Reconstruction
from phasevae.rows import AnyRows, Rows, given_condition, mean_over
from phasevae.sweeps.settings import GAUSSIAN, Settings, check_hierarchy
from phasevae.training.chapters import Chapters, held_out_rows
from phasevae.training.likelihoods import rows_and_family


@dataclass(frozen=True)
class Problem:
    """The data for the device, and what the decoder has to do with them.

    Attributes
    ----------
    rows : Rows or FileRows
    reconstruction : Reconstruction
        The family of likelihoods, with its global parameters.
    held_out : Tensor
        int64, the rows that are not trained with, ascending.
    chapters : Chapters
        The others.
    """

    rows: AnyRows
    reconstruction: Reconstruction
    held_out: Tensor
    chapters: Chapters

    @classmethod
    def of(
        cls,
        x: np.ndarray | Tensor,
        settings: Settings,
        device: torch.device | str = "cpu",
        own_likelihood: Family | None = None,
        data_memory: int | None = None,
        condition: Condition | None = None,
    ) -> Problem:
        """Prepare data for the trainings of a sweep.

        Parameters
        ----------
        x : array or Tensor [N, D]
            The data. An array is copied to the device, or read from its file; a tensor is taken as centred rows. For a
            Gaussian decoder the rows of an array are centred.
        settings : Settings
        device : torch.device or str
        own_likelihood : Family, optional
            The fitted function of the user's own, where the likelihood of the settings is one.
        data_memory : int, optional
            Bytes that an array may take; see `phasevae.file_rows.load_rows`.
        condition : Condition, optional
            What the networks see beside each row.

        Returns
        -------
        Problem

        Raises
        ------
        InputError
            If `settings.holdout` leaves no rows on one side, for data that the likelihood cannot have, and for a
            hierarchy with anything but the Gaussian likelihood, the MLP and no condition.
        """
        if settings.hierarchy is not None:
            check_hierarchy(settings.likelihood, settings.network is not None, condition is not None)
        if settings.likelihood == GAUSSIAN:
            rows = Rows.of(x) if isinstance(x, Tensor) else load_rows(x, device, data_memory)
            reconstruction = GaussianReconstruction(rows.n_features)
        else:
            rows, reconstruction = rows_and_family(x, settings, device, own_likelihood, data_memory, condition)
        if condition is not None:
            rows = given_condition(rows, condition, settings.encoder_sees_condition)
        held_out = held_out_rows(len(rows), settings.holdout)
        return cls(rows, reconstruction, held_out, Chapters(len(rows), held_out))

    @cached_property
    def mean(self) -> Tensor:
        """The mean [S] of the sufficient statistics over the rows to train with, or of each class, [C, S].

        The rows are centred, but those to train with need not be, where some are held out.
        """
        return mean_over(self.rows, self.reconstruction.statistics, self.held_out)
