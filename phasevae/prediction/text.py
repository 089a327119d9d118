"""A prediction as text: what was read, the headline, the numbers, where each latent dies, warnings and advice."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np

from phasevae.prediction.few_rows import few_rows_of_kl
from phasevae.prediction.losses import OWN, PER_FEATURE, SCORES
from phasevae.prediction.rough_kl import kl_is_rough
from phasevae.theory.ppca import is_active
from phasevae.wording import counted, nats, plain, rounded, with_error

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from phasevae.prediction.explained import Explained
    from phasevae.prediction.optimum import Setting, Threshold

MOST_ROWS = 20
"""Thresholds shown as text; the page and JSON have all."""

WIDTH = 120
"""Characters in a line of `str(prediction)`."""

HEADS = ("latent", "dies at variance", "dies at KL weight", "KL weights that keep this many", "KL (nats)")
"""Columns of the table of thresholds."""


def summary(prediction: Explained) -> list[tuple[str, str]]:
    """Return names and values of the headline numbers."""
    setting = prediction.setting
    n, k = setting.n_latent, prediction.active_dims
    error = float(prediction.relative_errors[0])
    partial = f"{k} of {counted(n, 'latent')} active"
    verdicts = {
        "collapsed": "collapsed",
        "partial": partial,
        "active": "the latent is active" if n == 1 else f"all {n} latents active",
    }
    fewest, most = prediction.active_range
    undecided = f"not decided: {fewest} to {most} of {counted(n, 'latent')} active"
    return [
        ("data", _data(setting)),
        ("loss", f"{setting.loss.formula}, w = {setting.kl_weight:g}"),
        ("effective variance", plain(prediction.effective_variance)),
        ("critical variance", with_error(prediction.critical_variance, error * prediction.critical_variance)),
        ("critical KL weight", _critical(prediction)),
        ("verdict", undecided if fewest < most else verdicts[prediction.verdict]),
        ("KL", _kl(prediction)),
        *_squared_error(prediction),
        *_log(prediction),
    ]


def threshold_rows(prediction: Explained) -> list[tuple[str, ...]]:
    """Return the rows of the table of thresholds, as text."""
    few = few_rows_of_kl(prediction)
    unknown = None if few is None else few.component
    is_rough, errors = kl_is_rough(prediction), prediction.relative_errors
    return [
        (
            str(threshold.latents),
            _rounded(threshold.variance, error),
            _rounded(threshold.kl_weight, error),
            _range(threshold, error, following),
            "not known" if threshold.latents == unknown else plain(kl, 2) if is_rough else rounded(kl, 0.5 * error),
        )
        for threshold, kl, error, following in zip(
            prediction.thresholds, prediction.kl_per_dim[: len(errors)], errors, [*errors[1:], math.nan], strict=True
        )
    ]


def show(prediction: Explained, console: Console) -> None:
    """Print a prediction, the headline first.

    Parameters
    ----------
    prediction : Explained
    console : rich.console.Console
    """
    from rich.table import Table
    from rich.text import Text

    def line(text: str, style: str = "") -> None:
        console.print(Text(text, style), soft_wrap=True)

    if prediction.reading is not None:
        line(str(prediction.reading))
    line(prediction.headline, "bold")
    console.print()
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in summary(prediction):
        table.add_row(name, Text(value))
    console.print(table)
    console.print()
    console.print(_threshold_table(prediction))
    console.print()
    for warning in prediction.warnings:
        console.print(Text.assemble(("warning", "yellow"), f" [{warning.code}] {warning.message}"), soft_wrap=True)
    if prediction.warnings:
        console.print()
    for sentence in prediction.advice:
        line(sentence)


def target_line(prediction: Explained) -> str:
    """Return the sentence on the KL weight of a prediction and the KL that it gives, which was asked for."""
    weight, kl = prediction.setting.kl_weight, prediction.kl
    name = "factor of the KL term" if prediction.setting.loss.name == OWN else "KL weight"
    if kl_is_rough(prediction):
        return f"A KL of {nats(plain(kl))} takes a {name} of about {plain(weight, 2)} (rough)."
    # Each active latent adds (1/2) ln of its eigenvalue to KL and takes (1/2) ln of the weight off it.
    error = weight * _kl_error(prediction) / (0.5 * max(prediction.active_dims, 1))
    return f"A KL of {nats(plain(kl))} takes the {name} {rounded(weight, error)}."


def as_text(prediction: Explained) -> str:
    """Return what `phasevae predict` prints, without colours."""
    from rich.console import Console

    stream = io.StringIO()
    show(prediction, Console(file=stream, width=WIDTH, color_system=None, force_terminal=False))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _rounded(value: float, relative_error: float) -> str:
    return rounded(value, relative_error * value) if math.isfinite(value) else "never"


def _critical(prediction: Explained) -> str:
    critical, low_and_high = prediction.critical_kl_weight, prediction.critical_kl_weight_range
    if not math.isfinite(critical):
        return "never"
    text = with_error(critical, float(prediction.relative_errors[0]) * critical)
    if low_and_high is None:
        return text
    return f"{text}, from {low_and_high[0]:.3g} to {low_and_high[1]:.3g} with its kinks"


def _data(setting: Setting) -> str:
    features, outputs = setting.n_features or setting.spectrum.dimension, setting.spectrum.dimension
    more = "" if outputs == features else f", {counted(outputs, 'output')}"
    return f"{counted(setting.spectrum.n_samples, 'sample')} of {counted(features, 'feature')}{more}"


def _kl(prediction: Explained) -> str:
    kl = prediction.kl
    if (few := few_rows_of_kl(prediction)) is not None:
        return f"not known: latent {few.component} carries {few} alone"
    if kl_is_rough(prediction):
        return f"about {nats(plain(kl, 2))}, {plain(kl / math.log(2), 2)} bits (rough)"
    error = _kl_error(prediction)
    return f"{nats(rounded(kl, error))}, {rounded(kl / math.log(2), error / math.log(2))} bits"


def _kl_error(prediction: Explained) -> float:
    """The standard error of KL, which is (1/2) ln lambda and a constant for each active latent."""
    alive = prediction.kl_per_dim[: len(prediction.relative_errors)] > 0
    return 0.5 * float(np.linalg.norm(prediction.relative_errors[alive]))


def _squared_error(prediction: Explained) -> list[tuple[str, str]]:
    """The squared error, for losses that have one."""
    if prediction.setting.loss.decoder == SCORES:
        return []
    return [("squared error", f"{plain(prediction.mse)} of {plain(_collapsed_error(prediction))} when collapsed")]


def _log(prediction: Explained) -> list[tuple[str, str]]:
    """What a training prints, at the optimum, if its KL is known, and when collapsed."""
    if prediction.verdict == "collapsed":
        lines = [("your log will show", prediction.log)]
    elif few_rows_of_kl(prediction) is None:
        lines = [("your log will show", prediction.log), ("and when collapsed", prediction.collapsed_log)]
    else:
        lines = [("your log when collapsed", prediction.collapsed_log)]
    return [
        (name, f"reconstruction {log.reconstruction:.4g}, KL term {log.kl_term:.4g}, total {log.total:.4g}")
        for name, log in lines
        if log.reconstruction is not None
    ]


def _collapsed_error(prediction: Explained) -> float:
    setting = prediction.setting
    return float(setting.variances.sum()) if setting.loss.decoder == PER_FEATURE else setting.spectrum.trace


def _range(threshold: Threshold, error: float, following: float) -> str:
    """The KL weights that keep exactly this many latents: none if the next latent dies at the same weight."""
    low, high = threshold.keeps
    if not is_active(high, low):
        return "none"
    if math.isinf(high):
        return f"{_rounded(low, following)} or more" if low > 0 else "all"
    return f"{_rounded(low, following)} to {_rounded(high, error)}" if low > 0 else f"below {_rounded(high, error)}"


def _threshold_table(prediction: Explained) -> Table:
    from rich.table import Table

    table = Table(*HEADS, box=None, pad_edge=False, header_style="bold")
    rows = threshold_rows(prediction)
    for row in rows[:MOST_ROWS]:
        table.add_row(*row)
    if len(rows) > MOST_ROWS:
        table.add_row(f"... {len(rows) - MOST_ROWS} more")
    return table
