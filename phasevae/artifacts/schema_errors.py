"""TODO."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

_TYPE_NAMES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "a mapping of keys",
    "string": "text",
}

_RANGE_WORDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def explain(error: Any) -> str:
    """One jsonschema error as one line: key, value found, what to write instead."""
    key, value, wanted, rule = dotted_key(error.path), error.instance, error.validator_value, error.schema
    match error.validator:
        case "additionalProperties":
            unknown = next(name for name in value if name not in rule["properties"])
            told = f"unknown key '{unknown}'; {suggestion(unknown, rule['properties'])}"
        case "required":
            missing = next(name for name in wanted if name not in value)
            told = f"key '{missing}' is missing{_example(rule['properties'][missing])}"
        case "type":
            told = f"{shown(value)}, {_type_hint(value, wanted)}"
        case "enum":
            told = f"{shown(value)}, {suggestion(value, wanted, 'must be one of')}"
        case "minItems" | "minProperties" | "minLength":
            told = f"{shown(value)}, must not be empty"
        case "pattern" if "examples" in rule:
            told = f"{shown(value)}, must be like {', '.join(rule['examples'])}"
        case "pattern":
            told = f"'{value}' cannot be a data set's name; use letters, digits and _, a letter first"
        case bound:
            told = f"{shown(value)}, must be {_RANGE_WORDS[bound]} {wanted}"
    return f"{key}: {told}" if key else told


def _type_hint(value: Any, wanted: str | list[str]) -> str:
    """What to write for a value of the wrong type."""
    kinds = [wanted] if isinstance(wanted, str) else wanted
    numeric = {"number", "integer"} & set(kinds)
    if numeric and isinstance(value, str) and (number := _yaml_number(value)):
        return f"which YAML reads as text; write {number}"
    if "array" in kinds and not numeric and not isinstance(value, Mapping):
        return f"must be a list; write [{value if not isinstance(value, list) else ''}]"
    if "string" in kinds and isinstance(value, int | float):
        return f"must be text; write '{value}' with quotes"
    return "must be " + " or ".join(_TYPE_NAMES[kind] for kind in kinds)


def _yaml_number(text: str) -> str | None:
    """`text` as YAML 1.1 spells that number (1e-3 -> 1.0e-3, 1e6 -> 1.0e+6); None when it is no number."""
    try:
        float(text)
    except ValueError:
        return None
    mantissa, _, exponent = text.strip().lower().partition("e")
    if not exponent:
        return f"{mantissa} without quotes"
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{mantissa}e{exponent if exponent[0] in '+-' else '+' + exponent}"


def suggestion(name: Any, known: Iterable[str], words: str = "known:") -> str:
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    listed = f"{words} {', '.join(known)}"
    return f"did you mean '{close[0]}'? ({listed})" if close else listed


def _example(rule: Mapping[str, Any]) -> str:
    if "enum" in rule:
        return f"; write one of {', '.join(rule['enum'])}"
    return f"; it is {_TYPE_NAMES[rule['type']]}" if isinstance(rule.get("type"), str) else ""


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def dotted_key(path: Iterable[str | int]) -> str:
    """Dotted key of a path into the configuration: datasets.digits.sigma2[3]."""
    key = ""
    for step in path:
        key += f"[{step}]" if isinstance(step, int) else f".{step}" if key else str(step)
    return key
