"""Figures of the paper, of the analysis and of bracketing: measurement as points, theory as lines.

The abscissa is the decoder variance, or beta * sigma2 in a beta sweep; energies are in nats per sample. Theory
is drawn from the sample spectrum. Points at which pPCA is only a bound on Gaussian data are hollow and the
curve is dashed there ("linear bound"). Several seeds are drawn as their mean with a bar from least to greatest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phasevae.analysis.sweep_table import level_1, of_condition, spectrum_of_sweep
from phasevae.errors import InputError, no_such_choice
from phasevae.figures import analysis, before_training, bracketing, conditions, hierarchy, residual, sweep
from phasevae.figures.marks import STYLE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from phasevae.analysis.bracketing import BracketingSummary
    from phasevae.analysis.pipeline import Analysis
    from phasevae.spectrum.spectrum import Spectrum


@dataclass(frozen=True)
class FigureSpec:
    """A drawing function and the inputs of `render_figure` that it takes."""

    draw: Callable[..., Figure]
    needs: tuple[str, ...]


def render_figure(
    name: str,
    sweep: pd.DataFrame | None = None,
    dimensions: pd.DataFrame | None = None,
    fit: Analysis | None = None,
    spectrum: Spectrum | None = None,
    hysteresis: pd.DataFrame | None = None,
    bracketing: pd.DataFrame | None = None,
    bracketing_summary: BracketingSummary | None = None,
) -> Figure:
    """Draw a figure from the inputs that it needs; other inputs are ignored.

    Parameters
    ----------
    name
        Name of the figure in FIGURES.
    sweep, dimensions, hysteresis, bracketing
        Tables of these names.
    fit
        Content of fit.json.
    spectrum
        Content of spectrum.json.
    bracketing_summary
        Content of bracketing.json.

    Raises
    ------
    InputError
        Naming an unknown figure, a missing input or a missing column.
    """
    import matplotlib

    if name not in FIGURES:
        raise no_such_choice("figure", name, FIGURES)
    given = {
        "sweep": sweep,
        "dimensions": dimensions,
        "fit": fit,
        "spectrum": spectrum,
        "hysteresis": hysteresis,
        "bracketing": bracketing,
        "bracketing_summary": bracketing_summary,
    }
    needs = FIGURES[name].needs
    for key in needs:
        if given[key] is None:
            raise InputError(f"figure '{name}': input '{key}' is missing (needs {', '.join(needs)})")
        for column in COLUMNS.get(key, ()):
            if column not in given[key]:
                raise InputError(f"figure '{name}': {key} has no '{column}'")
    for table in (sweep, dimensions, hysteresis, bracketing):
        if table is not None:
            given["spectrum"] = spectrum_of_sweep(given["spectrum"], table)
    if name != "hierarchy":
        given |= {key: level_1(given[key]) for key in ("sweep", "dimensions") if given[key] is not None}
    if "dimensions" in needs and name not in OF_CONDITIONS:
        given["dimensions"] = of_condition(given["dimensions"])
    with matplotlib.rc_context(STYLE):
        figure = FIGURES[name].draw(**{key: given[key] for key in needs})
        # Ticks take the style when they are first laid out.
        figure.draw_without_rendering()
    return figure


FIGURES: dict[str, FigureSpec] = {
    "landscape": FigureSpec(before_training.landscape, ()),
    "elbo": FigureSpec(sweep.elbo, ("sweep", "dimensions", "spectrum")),
    "latent_variance": FigureSpec(sweep.latent_variance, ("dimensions", "spectrum")),
    "kl": FigureSpec(sweep.kl, ("sweep", "dimensions", "fit", "spectrum")),
    "kl_derivatives": FigureSpec(sweep.kl_derivatives, ("sweep", "dimensions", "fit", "spectrum")),
    "spectrum": FigureSpec(before_training.spectrum, ("spectrum",)),
    "residual": FigureSpec(residual.residual, ("sweep", "dimensions", "fit", "spectrum")),
    "exponents": FigureSpec(analysis.exponents, ("sweep", "fit")),
    "slowing": FigureSpec(analysis.slowing, ("fit",)),
    "cascade": FigureSpec(analysis.cascade, ("dimensions", "fit", "spectrum")),
    "soft_modes": FigureSpec(analysis.soft_modes, ("spectrum",)),
    "beta_equivalence": FigureSpec(analysis.beta_equivalence, ("sweep", "dimensions", "spectrum")),
    "hysteresis": FigureSpec(analysis.hysteresis, ("hysteresis", "spectrum")),
    "bracketing": FigureSpec(bracketing.bracketing, ("bracketing", "bracketing_summary", "spectrum")),
    "hierarchy": FigureSpec(hierarchy.hierarchy, ("sweep", "spectrum")),
    "conditions": FigureSpec(conditions.conditions, ("dimensions", "spectrum")),
}

OF_CONDITIONS = ("conditions",)
"""Figures that show the classes of a condition; the others take the rows of all classes together."""

COLUMNS = {
    "sweep": ("sigma2", "beta", "seed", "elbo", "elbo_gap", "kl", "log_likelihood"),
    "dimensions": ("sigma2", "beta", "seed", "latent", "kl", "latent_variance"),
    "hysteresis": ("branch", "sigma2", "beta", "seed", "kl", "elbo_gap", "elbo_gap_standard_error"),
    "bracketing": ("sigma2", "beta", "kl_first", "kl_second", "kl_difference", "kl_standard_error", "disagree"),
}
"""Columns that each table must have."""
