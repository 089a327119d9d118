"""Hooks of the documentation site: formulas become MathML, and the figures of the reference run become its files."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)


def on_page_content(content: str, **more: Any) -> str:
    """Replace formulas by MathML, which browsers draw without a script and offline."""
    return _FORMULA.sub(lambda match: mathml(html.unescape(match[3]), block=match[2] == "["), content)


def mathml(formula: str, block: bool = False) -> str:
    return convert(formula, display="block" if block else "inline")


def on_page_markdown(markdown: str, **more: Any) -> str:
    """Point links at the reference figures to their place on the site; pages that have them are a folder deep."""
    return markdown.replace("](../../results/reference/", "](../results/reference/")


def on_files(files: Files, config: Any) -> Files:
    """Add results/reference/**.png to the site, under the same path."""
    for path in sorted((ROOT / "results" / "reference").rglob("*.png")):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files
