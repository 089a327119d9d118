"""The verdict of a sweep in one sentence that a person can act on."""

from __future__ import annotations

from phasevae.analysis.kl_fit.critical_point import CriticalPoint, Predicted
from phasevae.sweeps.settings import GAUSSIAN


def verdict(point: CriticalPoint) -> str:
    """Say in a sentence or two where the latents collapse, and whether this was predicted."""
    critical = point.critical_variance
    if critical is None:
        return f"This sweep does not show where the latents collapse: {point.reason}."
    low, high = (None if edge is None else f"{edge:.4g}" for edge in point.ci95)
    interval = f"{low} to {high}" if low and high else f"above {low}" if low else f"below {high}" if high else "open"
    advice = "KL weight" if point.likelihood != GAUSSIAN else "decoder variance or KL weight"
    measured = (
        f"Every latent is collapsed from {point.abscissa} = {critical:.4g} on (95 % interval {interval}). "
        f"Choose a smaller {advice} to keep latents active."
    )
    return f"{measured} {_compared(point)}".rstrip()


def _compared(point: CriticalPoint) -> str:
    predicted = point.predicted.critical_variance
    if predicted is None:
        return ""
    if point.predicted.is_upper_bound:
        return _bounds(point.predicted)
    low, high = point.ci95
    known = low is not None or high is not None
    agrees = known and (low is None or low <= predicted) and (high is None or predicted <= high)
    relation = "within the interval" if agrees else f"{100 * (point.critical_variance / predicted - 1):+.2g} % off"
    of = "scores" if point.likelihood != GAUSSIAN else "data"
    return f"The spectrum of the {of} predicts {predicted:.4g}: {relation}."


def _bounds(predicted: Predicted) -> str:
    """What the spectrum says of an encoder that does not see the condition."""
    upper = f"{predicted.critical_variance:.4g}"
    if predicted.unaware_variance is None:
        return f"The encoder does not see the condition: the spectrum of the data gives the upper bound {upper}."
    return (
        "The encoder does not see the condition: the spectrum of the data predicts "
        f"{predicted.unaware_variance:.4g} for a linear encoder, which others can exceed, up to {upper}."
    )
