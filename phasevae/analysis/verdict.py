"""The result of a sweep as text: the verdict, which a person can act on, the numbers and the warnings."""

from __future__ import annotations

import math

from phasevae.analysis.grid_advice import open_interval
from phasevae.analysis.hierarchy import Phases
from phasevae.analysis.kl_fit.critical_point import CriticalPoint, Predicted
from phasevae.analysis.kl_fit.forms import FORM_LABELS
from phasevae.analysis.optimality import convergence_warning
from phasevae.analysis.results import Results
from phasevae.analysis.sweep_table import BETA, BETA_SIGMA2, SweptQuantity
from phasevae.sweeps.settings import GAUSSIAN
from phasevae.wording import counted, rounded

_ACTIVE = {
    (True, True): ("both levels", "are"),
    (True, False): ("level 1 alone", "is"),
    (False, True): ("the top level alone", "is"),
    (False, False): ("neither level", "is"),
}
"""Who is active in each phase of a hierarchy."""

_COLUMNS = {"sigma2": "variance", BETA_SIGMA2: "variance", BETA: "KL weight"}
"""What the line of numbers calls the columns of a sweep, and their product."""


def verdict(point: CriticalPoint) -> str:
    """Say in a few sentences where the latents collapse, and whether this was predicted.

    The first sentence says if the result rests on points that have not converged. Of others `warnings` speaks alone.
    """
    return f"{_unconverged(point)} {_result(point)}".lstrip()


def as_text(results: Results) -> str:
    """Return the verdict, the line of numbers if the points determine a critical variance, and the warnings."""
    sentence = verdict(results)
    fitted = [numbers_line(results)] if results.determined is not None else []
    # The verdict has those that the result rests on points that have not converged, or that the points do not
    # determine the transition.
    said = sentence.casefold()
    warnings = [f"warning: {line}" for line in results.warnings if _sentence(line).casefold() not in said]
    return "\n".join([sentence, *fitted, *warnings])


def numbers_line(results: Results) -> str:
    """Return the critical variance with its interval, the form that gave it and the order, or why there is none.

    It is in units of what was varied, as in the verdict. Where the result can still change, it says "so far".
    """
    if results.determined is None:
        return f"no critical variance: {results.why_undetermined}"
    swept = results.varied
    value, low, high = _critical(results)
    order = f"order {results.order.value}" if results.order.value else "order not determined"
    fitted = f"{_COLUMNS.get(swept.name, swept.name)} {value} [{low or 'open'}, {high or 'open'}]"
    so_far = "so far: " if _can_change(results) else ""
    return f"{so_far}critical {fitted}, {FORM_LABELS.get(results.model, results.model)}, {order}"


def _can_change(point: CriticalPoint) -> bool:
    # The convergence of a hierarchy may be that of its first level alone.
    return isinstance(point, Results) and point.hierarchy is None and point.convergence.can_change


def _unconverged(point: CriticalPoint) -> str:
    if not _can_change(point):
        return ""
    return _sentence(convergence_warning(point.convergence, point.swept))


def _sentence(line: str) -> str:
    return f"{line[0].upper()}{line[1:]}."


def _result(point: CriticalPoint) -> str:
    if isinstance(point, Results) and point.hierarchy is not None:
        return _of_hierarchy(point, point.hierarchy)
    critical = point.critical_variance
    if critical is None:
        return f"This sweep does not show where the latents collapse: {point.reason}. {_advice(point)}".rstrip()
    if point.is_open:
        return _undetermined(point)
    if _can_change(point):
        return _so_far(point)
    knob = "KL weight" if point.likelihood != GAUSSIAN else "decoder variance or KL weight"
    measured = _collapse(point, "Every latent is", "A latent is")
    return f"{measured} Choose a smaller {knob} to keep latents active. {_compared(point)} {_advice(point)}".rstrip()


def _undetermined(point: CriticalPoint) -> str:
    """What is known of a fit whose interval is open on both sides: its best value is no result."""
    swept = point.varied
    best = f"The best fit has it at {swept.name} = {swept.at(point.critical_variance, 4)}."
    return f"{_sentence(open_interval(point.advice))} {best}"


def _advice(point: CriticalPoint) -> str:
    return "" if point.advice is None else _sentence(point.advice)


def _so_far(point: CriticalPoint) -> str:
    """What is known where the result rests on points that have not converged: a best value that can still change."""
    swept = point.varied
    best = f"So far the best fit has the collapse at {swept.name} = {_critical(point)[0]}."
    predicted = point.predicted.critical_variance
    if predicted is None:
        return best
    if point.predicted.is_upper_bound:
        return f"{best} {_bounds(point.predicted, swept)}"
    return f"{best} The spectrum of the {_source(point)} predicts {swept.at(predicted, 4)}."


def _collapse(point: CriticalPoint, collapsed: str, active: str) -> str:
    """Say from where on the latents are collapsed; of an interval that is open on one side, what the other side says.

    Parameters
    ----------
    point
        A fit that is not open on both sides.
    collapsed, active
        Subject and verb of who is collapsed above the transition, and of who is active below it.
    """
    name, (value, low, high) = point.varied.name, _critical(point)
    best = f"{name} = {value}"
    if high is None:
        return f"{active} active up to {name} = {low} at least (95 % interval above {low}, best fit {best})."
    if low is None:
        return f"{collapsed} collapsed from {name} = {high} on (95 % interval below {high}, best fit {best})."
    return f"{collapsed} collapsed from {best} on (95 % interval {low} to {high})."


def _critical(point: CriticalPoint) -> tuple[str, str | None, str | None]:
    """The critical value of what was varied and the edges of its interval, with the digits that the interval leaves.

    An edge is None where the interval is open.
    """
    unit, fitted = point.varied.unit, point.critical_variance
    error = max((abs(edge - fitted) for edge in point.ci95 if edge is not None), default=math.nan)
    value, low, high = (
        None if number is None else rounded(number / unit, error / unit) for number in (fitted, *point.ci95)
    )
    return value, low, high


def _of_hierarchy(point: Results, found: Phases) -> str:
    """The phases of a hierarchy and, where it was fitted, the transition of level 1."""
    parts = [f"{_ACTIVE[phase.level_1, phase.top][0]} in {phase.n_models}" for phase in found.phases[1:]]
    first = found.phases[0]
    who, verb = _ACTIVE[first.level_1, first.top]
    counts = f"{who} {verb} active in {first.n_models} of {counted(found.n_models, 'model')}"
    sentences = [f"{', '.join([counts[0].upper() + counts[1:], *parts])}."]
    if found.n_compared:
        some = found.n_compared < found.n_models
        which = " with beta_top above beta; the others have no single optimum" if some else ""
        sentences.append(f"Theory gives the same phase for {found.n_predicted} of {found.n_compared}{which}.")
    if point.is_open:
        sentences.append(f"At beta_top = {point.beta_top:g}: {open_interval(point.advice)}.")
    elif point.critical_variance is not None:
        level_1 = f"At beta_top = {point.beta_top:g} level 1 is"
        sentences.append(f"{_collapse(point, level_1, level_1)} {_compared(point)} {_advice(point)}".rstrip())
    if found.boundaries:
        sentences.append("The figure hierarchy shows the boundaries.")
    elif point.critical_variance is None:
        sentences.append(f"No critical variance is fitted: {point.reason}. {_advice(point)}".rstrip())
    return " ".join(sentences)


def _compared(point: CriticalPoint) -> str:
    predicted = point.predicted.critical_variance
    if predicted is None:
        return ""
    if point.predicted.is_upper_bound:
        return _bounds(point.predicted, point.varied)
    low, high = point.ci95
    agrees = (low is None or low <= predicted) and (high is None or predicted <= high)
    relation = "within the interval" if agrees else f"{100 * (point.critical_variance / predicted - 1):+.2g} % off"
    return f"The spectrum of the {_source(point)} predicts {point.varied.at(predicted, 4)}: {relation}."


def _source(point: CriticalPoint) -> str:
    return "scores" if point.likelihood != GAUSSIAN else "data"


def _bounds(predicted: Predicted, swept: SweptQuantity) -> str:
    """What the spectrum says of an encoder that does not see the condition."""
    upper = swept.at(predicted.critical_variance, 4)
    if predicted.unaware_variance is None:
        return f"The encoder does not see the condition: the spectrum of the data gives the upper bound {upper}."
    return (
        "The encoder does not see the condition: the spectrum of the data predicts "
        f"{swept.at(predicted.unaware_variance, 4)} for a linear encoder, which others can exceed, up to {upper}."
    )
