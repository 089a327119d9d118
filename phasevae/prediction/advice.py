"""What a prediction means for its loss, and what to change: a headline, then the details in sentences."""

from __future__ import annotations

import math
from dataclasses import replace

from phasevae.prediction.few_rows import few_rows
from phasevae.prediction.kl_term import USUAL_KL
from phasevae.prediction.losses import BERNOULLI, FIXED, FIXED_VARIANCE, LEARNED, OWN, PER_FEATURE, SCORES
from phasevae.prediction.optimum import Optimum, Threshold, kl_and_error
from phasevae.prediction.rough_kl import kl_is_rough
from phasevae.spectrum.sampling_bias import bias_decides
from phasevae.theory.learned_variance import learned_threshold, learned_variance
from phasevae.theory.limited_encoder import FREE
from phasevae.theory.ppca import THRESHOLD_TOLERANCE, ppca_active_dims
from phasevae.wording import counted, nats, plain

REACHES = 1.05
"""A KL weight less than this many times the critical one only reaches it."""


def headline(optimum: Optimum) -> str:
    """Return the verdict, and what to change if not every latent carries information."""
    if not math.isfinite(optimum.kl):
        return _without_limit(optimum)
    fewest, most = optimum.active_range
    verdict = _information if fewest else _undecided if most else _collapse
    return f"{verdict(optimum)} {_change(optimum)}".rstrip()


def advice(optimum: Optimum) -> list[str]:
    """Return sentences on what the numbers mean for this loss and what else to change, without the headline."""
    lines = [
        _loss_line(optimum),
        *_remedies(optimum),
        *_encoder_lines(optimum),
        _learned_line(optimum),
    ]
    return [line for line in lines if line]


def _undecided(optimum: Optimum) -> str:
    low, high = (plain(weight, 3) for weight in optimum.critical_kl_weight_range)
    return (
        f"Your VAE may collapse: its {_knob_name(optimum)} is between {low} and {high}, where the criterion does not "
        "decide."
    )


def _collapse(optimum: Optimum) -> str:
    ratio, (low, high) = optimum.setting.kl_weight / optimum.critical_kl_weight, optimum.undecided
    # The critical value keeps no latent, the limit in the next sentence all of them: both are named, as they differ.
    critical = plain(_knob(optimum, optimum.thresholds[0]), 3)
    if low == high and ratio < REACHES:
        return f"Your VAE will collapse: its {_knob_name(optimum)} reaches the critical value {critical}."
    times = f"{ratio:.1f}" if ratio < 9.95 else plain(ratio, 3)
    if low < high:
        times = f"{plain(ratio / high, 2)} to {plain(ratio / low, 2)}"
    last = ", at which the last latent dies" if _most_latents(optimum) > 1 else ""
    if _is_own(optimum):
        return f"Your VAE will collapse: its KL term is {times} times the critical one{last}."
    knob, exact = f"{_knob_name(optimum)} {_value(optimum):g}", critical if low == high else "one"
    return f"Your VAE will collapse: its {knob} is {times} times the critical {exact}{last}."


def _information(optimum: Optimum) -> str:
    n, (k, most) = optimum.setting.n_latent, optimum.active_range
    latents = _all(n).capitalize() if k == n else f"{'At least ' * (k < most)}{k} of {n} latents"
    kl = f"about {nats(plain(optimum.kl, 2))}" if kl_is_rough(optimum) else nats(plain(optimum.kl, 3))
    if (few := few_rows(optimum)) is not None:
        kl = f"KL not known, as latent {few.component} carries {few} alone"
    ratio = optimum.setting.kl_weight / optimum.critical_kl_weight
    these = " for these very samples" * bias_decides(optimum.setting.spectrum, ratio)
    return f"{latents} will carry information ({kl}){these}{_directions(optimum, k)}."


def _change(optimum: Optimum) -> str:
    """The KL weight, or decoder variance, that keeps as many latents as possible."""
    goal, n, (fewest, _) = _most_latents(optimum), optimum.setting.n_latent, optimum.active_range
    if fewest >= goal:
        return ""
    kept = _all(n) if goal == n else _count(goal)
    if fewest > 0 and goal > 1:
        kept = kept.removesuffix(" latents")
    low, high = optimum.undecided
    limit = f"{'about ' * (low < high)}{_below(low * _knob(optimum, optimum.thresholds[goal - 1]))}"
    action = (
        f"Multiply the KL term by less than {limit}"
        if _is_own(optimum)
        else f"Use a {_knob_name(optimum)} below {limit}"
    )
    return f"{action} to keep {kept}{_directions(optimum, goal)}."


def _without_limit(optimum: Optimum) -> str:
    """The headline where the likelihood has no bound."""
    if optimum.setting.loss.decoder == PER_FEATURE:
        return (
            "The learned variance of at least one feature will shrink to zero and KL will grow without limit. "
            "Give the variances a lower limit."
        )
    fewer = _most_latents(optimum)
    return (
        "The learned variance will shrink to zero and KL will grow without limit. "
        f"Give the variance a lower limit{f', or use at most {_count(fewer)}' if fewer else ''}."
    )


def _most_latents(optimum: Optimum) -> int:
    """How many latents some KL weight keeps with a bounded likelihood."""
    setting, kept = optimum.setting, len(optimum.thresholds)
    if setting.loss.decoder != LEARNED:
        return kept
    just_below = optimum.thresholds[-1].kl_weight * (1 - 1e-6)
    return kept - (kl_and_error(replace(setting, kl_weight=just_below))[0] == 0)


def _directions(optimum: Optimum, latents: int) -> str:
    """The reason why no more than these latents can be kept, if it is the data."""
    kept = len(optimum.thresholds)
    if latents != kept or optimum.setting.n_latent == kept or optimum.setting.loss.decoder == PER_FEATURE:
        return ""
    return f": the data vary in only {counted(kept, 'direction')}"


def _has_fixed_variance(optimum: Optimum) -> bool:
    return optimum.setting.loss.name == FIXED_VARIANCE


def _is_own(optimum: Optimum) -> bool:
    return optimum.setting.loss.name == OWN


def _weight_name(optimum: Optimum) -> str:
    return "factor of the KL term" if _is_own(optimum) else "KL weight"


def _knob_name(optimum: Optimum) -> str:
    return "decoder variance" if _has_fixed_variance(optimum) else _weight_name(optimum)


def _knob(optimum: Optimum, threshold: Threshold) -> float:
    """The value of the knob at a threshold."""
    return threshold.variance / optimum.setting.kl_weight if _has_fixed_variance(optimum) else threshold.kl_weight


def _value(optimum: Optimum) -> float:
    """The value of the knob in the user's loss."""
    setting = optimum.setting
    return 0.5 / setting.loss.scale if _has_fixed_variance(optimum) else setting.kl_weight


def _all(n: int) -> str:
    return {1: "the latent", 2: "both latents"}.get(n, f"all {n} latents")


def _count(n: int) -> str:
    return counted(n, "latent")


def _below(limit: float) -> str:
    """Three significant digits, rounded down: every value below the result is below the limit."""
    scale = 10.0 ** (2 - math.floor(math.log10(limit)))
    return f"{math.floor(limit * scale * (1 + THRESHOLD_TOLERANCE)) / scale:g}"


def _loss_line(optimum: Optimum) -> str:
    """The effective variance of the loss, and how it comes about."""
    setting = optimum.setting
    loss, d, n, w = setting.loss, setting.spectrum.dimension, setting.n_latent, setting.kl_weight
    if optimum.effective_variance == 0:
        return ""
    value = f"{optimum.effective_variance:.4g}"
    ratio = f"{optimum.effective_variance / optimum.critical_variance:.3g} times the critical one"
    if setting.kl_term.free_bits > 0 or setting.kl_term.least_kl > 0:
        ratio += " of a KL term without free nats"
    averages = f" averages over {counted(d, 'feature')} and" if loss.mean_over_features else ""
    over = f"over {counted(d, 'feature')}" + (f" and KL over {counted(n, 'latent')}" if loss.mean_over_latents else "")
    settled = f"The learned variance settles at {optimum.effective_variance / setting.weights[1]:.4g}."
    whose = "your KL term" if _is_own(optimum) else "KL"
    lines = {
        FIXED: f"Your loss averages {over}: the KL weight {w:g} is an effective variance of {value}, {ratio}."
        if loss.mean_over_features
        else f"The effective variance is {value}, {ratio}.",
        BERNOULLI: f"Your loss{averages} has the effective variance {value} relative to the Bernoulli variance "
        f"p (1 - p), {ratio}. KL and error are exact to second order about the collapsed state.",
        SCORES: f"In the loss of one sample {whose} has the weight {value}, {ratio}. The weight at which the strongest "
        f"latent dies is "
        f"{'an estimate, as the loss has kinks' if setting.kinked else 'exact'}; the other thresholds, KL and "
        f"reconstruction are to leading order.",
        LEARNED: f"{settled} Times the KL weight this is an effective variance of {value}, {ratio}.",
        PER_FEATURE: f"Each feature learns its variance. Relative to it the effective variance is the KL weight "
        f"{value}, {ratio}.",
    }
    return lines[loss.decoder]


def _remedies(optimum: Optimum) -> list[str]:
    thresholds, setting = optimum.thresholds, optimum.setting
    n, k, kept, goal = setting.n_latent, optimum.active_dims, len(thresholds), _most_latents(optimum)
    strongest, weakest = (_dies_at(optimum, threshold) for threshold in (thresholds[0], thresholds[-1]))
    collapsed, bounded = optimum.verdict == "collapsed", math.isfinite(optimum.kl)
    lines = []
    if collapsed:
        what = "the same for every sample" if setting.loss.decoder == SCORES else "the mean of the data"
        lines.append(f"When every latent collapses, the decoder gives {what} whatever the latents are.")
    weight = _weight_name(optimum)
    if collapsed and goal > 1:
        low, high = optimum.undecided
        below = f"about {low * thresholds[0].kl_weight:.3g}" if low < high else strongest
        yours = "your loss as it is has the factor" if _is_own(optimum) and setting.kl_weight == 1 else "yours is"
        lines.append(f"A {weight} below {below} keeps one latent; {yours} {setting.kl_weight:g}.")
    if bounded and goal < kept:
        lines.append(
            f"The data vary in only {counted(kept, 'direction')}, and there are {counted(n, 'latent')}: with a KL "
            f"weight of {weakest} or less the learned variance would shrink to zero."
        )
    if optimum.verdict == "partial" and k < kept:
        lines.append(f"With this loss {_count(k)} would do as well as {n}.")
    if optimum.verdict == "active" and bounded and math.isfinite(thresholds[0].kl_weight):
        lines.append(
            f"The weakest latent dies at a {weight} of {weakest}, the strongest at {strongest}."
            if n > 1
            else f"The latent dies at a {weight} of {strongest}."
        )
    if collapsed and setting.loss.mean_over_features:
        lines.append(_summed_line(optimum))
    if collapsed:
        lines.append("Annealing does not help by itself: the KL weight at its end decides.")
    return lines


def _dies_at(optimum: Optimum, threshold: Threshold) -> str:
    """The KL weight of a threshold, or the range within which the criterion does not decide."""
    low, high = optimum.undecided
    weight = threshold.kl_weight
    return f"{weight:.4g}" if low == high else f"{low * weight:.3g} to {high * weight:.3g}"


def _summed_line(optimum: Optimum) -> str:
    """What sums instead of averages would do at the same weight, if that keeps a latent."""
    setting = optimum.setting
    summed = replace(setting.loss, mean_over_features=False, mean_over_latents=False)
    effective, per_dim, _ = kl_and_error(replace(setting, loss=summed))
    if not (kept := int((per_dim > 0).sum())):
        return ""
    both = ", and KL over latents," if setting.loss.mean_over_latents else ""
    return (
        f"Or sum the reconstruction loss over features{both} instead of averaging: the KL weight {setting.kl_weight:g} "
        f"is then an effective variance of {effective:.4g} and keeps {kept} of {counted(setting.n_latent, 'latent')}."
    )


def _encoder_lines(optimum: Optimum) -> list[str]:
    """What the limits of the encoder do to the thresholds."""
    limits, lines = optimum.setting.limits, []
    factor = limits.threshold_factor
    if abs(factor - 1) < 1e-9:
        return []
    seen = limits.noise_scale * math.sqrt(limits.collapsed_variance)
    lines.append(
        f"The decoder sees a collapsed latent with noise of standard deviation {plain(seen, 3)} instead of 1: every "
        f"threshold is {plain(factor, 3)} times that of a free encoder."
    )
    if factor > 1 and optimum.active_dims and optimum.setting.loss.decoder != SCORES:
        lines.append(
            f"With so little noise a small KL is no sign of collapse: at {plain(optimum.kl, 3)} nats the squared error "
            f"is {plain(optimum.mse / optimum.setting.spectrum.trace, 3)} times that of the collapsed state."
        )
    if factor < 1:
        lines.append(
            "Less noise keeps more latents: a lower bound of the log variance below 0, or a smaller fixed one."
        )
    return lines


def _learned_line(optimum: Optimum) -> str:
    """What a learned decoder variance would do with the same data."""
    setting = optimum.setting
    if setting.loss.decoder != FIXED or setting.limits != FREE or setting.kl_term != USUAL_KL:
        return ""
    spectrum, n = setting.spectrum, setting.n_latent
    critical = learned_threshold(spectrum.eigenvalues, 1, n, spectrum.trace, spectrum.dimension)
    s = learned_variance(spectrum.eigenvalues, n, 1.0, spectrum.trace, spectrum.dimension)
    if s == 0:
        return "A learned decoder variance would shrink to zero with this many latents: its likelihood has no bound."
    k = int(ppca_active_dims(spectrum.eigenvalues, s, n))
    return (
        f"A learned decoder variance (KL weight 1) would settle at {s:.4g} with {k} of {counted(n, 'latent')} active, "
        f"as the {_weight_name(optimum)} {setting.loss.kl_weight_of(s, spectrum.dimension, n):.4g} does in your loss. "
        f"It would collapse from a KL weight of {critical:.4g} on."
    )
