"""A prediction as one self-contained page: the headline, the figures, then the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasevae import __version__
from phasevae.figures.page import bullets, page, safe, svg
from phasevae.figures.prediction import draw_prediction
from phasevae.prediction.text import HEADS, summary, threshold_rows

if TYPE_CHECKING:
    from phasevae.prediction.predict import Prediction


def prediction_page(prediction: Prediction) -> str:
    """Return a prediction as one HTML page that contains its figures and refers to nothing outside it."""
    name = prediction.setting.spectrum.name or "data"
    figures = "".join(svg(figure) for figure in draw_prediction(prediction))
    numbers = "".join(f"<tr><th>{safe(key)}</th><td>{safe(value)}</td></tr>" for key, value in summary(prediction))
    heads = "".join(f"<th>{safe(head)}</th>" for head in HEADS)
    thresholds = "".join(
        "<tr>" + "".join(f"<td>{safe(cell)}</td>" for cell in row) + "</tr>" for row in threshold_rows(prediction)
    )
    warnings = [f"<code>{safe(warning.code)}</code>: {safe(warning.message)}" for warning in prediction.warnings]
    body = (
        f"<p>Prediction for {safe(name)}, without training{_read(prediction)}.</p><div class='figures'>{figures}</div>"
        f"<h2>Numbers</h2><table>{numbers}</table>{_source(prediction)}"
        f"<h2>Where each latent dies</h2><table><tr>{heads}</tr>{thresholds}</table>"
        f"{bullets('Warnings', warnings)}{bullets('Further advice', [safe(line) for line in prediction.advice])}"
        f"<p>phasevae {safe(__version__)}. KL is in nats per sample. Variances are in squared units of the data as "
        f"fed to the network. Where the decoder learns one variance per feature or is Bernoulli, they are relative to "
        f"its variances.</p>"
    )
    return page(name, prediction.headline, body)


def _read(prediction: Prediction) -> str:
    return "" if prediction.reading is None else f": {safe(str(prediction.reading))}"


def _source(prediction: Prediction) -> str:
    """The public code that the loss models."""
    loss = prediction.setting.loss
    note = f" ({loss.note})" if loss.note else ""
    return f"<p>Loss as in {safe(loss.source + note)}.</p>" if loss.source else ""
