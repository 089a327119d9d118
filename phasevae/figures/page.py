"""What self-contained HTML pages share: their frame and style, figures as SVG, lists."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h1{font-size:1.5rem;line-height:1.3}h2{font-size:1.15rem;margin-top:2rem}"
    "table{border-collapse:collapse;margin:1rem 0}th,td{text-align:left;padding:.15rem 1rem .15rem 0;"
    "border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}.figures{display:flex;flex-wrap:wrap;gap:1rem}"
    ".figures svg{flex:1 1 24rem;max-width:100%;height:auto}"
)


def page(name: str, headline: str, body: str) -> str:
    """Return a page that refers to nothing outside it.

    Parameters
    ----------
    name : str
        What it is about, for its title.
    headline : str
    body : str
        HTML below the headline.
    """
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>phasevae: {safe(name)}</title>"
        f"<style>{_STYLE}</style></head><body><h1>{safe(headline)}</h1>{body}</body></html>\n"
    )


def bullets(title: str, items: list[str]) -> str:
    """Return a list of HTML items under a title, or nothing where there are none."""
    return f"<h2>{title}</h2><ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>" if items else ""


def svg(figure: Figure) -> str:
    """Return a figure as SVG. Equal figures are equal texts."""
    import matplotlib

    stream = io.StringIO()
    # Outlines instead of fonts, and no time or random ids: equal predictions are equal pages.
    with matplotlib.rc_context({"svg.hashsalt": "phasevae", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def safe(value: str) -> str:
    """Return text as HTML."""
    return html.escape(value)
