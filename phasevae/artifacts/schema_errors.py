"""What violates a JSON Schema, as one line: the key, the value and what would be right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from phasevae.wording import suggestion

_TYPE_NAMES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "a mapping of keys",
    "string": "text",
}

_RANGE_WORDS = {
    "minItems": "at least",
    "maxItems": "at most",
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def explain(error: Any, yaml: bool = True) -> str:
    """Explain an error of jsonschema in one line.

    Parameters
    ----------
    error : jsonschema.ValidationError
    yaml : bool
        Whether the user wrote the value in YAML: then the line says how to spell a value of the wrong type.
    """
    key, value, limit, rule = dotted_key(error.path), error.instance, error.validator_value, error.schema
    match error.validator:
        case "additionalProperties":
            unknown = next(name for name in value if name not in rule["properties"])
            message = f"unknown key '{unknown}'; {suggestion(unknown, rule['properties'])}"
        case "required":
            missing = next(name for name in limit if name not in value)
            message = f"key '{missing}' is missing{_example(rule['properties'][missing])}"
        case "type":
            message = f"{shown(value)}, {_type_hint(value, [limit] if isinstance(limit, str) else limit, yaml)}"
        case "enum":
            message = f"{shown(value)}, {suggestion(value, limit, 'must be one of')}"
        case "minItems" | "minProperties" | "minLength" if limit == 1:
            message = f"{shown(value)}, must not be empty"
        case "minItems" | "maxItems":
            message = f"{shown(value)}, must have {_RANGE_WORDS[error.validator]} {limit} items"
        case "pattern" if "examples" in rule:
            message = f"{shown(value)}, must be like {', '.join(rule['examples'])}"
        case "pattern":
            message = f"'{value}' cannot be a data set's name; use letters, digits and _, a letter first"
        case bound:
            message = f"{shown(value)}, must be {_RANGE_WORDS[bound]} {limit}"
    return f"{key}: {message}" if key else message


def _type_hint(value: Any, kinds: list[str], yaml: bool) -> str:
    """What to write instead of a value of the wrong type."""
    numeric = {"number", "integer"} & set(kinds)
    if yaml and numeric and isinstance(value, str) and (number := _yaml_number(value)):
        return f"which YAML reads as text; write {number}"
    if yaml and "array" in kinds and not numeric and not isinstance(value, Mapping):
        return f"must be a list; write [{value if not isinstance(value, list) else ''}]"
    if yaml and "string" in kinds and isinstance(value, int | float):
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


def _example(rule: Mapping[str, Any]) -> str:
    if "enum" in rule:
        return f"; write one of {', '.join(rule['enum'])}"
    return f"; it is {_TYPE_NAMES[rule['type']]}" if isinstance(rule.get("type"), str) else ""


def shown(value: Any) -> str:
    """Return `value` as Python writes it, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def dotted_key(path: Iterable[str | int]) -> str:
    """Return the dotted key of a path into a nested mapping: datasets.digits.sigma2[3]."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
