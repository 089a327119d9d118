"""Words and symbols of the axes: the abscissa, the critical point, plain numbers on logarithmic axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasevae.analysis.sweep_table import BETA, over_beta

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axis import Axis

    from phasevae.analysis.bracketing import BracketingSummary
    from phasevae.analysis.kl_fit.critical_point import CriticalPoint

NARROW = 8.0
"""A logarithmic axis whose ends have at least this ratio holds two of 1, 2 and 5 of a decade."""


def single_beta(table: pd.DataFrame) -> bool:
    """Whether every point has beta = 1, so that the abscissa is the decoder variance itself."""
    return bool((table["beta"] == 1).all())


def x_label(table: pd.DataFrame) -> str:
    """Label of the abscissa: the weight of KL, or beta * sigma2 in squared units of the data."""
    if over_beta(table):
        return r"KL weight $\beta$"
    units = "(units of data$^2$)"
    return rf"decoder variance $\sigma^2$ {units}" if single_beta(table) else rf"$\beta\sigma^2$ {units}"


def critical_symbol(result: CriticalPoint | BracketingSummary) -> str:
    """Symbol of the critical point: that of a decoder variance, or of a weight of KL."""
    return r"\beta_c" if result.abscissa == BETA else r"\sigma_c^2"


def abscissa_symbol(result: CriticalPoint) -> str:
    """Symbol of the abscissa."""
    return r"\beta" if result.abscissa == BETA else r"\beta\sigma^2"


def plain_log_ticks(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers, 1, 2 and 5 of each decade: it may hold no power of ten.

    On a short axis, which may hold none of these either, the labels are at round numbers at equal distances.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low, high = axis.get_view_interval()
    is_short = high < NARROW * low
    axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]) if is_short else LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
