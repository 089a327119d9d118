"""A diagnosis as one self-contained page: the verdict, the figures, then the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasevae import __version__
from phasevae.diagnosis.report import HEADS, RELEVANCE_HEADS
from phasevae.figures.diagnosis import draw_diagnosis
from phasevae.figures.page import bullets, page, safe, svg

if TYPE_CHECKING:
    from phasevae.diagnosis.report import Diagnosis


def diagnosis_page(diagnosis: Diagnosis) -> str:
    """Return a diagnosis as one HTML page that contains its figures and refers to nothing outside it."""
    figures = "".join(svg(figure) for figure in draw_diagnosis(diagnosis))
    numbers = "".join(f"<tr><th>{safe(key)}</th><td>{safe(value)}</td></tr>" for key, value in diagnosis.summary())
    body = (
        f"<p>Diagnosis of a trained model on {safe(diagnosis.data)}.</p>"
        f"{bullets('What to do', [safe(remark) for remark in diagnosis.remarks])}"
        f"<div class='figures'>{figures}</div><h2>Numbers</h2><table>{numbers}</table>"
        f"<h2>Active latents</h2>{_table(HEADS, diagnosis.rows())}"
        f"<h2>Relevant directions</h2>{_table(RELEVANCE_HEADS, diagnosis.relevance_rows())}"
        f"<p>phasevae {safe(__version__)}. The edge Lambda_A is a lower bound: a new latent is tried as a linear "
        f"function of the encoder's input. Where it is above the effective variance, a further latent would live.</p>"
    )
    return page("diagnosis", diagnosis.verdict, body)


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    cells = "".join("<tr>" + "".join(f"<td>{safe(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{cells}</table>"
