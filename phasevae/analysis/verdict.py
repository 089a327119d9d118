"""The verdict of a sweep in one sentence that a person can act on."""

from __future__ import annotations

from phasevae.analysis.kl_fit.critical_point import CriticalPoint


def verdict(point: CriticalPoint) -> str:
    """Say in a sentence or two at which decoder variance the latents collapse, and whether this was predicted."""
    critical = point.critical_variance
    if critical is None:
        return f"This sweep does not show where the latents collapse: {point.reason}."
    low, high = (None if edge is None else f"{edge:.4g}" for edge in point.ci95)
    interval = f"{low} to {high}" if low and high else f"above {low}" if low else f"below {high}" if high else "open"
    measured = (
        f"Every latent is collapsed from beta * sigma2 = {critical:.4g} on (95 % interval {interval}). "
        f"Choose a smaller decoder variance or KL weight to keep latents active."
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
    return f"The spectrum of the data predicts {predicted:.4g}: {relation}."
