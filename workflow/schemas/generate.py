"""Writes what is generated from the typed configuration: its JSON Schema, and the table of keys in the documentation.

python workflow/schemas/generate.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from phasevae.sweeps.config_keys import (
    ClusterSection,
    ConfigSection,
    DataSection,
    ExtensionSection,
    LikelihoodSection,
    NetworkSection,
    SweepSection,
    TrainingSection,
)
from phasevae.sweeps.config_schema import config_schema

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
TABLE = ROOT / "docs" / "reference" / "config.md"
BEGIN, END = "<!-- keys -->", "<!-- /keys -->"
HEAD = """\
# Every key of the configuration, with its type, range and default. Generated from phasevae/sweeps/config_keys.py by
# `make schema`. In addition to the words of JSON Schema:
#   kinds          the kinds of data set that take the key (all others refuse it)
#   required_for   the kinds that cannot do without it
#   unit           the unit of its value
"""
HEADINGS = {
    "All data sets": (ConfigSection, ("properties",)),
    "Batch systems (`cluster`)": (ClusterSection, ("properties", "cluster", "properties")),
    "Data (`datasets.NAME`)": (DataSection, ("$defs", "dataset", "properties")),
    "Networks": (NetworkSection, ("$defs", "dataset", "properties")),
    "Likelihood": (LikelihoodSection, ("$defs", "dataset", "properties")),
    "Sweep": (SweepSection, ("$defs", "dataset", "properties")),
    "Training": (TrainingSection, ("$defs", "dataset", "properties")),
    "After the training": (ExtensionSection, ("$defs", "dataset", "properties")),
}


def schema_text() -> str:
    """The content of config.schema.yaml."""
    return HEAD + yaml.safe_dump(config_schema(), sort_keys=False, width=118, allow_unicode=True)


def table_text() -> str:
    """The tables of all keys as Markdown, one for each section."""
    parts = []
    for heading, (section, place) in HEADINGS.items():
        rules: Any = config_schema()
        for step in place:
            rules = rules[step]
        rows = [
            f"| `{key}` | {_type(rules[key])} | {_default(rules[key])} | {_meaning(rules[key])} |"
            for key in _own(section)
        ]
        parts.append("\n".join([f"## {heading}", "", "| key | type | default | meaning |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts)


def page_text(page: str) -> str:
    """A page with the tables between its two marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table_text()}\n\n{END}{rest.partition(END)[2]}"


def _own(section: Any) -> list[str]:
    """Keys of a section with a value of their own: `datasets` and `cluster` are the tables below."""
    return [key for key in section.model_fields if key not in ("datasets", "cluster")]


def _type(rule: dict[str, Any]) -> str:
    if "enum" in rule:
        return ", ".join(rule["enum"])
    kinds = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
    names = {"array": "list", "integer": "integer", "number": "number", "boolean": "true, false", "string": "text"}
    words = " or ".join(names.get(kind, "keys") for kind in kinds)
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [
        f"{sign} {values[word]:g}"
        for values in (rule, rule.get("items", {}))
        for word, sign in limits.items()
        if word in values
    ]
    bounds = list(dict.fromkeys(bounds))
    unit = [rule["unit"]] if "unit" in rule else []
    return ", ".join([words, *bounds, *unit])


def _default(rule: dict[str, Any]) -> str:
    return f"`{json.dumps(rule['default'])}`" if "default" in rule else ""


def _meaning(rule: dict[str, Any]) -> str:
    kinds = f" ({', '.join(rule['kinds'])})" if "kinds" in rule else ""
    return rule["description"] + kinds


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    TABLE.write_text(page_text(TABLE.read_text(encoding="utf-8")), encoding="utf-8")
