"""Where the predicted KL is of leading order only, and how far off it may be."""

from __future__ import annotations

import math

from phasevae.prediction.few_rows import few_rows
from phasevae.prediction.losses import BERNOULLI, LEARNED, SCORES
from phasevae.prediction.optimum import Optimum
from phasevae.spectrum.spectrum import looks_gaussian

NEAR = 0.95
"""From this part of the critical weight on, KL is below 0.03 nats for each latent."""

KL_ERROR, SMALL_KL_ERROR = (0.5, 2.0), (0.5, 4.0)
"""KL of trained networks relative to a rough prediction, of at least 1 nat and of less (docs/guide/gallery.md)."""


def kl_is_rough(optimum: Optimum) -> bool:
    """Whether the predicted KL is of leading order only.

    It is exact for a squared error of Gaussian data. At `NEAR` times the critical weight and above, KL is too small for
    its error to matter.
    """
    setting = optimum.setting
    near = optimum.effective_variance >= NEAR * optimum.critical_variance
    if optimum.verdict == "collapsed" or near or not math.isfinite(optimum.kl):
        return False
    return setting.loss.decoder in (BERNOULLI, SCORES) or not looks_gaussian(setting.spectrum)


def rough_kl(optimum: Optimum) -> str | None:
    """Return the warning that KL is rough, where it is, and no few samples carry it: their KL is not known at all."""
    if not kl_is_rough(optimum) or few_rows(optimum) is not None:
        return None
    decoder = optimum.setting.loss.decoder
    reason = {BERNOULLI: "the loss is a cross entropy", SCORES: "the loss is no squared error"}.get(
        decoder, "the data are not Gaussian"
    )
    low, high = KL_ERROR if optimum.kl >= 1 else SMALL_KL_ERROR
    learned = " (more where the decoder learns its variance)" if decoder == LEARNED else ""
    size = "1 nat or more" if optimum.kl >= 1 else "less than 1 nat"
    return (
        f"KL is exact for a squared error and Gaussian data, and of leading order here, because {reason}: where {size} "
        f"was predicted, trained networks had {low:g} to {high:g} times as much{learned}; the critical KL weight does "
        f"not depend on this"
    )
