"""The pages name what the code has: nothing is left out, and nothing is made up."""

from __future__ import annotations

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
    assert first_cells(section("Warnings")) == set(diagnosis.CHECKS)


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


def test_the_gallery_shows_what_was_measured():
    import csv

    import predictions

    with predictions.GALLERY.open() as stream:
        rows = list(csv.DictReader(stream))
    page = (ROOT / "docs" / "gallery.md").read_text()
    names = [case.name for case in predictions.CONVENTIONS] + [case.name for case in predictions.THREADS]
    cases = list(dict.fromkeys(row["case"] for row in rows))
    assert cases == [name for name in names if name in cases]
    assert predictions.markdown([row for row in rows if not row["thread"]]) in page
    for case in predictions.THREADS:
        if case.name in cases:
            assert predictions.markdown([row for row in rows if row["case"] == case.name]) in page
        repository, number = case.thread.split("#")
        assert repository in page and f"/{number})" in page
    for row in rows:
        alive = row["predicted_verdict"] != "collapsed"
        total = float(row["kl"])
        assert total > predictions.ALIVE if alive else total < predictions.DEAD, row["case"]
