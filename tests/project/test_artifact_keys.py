"""docs/reference/artifacts.md has the keys that files have."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from phasevae.analysis.kl_fit.fit import FormFit
from phasevae.analysis.optimality import Consistency, Convergence
from phasevae.analysis.pipeline import Analysis

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "artifacts.md"


@pytest.mark.parametrize(
    ("kind", "row"), [(Analysis, ""), (FormFit, "models"), (Convergence, "convergence"), (Consistency, "consistency")]
)
def test_every_key_of_fit_json_is_explained(kind, row):
    section = PAGE.read_text(encoding="utf-8").split("## fit.json")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith(f"| `{row}")]
    columns = [line.split(" | ")[0] for line in lines] if not row else lines
    explained = set(re.findall(r"`(\w+)`", " ".join(columns)))
    assert [field.name for field in fields(kind) if field.name not in explained] == []
