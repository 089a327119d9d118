"""The whole analysis of a sweep: the content of fit.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from phasevae.analysis.beta_equivalence import compare_sweeps
from phasevae.analysis.exponents import fit_exponents
from phasevae.analysis.hysteresis import measured_hysteresis, predicted_hysteresis
from phasevae.analysis.kl_fit.critical_point import fit_critical_point
from phasevae.analysis.optimality import (
    converged_points,
    convergence_summary,
    convergence_warning,
    optimality_summary,
    optimality_warning,
    rows_of,
)
from phasevae.analysis.order import transition_order
from phasevae.analysis.slowing import fit_slowing
from phasevae.analysis.sweep_table import check_belongs
from phasevae.analysis.thresholds import fit_thresholds

if TYPE_CHECKING:
    import pandas as pd


def analyse(
    sweep: pd.DataFrame,
    spectrum: Mapping[str, Any] | None = None,
    n_latent: int | None = None,
    dimensions: pd.DataFrame | None = None,
    histories: pd.DataFrame | None = None,
    upward: pd.DataFrame | None = None,
    model: str | None = None,
    window: tuple[float, float] | None = None,
    converged_only: bool = False,
) -> dict[str, Any]:
    """`critical.fit` with what else the tables tell.

    Adds order and exponents (`order`; the sweep must have elbo_gap), cascade (`cascade`; dimensions.csv),
    beta_equivalence (`equivalence`; None for one beta), slowing (`slowing`; histories.csv) and hysteresis
    (`hysteresis`: predicted from the spectrum, measured in hysteresis.csv). What has no input has a reason instead.
    convergence (`rest`) counts the points that have not converged; `converged_only` leaves them out everywhere.
    The order is 1 where the upward sweep shows hysteresis, whatever the sweep itself shows.
    consistency (`consistency`) tells where the network of another point has a better ELBO.
    """
    for table, name in ((dimensions, "dimensions"), (histories, "histories")):
        if table is not None:
            check_belongs(table, name, sweep)
    at_rest = convergence_summary(sweep, converged_only)
    warning = convergence_warning(at_rest, len(sweep))
    if converged_only:
        sweep = converged_points(sweep)
        dimensions, histories = (rows_of(sweep, table) for table in (dimensions, histories))
    result = fit_critical_point(sweep, spectrum, n_latent, model, window)
    result["convergence"] = at_rest
    result["consistency"] = optimality_summary(sweep)
    told = warning, optimality_warning(result["consistency"])
    result["warnings"] += [line for line in told if line is not None]
    if "elbo_gap" in sweep:
        result["order"] = transition_order(sweep, spectrum, result)
        result["exponents"] = fit_exponents(sweep, spectrum, result)
    else:
        missing = {"reason": "sweep: column 'elbo_gap' is missing"}
        result |= {"order": {"value": None} | missing, "exponents": missing}
    if dimensions is None:
        result["cascade"] = {"modes": [], "staircase": None, "reason": "no dimensions.csv is given"}
    else:
        result["cascade"] = fit_thresholds(dimensions, spectrum, n_latent)
    result["beta_equivalence"] = compare_sweeps(sweep)
    if histories is None:
        result["slowing"] = {"exponent": None, "reason": "no histories.csv is given"}
    else:
        result["slowing"] = fit_slowing(histories, result["critical_variance"])
    result["hysteresis"] = _hysteresis(spectrum, upward)
    result["order"] = _order(result["order"], result["hysteresis"]["measured"])
    return result


def _order(of_sweep: dict[str, Any], measured: dict[str, Any] | None) -> dict[str, Any]:
    """The order that the sweep shows, or 1 where an upward sweep shows hysteresis: the states that exchange there may
    differ by less than a jump of KL must have to be seen."""
    evidence = "sweep"
    if measured is not None and measured["hysteresis"] and of_sweep["value"] != 1:
        places = ", ".join(f"{x:.4g}" for x in measured["beyond"])
        reason = f"hysteresis: active models have an ELBO above the collapsed one's beyond lambda_1, at {places}"
        of_sweep, evidence = of_sweep | {"value": 1, "reason": reason}, "hysteresis"
    return of_sweep | {"evidence": evidence if of_sweep["value"] else None}


def _hysteresis(spectrum: Mapping[str, Any] | None, upward: pd.DataFrame | None) -> dict[str, Any]:
    """Prediction and measurement; the variance proxy alone can exclude what no upward sweep looked for."""
    predicted = predicted_hysteresis(spectrum)
    if upward is None or spectrum is None:
        missing = "no hysteresis.csv is given" if spectrum is not None else "no spectrum is given"
        return {"predicted": predicted, "measured": None, "reason": missing}
    measured = measured_hysteresis(upward, float(spectrum["eigenvalues"][0]))
    return {"predicted": predicted, "measured": measured, "reason": measured["reason"]}
