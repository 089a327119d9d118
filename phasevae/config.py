"""The configuration: YAML files merged, checked against the schema, defaults filled in.

The schema (workflow/schemas/config.schema.yaml) is the single list of keys, ranges and defaults. Beside the
words of JSON Schema it says which kinds of data set take an option (`kinds`) and which need it
(`required_for`).
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from phasevae.errors import InputError
from phasevae.plan import make_plan, second_pass

_PACKAGE = Path(__file__).parent
_SCHEMA_PLACES = (
    _PACKAGE.parent / "workflow" / "schemas" / "config.schema.yaml",  # a source checkout
    _PACKAGE / "config.schema.yaml",  # a wheel
)
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


def load_config(*paths: Path | str) -> dict[str, Any]:
    """Read YAML files and merge them; later files override earlier ones key by key, lists as a whole.

    Raises InputError that names the file when it is missing, not YAML or not a mapping.
    """
    config: dict[str, Any] = {}
    for path in paths:
        config = _merged(config, _read_yaml(Path(path)))
    return config


def validate(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Check a merged configuration and return it with defaults filled in and numbers in canonical types.

    `source` names the file or files in messages. A key set to null counts as left out, so an overriding file
    can remove one. Raises InputError, one line: source, dotted key, value found, what to write instead.
    """
    config = _without_nulls(config)
    try:
        _check_finite(config, ())
        _check_schema(config)
        _check_run(config)
        for name, settings in config["datasets"].items():
            _check_dataset(f"datasets.{name}", settings)
        resolved = _resolved(config, schema())
        resolved.setdefault("run", list(resolved["datasets"]))
        for name, settings in resolved["datasets"].items():
            _check_points(f"datasets.{name}", settings)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return resolved


def dataset_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `phasevae dataset KIND` that one data set's settings give."""
    return {key: settings[key] for key, rule in _dataset_rules().items() if "kinds" in rule and key in settings}


@functools.lru_cache
def schema() -> dict[str, Any]:
    """The schema as a dictionary, from the source checkout or from the wheel."""
    for path in _SCHEMA_PLACES:
        if path.is_file():
            return _read_yaml(path)
    raise InputError(f"{_SCHEMA_PLACES[-1]}: no such file; install phasevae again")


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise InputError(f"{path}: {where}not YAML ({getattr(error, 'problem', None) or error})") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds {_shown(value)}, must be a mapping of keys such as 'datasets:'")
    return value


def _merged(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in override.items():
        both = isinstance(merged.get(key), Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def _dataset_rules() -> dict[str, Any]:
    return schema()["$defs"]["dataset"]["properties"]


def _check_finite(value: Any, path: tuple[str | int, ...]) -> None:
    """YAML has .nan and .inf; no key takes them."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{_key(path)}: {value}, must be a finite number")
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        _check_finite(item, (*path, key))


def _check_schema(config: Mapping[str, Any]) -> None:
    from jsonschema import Draft202012Validator

    errors = sorted(
        Draft202012Validator(schema()).iter_errors(config), key=lambda error: (_key(error.path), error.validator)
    )
    if errors:
        raise InputError(_explained(errors[0]))


def _explained(error: Any) -> str:
    """One jsonschema error as one line: key, value found, what to write instead."""
    key, value, wanted, rule = _key(error.path), error.instance, error.validator_value, error.schema
    match error.validator:
        case "additionalProperties":
            unknown = next(name for name in value if name not in rule["properties"])
            told = f"unknown key '{unknown}'; {_suggestion(unknown, rule['properties'])}"
        case "required":
            missing = next(name for name in wanted if name not in value)
            told = f"key '{missing}' is missing{_example(rule['properties'][missing])}"
        case "type":
            told = f"{_shown(value)}, {_type_hint(value, wanted)}"
        case "enum":
            told = f"{_shown(value)}, {_suggestion(value, wanted, 'must be one of')}"
        case "minItems" | "minProperties" | "minLength":
            told = f"{_shown(value)}, must not be empty"
        case "pattern" if "examples" in rule:
            told = f"{_shown(value)}, must be like {', '.join(rule['examples'])}"
        case "pattern":
            told = f"'{value}' cannot be a data set's name; use letters, digits and _, a letter first"
        case bound:
            told = f"{_shown(value)}, must be {_RANGE_WORDS[bound]} {wanted}"
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


def _suggestion(name: Any, known: Iterable[str], words: str = "known:") -> str:
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    listed = f"{words} {', '.join(known)}"
    return f"did you mean '{close[0]}'? ({listed})" if close else listed


def _example(rule: Mapping[str, Any]) -> str:
    if "enum" in rule:
        return f"; write one of {', '.join(rule['enum'])}"
    return f"; it is {_TYPE_NAMES[rule['type']]}" if isinstance(rule.get("type"), str) else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _key(path: Iterable[str | int]) -> str:
    """Dotted key of a path into the configuration: datasets.digits.sigma2[3]."""
    key = ""
    for step in path:
        key += f"[{step}]" if isinstance(step, int) else f".{step}" if key else str(step)
    return key


def _check_run(config: Mapping[str, Any]) -> None:
    for name in config.get("run", []):
        if name not in config["datasets"]:
            raise InputError(f"run: '{name}' is not among datasets; {_suggestion(name, config['datasets'])}")


def _check_dataset(where: str, settings: Mapping[str, Any]) -> None:
    """The rules between keys that the schema's own words cannot tell readably."""
    kind = settings["kind"]
    options = {key: rule for key, rule in _dataset_rules().items() if "kinds" in rule}
    taken = [key for key, rule in options.items() if kind in rule["kinds"]]
    for key, rule in options.items():
        if key in settings and key not in taken:
            raise InputError(f"{where}.{key}: kind '{kind}' has no such option; it takes: {', '.join(taken)}")
        if key not in settings and kind in rule.get("required_for", []):
            raise InputError(f"{where}: key '{key}' is missing; kind '{kind}' needs it")
    if ("sigma2" in settings) == ("sigma2_ratio" in settings):
        found = "both are given" if "sigma2" in settings else "neither is given"
        raise InputError(
            f"{where}: sigma2 and sigma2_ratio: {found}; give one list (null in an overriding file removes the other)"
        )


def _check_points(where: str, settings: Mapping[str, Any]) -> None:
    try:
        make_plan(settings)
        if settings["bracket"]:
            second_pass(settings)
        _check_steps(settings.get("hysteresis_ratio"), settings["beta"])
    except InputError as error:
        raise InputError(f"{where}.{error}") from None


def _check_steps(ratios: list[float] | None, beta: float | list[float]) -> None:
    """A sweep upwards goes from one decoder variance to another, at one beta."""
    if ratios is None:
        return
    if len(set(ratios)) < len(ratios) or len(ratios) < 2:
        raise InputError(f"hysteresis_ratio: {ratios}, must be two or more different numbers")
    if isinstance(beta, list):
        raise InputError(f"beta: {beta}, must be one number with hysteresis_ratio, not a list")


def _resolved(value: Any, rule: Mapping[str, Any]) -> Any:
    """`value` with the defaults of `rule` filled in; whole numbers become int, other numbers float."""
    if "$ref" in rule:
        rule = schema()["$defs"][rule["$ref"].rsplit("/", 1)[-1]]
    if isinstance(value, Mapping):
        known, others = rule.get("properties", {}), rule.get("additionalProperties")
        filled = {key: item["default"] for key, item in known.items() if "default" in item} | dict(value)
        return {key: _resolved(item, known.get(key, others)) for key, item in filled.items()}
    if isinstance(value, list):
        return [_resolved(item, rule["items"]) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if "integer" in rule.get("type", ()) else float(value)
    return value
