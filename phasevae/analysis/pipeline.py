"""The whole analysis of a sweep: the content of fit.json."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from phasevae.analysis.beta_equivalence import compare_sweeps
from phasevae.analysis.conditions import CASCADE_REASON, fit_conditions
from phasevae.analysis.exponents import Exponents, fit_exponents
from phasevae.analysis.hierarchy import Phases, measure_phases, why_no_fit
from phasevae.analysis.hysteresis import Hysteresis, MeasuredHysteresis, PredictedHysteresis, fit_hysteresis
from phasevae.analysis.kl_fit.critical_point import fit_critical_point, not_fitted
from phasevae.analysis.optimality import (
    Convergence,
    collapse_warning,
    converged_points,
    convergence_summary,
    convergence_warning,
    optimality_summary,
    optimality_warning,
    rows_of,
)
from phasevae.analysis.order import Order, transition_order
from phasevae.analysis.residual import Branches, fit_branches
from phasevae.analysis.results import Results
from phasevae.analysis.slowing import Slowing, fit_slowing
from phasevae.analysis.sweep_table import SweptQuantity, check_belongs, level_1, spectrum_of_sweep, swept_quantity
from phasevae.analysis.thresholds import Thresholds, fit_thresholds
from phasevae.analysis.verdict import as_text

if TYPE_CHECKING:
    import pandas as pd

    from phasevae.spectrum.spectrum import Spectrum


@dataclass(frozen=True, kw_only=True)
class Analysis(Results):
    """The results of an analysis. `print` shows the verdict, the numbers and the warnings of `phasevae fit`."""

    def __str__(self) -> str:
        return as_text(self)


def analyse(
    sweep: pd.DataFrame,
    spectrum: Spectrum | None = None,
    n_latent: int | None = None,
    dimensions: pd.DataFrame | None = None,
    histories: pd.DataFrame | None = None,
    upward: pd.DataFrame | None = None,
    model: str | None = None,
    window: tuple[float, float] | None = None,
    converged_only: bool = False,
    swept: SweptQuantity | None = None,
) -> Analysis:
    """Fit the critical point of a sweep and analyse its tables.

    Of a hierarchy the phases are counted. Where the posterior variance of level 1 is learned, level 1 is fitted like an
    ordinary VAE, at the largest weight of the top level. Where it is fixed nothing is fitted.

    Parameters
    ----------
    sweep
        Content of sweep.csv; order and exponents need its column elbo_gap.
    spectrum
        Spectrum of the data; predictions need it.
    n_latent
        Number of latents of the networks.
    dimensions
        Content of dimensions.csv, for the thresholds of the modes.
    histories
        Content of histories.csv, for critical slowing down.
    upward
        Content of hysteresis.csv, for measured hysteresis.
    model, window
        See `fit_critical_point`.
    converged_only
        Leave out the points that are not known to have converged.
    swept
        What the user calls the quantity that was varied, if it is no column of the table: all text is in its units.

    Raises
    ------
    InputError
        For points of other tables that the sweep lacks.
    """
    for table, name in ((dimensions, "dimensions"), (histories, "histories")):
        if table is not None:
            check_belongs(table, name, sweep)
    spectrum, swept = spectrum_of_sweep(spectrum, sweep), swept or swept_quantity(level_1(sweep))
    beta_top = phases = None
    if "beta_top" in sweep:
        chosen = converged_points(sweep) if converged_only else sweep
        phases, reason = measure_phases(chosen, spectrum), why_no_fit(chosen)
        if reason is not None:
            convergence = convergence_summary(sweep, converged_only, fitted=False)
            return _phases_alone(chosen, phases, reason, convergence, swept)
        beta_top = float(sweep["beta_top"].max())
    sweep, dimensions, histories = (
        None if table is None else level_1(table) for table in (sweep, dimensions, histories)
    )
    convergence = convergence_summary(sweep, converged_only)
    warning = convergence_warning(convergence, swept)
    if converged_only:
        sweep = converged_points(sweep)
        dimensions, histories = (rows_of(sweep, table) for table in (dimensions, histories))
    point = fit_critical_point(sweep, spectrum, n_latent, model, window, swept)
    consistency = optimality_summary(sweep)
    lines = (warning, optimality_warning(consistency, swept), collapse_warning(sweep, swept))
    warnings = [line for line in lines if line is not None]
    missing = "sweep: column 'elbo_gap' is missing"
    has_gap = "elbo_gap" in sweep
    order = transition_order(sweep, spectrum, point) if has_gap else Order(None, missing)
    exponents = fit_exponents(sweep, spectrum, point) if has_gap else Exponents(reason=missing)
    conditions = [] if dimensions is None or spectrum is None else fit_conditions(dimensions, spectrum, n_latent, swept)
    if dimensions is None:
        cascade = Thresholds([], None, "no dimensions.csv is given")
    elif conditions:
        cascade = Thresholds([], None, CASCADE_REASON)
    else:
        cascade = fit_thresholds(dimensions, spectrum, n_latent, swept)
    equivalence = compare_sweeps(sweep, swept)
    if histories is None:
        slowing = Slowing(reason="no histories.csv is given")
    else:
        slowing = fit_slowing(histories, point.determined, swept)
    hysteresis = fit_hysteresis(spectrum, upward, swept)
    return Analysis(
        **(vars(point) | {"warnings": point.warnings + warnings}),
        convergence=convergence,
        consistency=consistency,
        order=_with_hysteresis(order, hysteresis.measured, swept),
        exponents=exponents,
        cascade=cascade,
        residual=Branches([], CASCADE_REASON) if conditions else fit_branches(sweep, cascade),
        conditions=conditions,
        beta_equivalence=equivalence,
        slowing=slowing,
        hysteresis=hysteresis,
        beta_top=beta_top,
        hierarchy=phases,
    )


def _phases_alone(
    sweep: pd.DataFrame, phases: Phases, reason: str, convergence: Convergence, swept: SweptQuantity
) -> Analysis:
    """The analysis of a hierarchy to which the curves of an ordinary VAE cannot be fitted.

    Parameters
    ----------
    sweep
        The points that count.
    phases, reason, convergence, swept
        What is known of them, why they are not fitted, and the quantity that was varied.
    """
    point, consistency = not_fitted(sweep, reason), optimality_summary(sweep)
    warnings = (
        convergence_warning(convergence, swept),
        optimality_warning(consistency, swept),
        collapse_warning(sweep, swept),
    )
    return Analysis(
        **(vars(point) | {"warnings": [line for line in warnings if line is not None]}),
        convergence=convergence,
        consistency=consistency,
        order=Order(None, reason),
        exponents=Exponents(reason=reason),
        cascade=Thresholds([], None, reason),
        residual=Branches([], reason),
        beta_equivalence=None,
        slowing=Slowing(reason=reason),
        hysteresis=Hysteresis(PredictedHysteresis(reason=reason), None, reason),
        hierarchy=phases,
    )


def _with_hysteresis(order: Order, measured: MeasuredHysteresis | None, swept: SweptQuantity) -> Order:
    """The order that the sweep shows, or 1 where an upward sweep shows hysteresis: the two states may differ by less
    KL than the smallest jump that the sweep can show."""
    evidence = "sweep"
    if measured is not None and measured.hysteresis and order.value != 1:
        places = f"{swept.name} = {', '.join(swept.at(x, 4) for x in measured.beyond)}"
        reason = f"hysteresis: active models have an ELBO above the collapsed one's beyond lambda_1, at {places}"
        order, evidence = replace(order, value=1, reason=reason), "hysteresis"
    return replace(order, evidence=evidence if order.value else None)
