"""A prediction as one self-contained page: the headline, the figures, then the numbers."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING

from phasevae import __version__
from phasevae.figures.prediction import draw_prediction
from phasevae.prediction.text import HEADS, summary, threshold_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from phasevae.prediction.predict import Prediction


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h1{font-size:1.5rem;line-height:1.3}h2{font-size:1.15rem;margin-top:2rem}"
    "table{border-collapse:collapse;margin:1rem 0}th,td{text-align:left;padding:.15rem 1rem .15rem 0;"
    "border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}.figures{display:flex;flex-wrap:wrap;gap:1rem}"
    ".figures svg{flex:1 1 24rem;max-width:100%;height:auto}"
)


def prediction_page(prediction: Prediction) -> str:
    """Return a prediction as one HTML page that contains its figures and refers to nothing outside it."""
    name = prediction.setting.spectrum.name or "data"
    figures = "".join(_svg(figure) for figure in draw_prediction(prediction))
    numbers = "".join(f"<tr><th>{_safe(key)}</th><td>{_safe(value)}</td></tr>" for key, value in summary(prediction))
    heads = "".join(f"<th>{_safe(head)}</th>" for head in HEADS)
    thresholds = "".join(
        "<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in threshold_rows(prediction)
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
