"""The phases of a two-level hierarchy: which level is active at which weights, measured and predicted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.sweep_table import fixed_variance, seed_means
from phasevae.theory.hierarchical import Hierarchy, critical_beta, critical_beta_top, hierarchy_optimum

if TYPE_CHECKING:
    import pandas as pd

    from phasevae.spectrum.spectrum import Spectrum


@dataclass(frozen=True)
class Phase:
    """Whether level 1 and the top level are active, and how many trained models are in this phase."""

    level_1: bool
    top: bool
    n_models: int


@dataclass(frozen=True)
class Boundary:
    """Where a level collapses as its own weight rises, with everything else held."""

    level: int  # 1, whose weight is beta, or 2, whose weight is beta_top
    sigma2: float
    held: float  # the weight of the other level
    last_active: float | None  # largest weight at which the level is active
    first_collapsed: float | None  # the next weight of the grid, from which on it is collapsed
    predicted: float | None  # None without a spectrum, where it never collapses, and where there is no minimum
    agrees: bool | None  # whether theory has it collapse between the two weights


@dataclass(frozen=True)
class Phases:
    """The phases of a hierarchy's sweep, and the boundaries that its grid crosses.

    Theory is that of Gaussian data and linear networks. A model is compared with it if its objective has one minimum:
    where the posterior variance is learned, only with a weight of the top level above that of level 1.
    """

    phases: list[Phase]  # those of the four that the sweep shows
    n_models: int
    n_compared: int | None  # None without a spectrum
    n_predicted: int | None  # models in the phase that theory gives
    posterior_variance: float | None  # of level 1; None if it is learned
    boundaries: list[Boundary]


def level_means(sweep: pd.DataFrame, columns: tuple[str, ...] = ()) -> tuple[pd.DataFrame, NDArray]:
    """Average a hierarchy's sweep over the seeds.

    Parameters
    ----------
    sweep
        Table with the columns active_dims and active_top.
    columns
        Further columns to average.

    Returns
    -------
    means : DataFrame
        As of `seed_means`, indexed by sigma2, beta and beta_top.
    active : array of bool [n, 2]
        Whether level 1 and the top level are active: whether one of their latents is, for at least half of the seeds.
    """
    levels = {"active_dims": "level_1_active", "active_top": "top_active"}
    table = sweep.assign(**{active: (sweep[count] > 0).astype(float) for count, active in levels.items()})
    means = seed_means(table, [*levels.values(), *columns], ("sigma2", "beta", "beta_top"))
    return means, np.stack([means[active, "mean"] >= 0.5 for active in levels.values()], axis=1)


def measure_phases(sweep: pd.DataFrame, spectrum: Spectrum | None = None) -> Phases:
    """Return the phases that a hierarchy's sweep shows.

    Parameters
    ----------
    sweep
        Table of a hierarchy.
    spectrum
        Spectrum of the data, for what theory gives.
    """
    found = list(zip(sweep["active_dims"] > 0, sweep["active_top"] > 0, strict=True))
    phases = [Phase(*kind, found.count(kind)) for kind in ((True, True), (True, False), (False, True), (False, False))]
    variance = fixed_variance(sweep)
    predicted = [] if spectrum is None else [_predicted_phase(row, variance, spectrum) for row in sweep.itertuples()]
    return Phases(
        [phase for phase in phases if phase.n_models],
        len(sweep),
        None if spectrum is None else sum(phase is not None for phase in predicted),
        None if spectrum is None else sum(bool(a == b) for a, b in zip(found, predicted, strict=True)),
        variance,
        [*_boundaries(sweep, spectrum, 2), *_boundaries(sweep, spectrum, 1)],
    )


def why_no_fit(sweep: pd.DataFrame) -> str | None:
    """Return why the curves of an ordinary VAE cannot be fitted to level 1 of a hierarchy, None if they can."""
    if fixed_variance(sweep) is not None:
        return "the posterior variance is fixed, and each level has boundaries of its own: see hierarchy"
    if (sweep["beta"] > sweep["beta_top"].max()).all():
        return "beta exceeds beta_top at every point, where the objective has no minimum"
    return None


def _predicted_phase(row: Any, variance: float | None, spectrum: Spectrum) -> tuple[bool, bool] | None:
    """Return whether each level is active at the optimum of a row of the sweep, None where there is no one minimum."""
    if variance is None and row.beta_top <= row.beta:
        return None
    hierarchy = Hierarchy(int(row.n_latent), int(row.n_top), row.sigma2, row.beta, row.beta_top, variance)
    optimum = hierarchy_optimum(spectrum.eigenvalues, hierarchy)
    return bool(optimum.active.any()), bool(optimum.top_active.any())


def _boundaries(sweep: pd.DataFrame, spectrum: Spectrum | None, level: int) -> Iterator[Boundary]:
    """Yield the boundaries of a level, by the decoder variance and the weight of the other level."""
    own, other = ("beta", "beta_top") if level == 1 else ("beta_top", "beta")
    means, active = level_means(sweep)
    table = means.index.to_frame(index=False).assign(active=active[:, level - 1])
    variance = fixed_variance(sweep)
    for (sigma2, held), rows in table.sort_values(own).groupby(["sigma2", other]):
        weights, alive = rows[own].to_numpy(), np.flatnonzero(rows["active"])
        after = alive[-1] + 1 if alive.size else 0
        last = float(weights[after - 1]) if after else None
        first = float(weights[after]) if after < weights.size else None
        critical = None if spectrum is None else _predicted_weight(spectrum, variance, level, sigma2, held)
        if None in (last, first) and (critical is None or not weights[0] < critical < weights[-1]):
            continue
        agrees = None if critical is None else (last or 0.0) <= critical <= (np.inf if first is None else first)
        predicted = None if critical == np.inf else critical
        yield Boundary(level, float(sigma2), float(held), last, first, predicted, agrees)


def _predicted_weight(
    spectrum: Spectrum, variance: float | None, level: int, sigma2: float, held: float
) -> float | None:
    """Return the weight from which theory has a level collapsed, infinite where it never is; None without a minimum."""
    unit, largest = Hierarchy(1, 1, sigma2, posterior_variance=variance), float(spectrum.eigenvalues[0])
    critical = float((critical_beta if level == 1 else critical_beta_top)(unit, largest, held))
    # A learned variance has no minimum where level 1 has the larger weight.
    return None if variance is None and level == 1 and critical > held else critical
