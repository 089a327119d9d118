"""Figures of the paper, of the analysis and of two passes: measurement as points, theory as lines.

The abscissa is the decoder variance, or beta * sigma2 in a beta sweep; energies are in nats per sample. Theory
is drawn from the sample spectrum. Points at which pPCA is only a bound on Gaussian data are hollow and the
curve dashed there ("linear bound"). Several seeds are drawn as their mean with a bar from least to greatest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phasevae.errors import InputError
from phasevae.figures import analysis, before_training, bracketing, sweep
from phasevae.figures.marks import STYLE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class FigureSpec:
    """A drawing function, the inputs it takes (of those of `render`) and the paper's figure, if it is one. A figure
    that needs more than every sweep has is drawn `on_request`."""

    draw: Callable[..., Figure]
    needs: tuple[str, ...]
    paper: str | None = None
    on_request: bool = False


def render_figure(
    name: str,
    sweep: pd.DataFrame | None = None,
    dimensions: pd.DataFrame | None = None,
    fit: Mapping[str, Any] | None = None,
    spectrum: Mapping[str, Any] | None = None,
    hysteresis: pd.DataFrame | None = None,
    bracketing: pd.DataFrame | None = None,
    passes: Mapping[str, Any] | None = None,
) -> Figure:
    """Draw the figure `name` of FIGURES from the inputs it needs; others may be given and are not used.

    Raises InputError for an unknown name, and for a missing input, column or key, by its name.
    """
    import matplotlib

    if name not in FIGURES:
        raise InputError(f"figure '{name}': unknown, must be one of {', '.join(FIGURES)}")
    given = {
        "sweep": sweep,
        "dimensions": dimensions,
        "fit": fit,
        "spectrum": spectrum,
        "hysteresis": hysteresis,
        "bracketing": bracketing,
        "passes": passes,
    }
    needs = FIGURES[name].needs
    for key in needs:
        if given[key] is None:
            raise InputError(f"figure '{name}': input '{key}' is missing (needs {', '.join(needs)})")
        for column in COLUMNS[key]:
            if column not in given[key]:
                raise InputError(f"figure '{name}': {key} has no '{column}'")
    with matplotlib.rc_context(STYLE):
        figure = FIGURES[name].draw(**{key: given[key] for key in needs})
        # Ticks take the style when they are first laid out.
        figure.draw_without_rendering()
    return figure


FIGURES: dict[str, FigureSpec] = {
    "landscape": FigureSpec(before_training.landscape, (), "Fig. 1"),
    "elbo": FigureSpec(sweep.elbo, ("sweep", "dimensions", "spectrum"), "Figs. 2a and 4a"),
    "latent_variance": FigureSpec(sweep.latent_variance, ("dimensions", "spectrum"), "Figs. 2b and 4b"),
    "kl": FigureSpec(sweep.kl, ("sweep", "dimensions", "fit", "spectrum"), "Figs. 2c and 4c"),
    "kl_derivatives": FigureSpec(sweep.kl_derivatives, ("sweep", "dimensions", "fit", "spectrum"), "Figs. 2c and 4c"),
    "spectrum": FigureSpec(before_training.spectrum, ("spectrum",), "Fig. 3"),
    "exponents": FigureSpec(analysis.exponents, ("sweep", "fit")),
    "slowing": FigureSpec(analysis.slowing, ("fit",)),
    "cascade": FigureSpec(analysis.cascade, ("dimensions", "fit", "spectrum")),
    "soft_modes": FigureSpec(analysis.soft_modes, ("spectrum",)),
    "beta_equivalence": FigureSpec(analysis.beta_equivalence, ("sweep", "dimensions", "spectrum"), on_request=True),
    "hysteresis": FigureSpec(analysis.hysteresis, ("hysteresis", "spectrum"), on_request=True),
    "bracketing": FigureSpec(bracketing.bracketing, ("bracketing", "passes", "spectrum"), on_request=True),
}

COLUMNS = {
    "sweep": ("sigma2", "beta", "seed", "elbo", "kl", "log_likelihood"),
    "dimensions": ("sigma2", "beta", "seed", "latent", "kl", "latent_variance"),
    "fit": ("critical_variance", "ci95", "model", "models"),
    "spectrum": ("eigenvalues", "standard_errors", "trace"),
    "hysteresis": ("branch", "sigma2", "beta", "seed", "kl", "elbo_gap", "elbo_gap_standard_error"),
    "bracketing": ("sigma2", "beta", "kl_first", "kl_second", "kl_difference", "kl_standard_error", "disagree"),
    "passes": ("first", "second", "n_latent"),
}
