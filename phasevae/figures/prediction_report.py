"""A prediction as text in the terminal and as one self-contained page: the headline, the figures, then the numbers."""

from __future__ import annotations

import html
import io
import math
from typing import TYPE_CHECKING

from phasevae import __version__
from phasevae.figures.prediction import draw_prediction
from phasevae.prediction.losses import PER_FEATURE, SCORES
from phasevae.theory.ppca import is_active

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table

    from phasevae.prediction.optimum import Setting, Threshold
    from phasevae.prediction.predict import Prediction


MOST_ROWS = 20
"""Thresholds shown in the terminal; the page and JSON have all."""

HEADS = ("latent", "dies at variance", "dies at KL weight", "KL weights that keep this many", "KL (nats)")
"""Columns of the table of thresholds."""

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h1{font-size:1.5rem;line-height:1.3}h2{font-size:1.15rem;margin-top:2rem}"
    "table{border-collapse:collapse;margin:1rem 0}th,td{text-align:left;padding:.15rem 1rem .15rem 0;"
    "border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}.figures{display:flex;flex-wrap:wrap;gap:1rem}"
    ".figures svg{flex:1 1 24rem;max-width:100%;height:auto}"
)


def summary(prediction: Prediction) -> list[tuple[str, str]]:
    """Return names and values of the headline numbers."""
    setting = prediction.setting
    n, k = setting.n_latent, prediction.active_dims
    verdicts = {"collapsed": "collapsed", "partial": f"{k} of {n} latents active", "active": f"all {n} latents active"}
    spectrum = setting.spectrum
    return [
        ("data", _data(setting)),
        ("loss", f"{setting.loss.formula}, w = {setting.kl_weight:g}"),
        ("effective variance", f"{prediction.effective_variance:.6g}"),
        (
            "critical variance",
            f"{prediction.critical_variance:.6g}{_uncertainty(spectrum.standard_errors[0] * setting.threshold_factor)}",
        ),
        ("critical KL weight", _number(prediction.critical_kl_weight)),
        ("verdict", verdicts[prediction.verdict]),
        ("KL", f"{prediction.kl:.6g} nats, {prediction.kl / math.log(2):.6g} bits"),
        *_error(prediction),
        *_log(prediction),
    ]


def show_prediction(prediction: Prediction, console: Console) -> None:
    """Print a prediction, the headline first.

    Parameters
    ----------
    prediction : Prediction
    console : rich.console.Console
    """
    from rich.table import Table

    if prediction.reading is not None:
        console.print(str(prediction.reading), markup=False, highlight=False, soft_wrap=True)
    console.print(prediction.headline, style="bold", highlight=False, soft_wrap=True)
    console.print()
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in summary(prediction):
        table.add_row(name, value)
    console.print(table)
    console.print()
    console.print(_threshold_table(prediction))
    console.print()
    for warning in prediction.warnings:
        console.print(f"[yellow]warning[/] \\[{warning.code}] {warning.message}", highlight=False, soft_wrap=True)
    if prediction.warnings:
        console.print()
    for line in prediction.advice:
        console.print(line, highlight=False, soft_wrap=True)


def prediction_page(prediction: Prediction) -> str:
    """Return a prediction as one HTML page that contains its figures and refers to nothing outside it."""
    name = prediction.setting.spectrum.name or "data"
    figures = "".join(_svg(figure) for figure in draw_prediction(prediction))
    numbers = "".join(f"<tr><th>{_safe(key)}</th><td>{_safe(value)}</td></tr>" for key, value in summary(prediction))
    heads = "".join(f"<th>{_safe(head)}</th>" for head in HEADS)
    thresholds = "".join(
        "<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in _threshold_rows(prediction)
    )
    warnings = [f"<code>{_safe(warning.code)}</code>: {_safe(warning.message)}" for warning in prediction.warnings]
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>phasevae: {_safe(name)}</title>"
        f"<style>{_STYLE}</style></head><body><h1>{_safe(prediction.headline)}</h1>"
        f"<p>Prediction for {_safe(name)}, without training{_read(prediction)}.</p><div class='figures'>{figures}</div>"
        f"<h2>Numbers</h2><table>{numbers}</table>{_source(prediction)}"
        f"<h2>Where each latent dies</h2><table><tr>{heads}</tr>{thresholds}</table>"
        f"{_list('Warnings', warnings)}{_list('Further advice', [_safe(line) for line in prediction.advice])}"
        f"<p>phasevae {_safe(__version__)}. KL is in nats per sample. Variances are in squared units of the data as "
        f"fed to the network. Where the decoder learns one variance per feature or is Bernoulli, they are relative to "
        f"its variances.</p></body></html>\n"
    )


def _read(prediction: Prediction) -> str:
    return "" if prediction.reading is None else f": {_safe(str(prediction.reading))}"


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else "never"


def _uncertainty(error: float) -> str:
    return f" +- {error:.2g}" if math.isfinite(error) else ""


def _data(setting: Setting) -> str:
    features = setting.n_features or setting.spectrum.dimension
    outputs = "" if setting.spectrum.dimension == features else f", {setting.spectrum.dimension} outputs"
    return f"{setting.spectrum.n_samples} samples of {features} features{outputs}"


def _error(prediction: Prediction) -> list[tuple[str, str]]:
    """The squared error, for losses that have one."""
    if prediction.setting.loss.decoder == SCORES:
        return []
    return [("squared error", f"{prediction.mse:.6g} of {_collapsed_error(prediction):.6g} when collapsed")]


def _log(prediction: Prediction) -> list[tuple[str, str]]:
    """What a training prints, at the optimum and when collapsed."""
    lines = [("your log will show", prediction.log)]
    if prediction.verdict != "collapsed":
        lines.append(("and when collapsed", prediction.collapsed_log))
    return [
        (name, f"reconstruction {log.reconstruction:.4g}, KL term {log.kl_term:.4g}, total {log.total:.4g}")
        for name, log in lines
        if log.reconstruction is not None
    ]


def _collapsed_error(prediction: Prediction) -> float:
    setting = prediction.setting
    return float(setting.variances.sum()) if setting.loss.decoder == PER_FEATURE else setting.spectrum.trace


def _threshold_rows(prediction: Prediction) -> list[tuple[str, ...]]:
    return [
        (
            str(threshold.latents),
            _number(threshold.variance),
            _number(threshold.kl_weight),
            _range(threshold),
            f"{prediction.kl_per_dim[threshold.latents - 1]:.4g}",
        )
        for threshold in prediction.thresholds
    ]


def _range(threshold: Threshold) -> str:
    """The KL weights that keep exactly this many latents: none if the next latent dies at the same weight."""
    low, high = threshold.keeps
    if not is_active(high, low):
        return "none"
    if math.isinf(high):
        return f"{low:.4g} or more" if low > 0 else "all"
    return f"{low:.4g} to {high:.4g}" if low > 0 else f"below {high:.4g}"


def _threshold_table(prediction: Prediction) -> Table:
    from rich.table import Table

    table = Table(*HEADS, box=None, pad_edge=False, header_style="bold")
    rows = _threshold_rows(prediction)
    for row in rows[:MOST_ROWS]:
        table.add_row(*row)
    if len(rows) > MOST_ROWS:
        table.add_row(f"... {len(rows) - MOST_ROWS} more")
    return table


def _source(prediction: Prediction) -> str:
    """The public code that the loss models."""
    loss = prediction.setting.loss
    note = f" ({loss.note})" if loss.note else ""
    return f"<p>Loss as in {_safe(loss.source + note)}.</p>" if loss.source else ""


def _list(title: str, items: list[str]) -> str:
    return f"<h2>{title}</h2><ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>" if items else ""


def _svg(figure: Figure) -> str:
    import matplotlib

    stream = io.StringIO()
    # Outlines instead of fonts, and no time or random ids: equal predictions are equal pages.
    with matplotlib.rc_context({"svg.hashsalt": "phasevae", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _safe(value: str) -> str:
    return html.escape(value)
