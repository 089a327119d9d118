"""The verdict of a sweep in one sentence that a person can act on."""

from __future__ import annotations

from phasevae.analysis.kl_fit.critical_point import CriticalPoint
from phasevae.analysis.sweep_table import BETA


def verdict(point: CriticalPoint) -> str:
    """Say in a sentence or two where the latents collapse, and whether this was predicted."""
    critical = point.critical_variance
    if critical is None:
        return f"This sweep does not show where the latents collapse: {point.reason}."
    low, high = (None if edge is None else f"{edge:.4g}" for edge in point.ci95)
    interval = f"{low} to {high}" if low and high else f"above {low}" if low else f"below {high}" if high else "open"
    advice = "KL weight" if point.abscissa == BETA else "decoder variance or KL weight"
    measured = (
        f"Every latent is collapsed from {point.abscissa} = {critical:.4g} on (95 % interval {interval}). "
        f"Choose a smaller {advice} to keep latents active."
    )
    return f"{measured} {_compared(point)}".rstrip()


def _compared(point: CriticalPoint) -> str:
    predicted = point.predicted.critical_variance
    if predicted is None:
        return ""
    low, high = point.ci95
    known = low is not None or high is not None
    agrees = known and (low is None or low <= predicted) and (high is None or predicted <= high)
    relation = "within the interval" if agrees else f"{100 * (point.critical_variance / predicted - 1):+.2g} % off"
    of = "scores" if point.abscissa == BETA else "data"
    return f"The spectrum of the {of} predicts {predicted:.4g}: {relation}."
