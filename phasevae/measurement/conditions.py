"""The numbers of a trained model for each class of its condition."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from phasevae.datasets.conditions import Coding


class ClassSums:
    """Sums over the rows of each class, in float64.

    Parameters
    ----------
    coding : Coding
        Of classes.
    """

    def __init__(self, coding: Coding):
        self._coding = coding
        self._sums: dict[str, Tensor] = {}

    def add(self, columns: Tensor, **values: Tensor) -> None:
        """Add rows.

        Parameters
        ----------
        columns : Tensor [R, C]
            The class of each row as columns of 0 and 1.
        **values : Tensor [R, ...]
            What to sum, by its name.
        """
        columns = columns.double()
        for name, rows in {**values, "n": torch.ones_like(columns[:, 0])}.items():
            total = (columns.mT @ rows.double().reshape(len(rows), -1)).unflatten(1, rows.shape[1:] or (1,))
            self._sums[name] = self._sums[name] + total if name in self._sums else total

    def records(self) -> list[dict[str, Any]]:
        """Return the means of each class: its value, its rows and their share, then what was added, as arrays."""
        counts = self._sums["n"][:, 0]
        records = []
        for number, value in enumerate(self._coding.classes):
            n = float(counts[number])
            means = {name: (sums[number] / n).cpu().numpy() for name, sums in self._sums.items() if name != "n"}
            records.append({"value": value, "n_samples": int(n), "share": n / float(counts.sum()), **means})
        return records


def error_numbers(energy: float, constant: float, is_gaussian: bool) -> dict[str, float | None]:
    """Return the error of the decoder by its mean energy at sigma2 = 1 and constant: `mse`, or `reconstruction`."""
    return {"mse": 2 * energy} if is_gaussian else {"mse": None, "reconstruction": energy + constant}


def class_numbers(sums: ClassSums, is_gaussian: bool) -> list[dict[str, Any]]:
    """Return the key `conditions` of a point.

    Parameters
    ----------
    sums : ClassSums
        Of `kl` [R, n], `energy` and `constant` [R], `variance` [R, n], `mu` [R, n] and `mu_product` [R, n, n].
    is_gaussian : bool
        Whether the decoder is.

    Returns
    -------
    list of dict
        For each class: value, n_samples, share, kl, the numbers of the error, kl_per_dim, latent_variance,
        mean_variance and mean_covariance, as in the point itself.
    """
    found = []
    for record in sums.records():
        mu = record["mu"]
        covariance = record["mu_product"] - mu[:, None] * mu
        found.append(
            {key: record[key] for key in ("value", "n_samples", "share")}
            | {
                "kl": float(record["kl"].sum()),
                **error_numbers(float(record["energy"][0]), float(record["constant"][0]), is_gaussian),
                "kl_per_dim": record["kl"],
                "latent_variance": record["variance"],
                "mean_variance": covariance.diagonal().copy(),
                "mean_covariance": covariance,
            }
        )
    return found
