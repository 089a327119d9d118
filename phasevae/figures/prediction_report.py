"""A prediction as a table for the terminal and as one self-contained page."""

from __future__ import annotations

import html
import io
import math
from typing import TYPE_CHECKING

from phasevae import __version__
from phasevae.figures.prediction import draw_prediction
from phasevae.prediction.losses import PER_FEATURE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from phasevae.prediction.predict import Prediction


MOST_ROWS = 20
"""Thresholds shown in the terminal; the page and JSON have all."""


def summary(prediction: Prediction) -> list[tuple[str, str]]:
    """Names and values of the headline numbers."""
    setting = prediction.setting
    n, k = setting.n_latent, prediction.active_dims
    verdicts = {"collapsed": "collapsed", "partial": f"{k} of {n} latents active", "active": f"all {n} latents active"}
    spectrum = setting.spectrum
    return [
        ("data", f"{spectrum.n_samples} samples of {spectrum.dimension} features"),
        ("loss", f"{setting.convention.formula}, w = {setting.kl_weight:g}"),
        ("effective variance", f"{prediction.effective_variance:.6g}"),
        ("critical variance", f"{prediction.critical_variance:.6g}{_uncertainty(spectrum.standard_errors[0])}"),
        ("critical KL weight", f"{prediction.critical_kl_weight:.6g}"),
        ("verdict", verdicts[prediction.verdict]),
        ("KL", f"{prediction.kl:.6g} nats, {prediction.kl / math.log(2):.6g} bits"),
        ("squared error", f"{prediction.mse:.6g} of {_collapsed_error(prediction):.6g} when collapsed"),
    ]


def _uncertainty(error: float) -> str:
    return f" +- {error:.2g}" if math.isfinite(error) else ""


def show_prediction(prediction: Prediction, console: Console) -> None:
    """Print the prediction."""
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in summary(prediction):
        table.add_row(name, value)
    console.print(table)
    console.print()
    console.print(_threshold_table(prediction))
    for warned in prediction.warnings:
        console.print(f"[yellow]warning[/] \\[{warned.code}] {warned.message}", highlight=False, soft_wrap=True)
    console.print()
    for line in prediction.advice:
        console.print(line, highlight=False, soft_wrap=True)


def prediction_page(prediction: Prediction) -> str:
    """HTML with its figures inside and nothing from elsewhere."""
    rows = "".join(f"<tr><th>{_safe(name)}</th><td>{_safe(value)}</td></tr>" for name, value in summary(prediction))
    heads = "".join(f"<th>{_safe(head)}</th>" for head in _HEADS)
    cells = "".join(
        "<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in _threshold_rows(prediction)
    )
    warned = "".join(f"<li><code>{_safe(w.code)}</code> {_safe(w.message)}</li>" for w in prediction.warnings)
    advice = "".join(f"<li>{_safe(line)}</li>" for line in prediction.advice)
    name = prediction.setting.spectrum.name or "data"
    figures = "".join(_svg(figure) for figure in _figures(prediction))
    source = prediction.setting.convention.source
    modelled = f"<p>Loss as in {_safe(source)}.</p>" if source else ""
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>phasevae: {_safe(name)}</title>"
        f"<style>{_STYLE}</style></head><body><h1>Will it collapse? {_safe(name)}</h1>"
        f"<table>{rows}</table>{modelled}<h2>What to change</h2><ul>{advice}</ul>"
        f"{'<h2>Warnings</h2><ul>' + warned + '</ul>' if warned else ''}"
        f"<div class='figures'>{figures}</div>"
        f"<h2>Where each latent dies</h2><table><tr>{heads}</tr>{cells}</table>"
        f"<p>phasevae {_safe(__version__)}. KL in nats per sample; variances in squared units of the data as fed to "
        f"the network, or of the decoder's own where it learns them or is Bernoulli.</p></body></html>\n"
    )


_HEADS = ("latent", "dies at variance", "dies at KL weight", "so many live at weights", "KL (nats)")
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}th,td{text-align:left;padding:.15rem 1rem .15rem 0;"
    "border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}.figures svg{max-width:100%;height:auto}"
)


def _threshold_rows(prediction: Prediction) -> list[tuple[str, ...]]:
    return [
        (
            str(t.latents),
            f"{t.variance:.6g}",
            f"{t.kl_weight:.6g}",
            f"{t.keeps[0]:.4g} to {t.keeps[1]:.4g}",
            f"{prediction.kl_per_dim[t.latents - 1]:.4g}",
        )
        for t in prediction.thresholds
    ]


def _threshold_table(prediction: Prediction):
    from rich.table import Table

    table = Table(*_HEADS, box=None, pad_edge=False, header_style="bold")
    rows = _threshold_rows(prediction)
    for row in rows[:MOST_ROWS]:
        table.add_row(*row)
    if len(rows) > MOST_ROWS:
        table.add_row(f"... {len(rows) - MOST_ROWS} more")
    return table


def _collapsed_error(prediction: Prediction) -> float:
    setting = prediction.setting
    return float(setting.variances.sum()) if setting.convention.decoder == PER_FEATURE else setting.spectrum.trace


def _figures(prediction: Prediction) -> list[Figure]:
    return draw_prediction(prediction)


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
