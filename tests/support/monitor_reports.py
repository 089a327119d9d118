"""Reports of a monitor on posteriors of known KL."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from phasevae.prediction.monitor import CollapseMonitor
from phasevae.prediction.reports import Report


def posterior(*kl: float, rows: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mu and logvar with the given KL of each latent, in each row by another width."""
    wanted = torch.tensor([kl] * rows, dtype=torch.float64)
    logvar = 0.2 * wanted.clamp(max=1) * torch.linspace(-1, 1, rows, dtype=torch.float64)[:, None]
    return torch.sqrt(2 * wanted - (torch.expm1(logvar) - logvar)), logvar


def quiet_report(monitor: CollapseMonitor, **weight: Any) -> Report:
    """Return the report on the batches so far, without its Python warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return monitor.end_epoch(**weight)


def reported(monitor: CollapseMonitor, series: Iterable[tuple[float, ...]]) -> Iterator[Report]:
    """Report on one batch for each item of a series of KL of each latent."""
    for kl in series:
        monitor.update(*posterior(*kl))
        yield quiet_report(monitor)
