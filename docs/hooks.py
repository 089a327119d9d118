"""Of the documentation site: formulas become MathML as it is built, and figures of the reference run are its files."""

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
    """Browsers draw MathML themselves: no script is loaded, and pages work offline."""
    return _FORMULA.sub(lambda found: mathml(html.unescape(found[3]), block=found[2] == "["), content)


def mathml(formula: str, block: bool = False) -> str:
    return convert(formula, display="block" if block else "inline")


def on_page_markdown(markdown: str, **more: Any) -> str:
    """Figures stand elsewhere in the repository than on the site."""
    return markdown.replace("](../results/reference/", "](reference/")


def on_files(files: Files, config: Any) -> Files:
    """results/reference/**.png as reference/**.png."""
    folder = ROOT / "results" / "reference"
    for path in sorted(folder.rglob("*.png")):
        name = f"reference/{path.relative_to(folder).as_posix()}"
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files
