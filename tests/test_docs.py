"""The pages name what the code has: nothing is left out, and nothing is made up."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from phasevae import conventions, diagnosis
from phasevae.prediction import predict

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "predict.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> set[str]:
    """The code in the first column of the tables of a section."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_convention_and_preset_has_its_row():
    assert first_cells(section("Conventions")) == set(conventions.LOSSES) | set(conventions.LIBRARIES)


def test_every_warning_has_its_row():
    assert first_cells(section("Warnings")) == set(re.findall(r'_warned\(\s*"([a-z-]+)"', inspect.getsource(diagnosis)))


def test_every_json_key_has_its_row():
    made = predict(np.linspace(0, 1, 10)[:, None], 1, beta=1.0)
    assert first_cells(section("What comes out")) >= set(made.to_json())


def test_every_page_of_the_site_exists_and_every_page_is_on_it():
    text = (ROOT / "mkdocs.yml").read_text()
    pages = set(re.findall(r"[\w-]+\.md", yaml.safe_dump(yaml.safe_load(text)["nav"])))
    assert pages == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_formulas_become_mathml():
    pytest.importorskip("mkdocs")
    import sys

    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import hooks
    finally:
        sys.path.pop(0)
    page = '<p><span class="arithmatex">\\(a &lt; \\tfrac12\\)</span></p><div class="arithmatex">\\[x\\]</div>'
    made = hooks.on_page_content(page)
    assert "arithmatex" not in made and made.count("<math") == 2
    assert 'display="block"' in made and "<mfrac>" in made
