"""The JSON Schema of the configuration, generated from its sections.

In addition to the words of JSON Schema it says which kinds of data take a key (`kinds`), which need it (`required_for`)
and its `unit`. The copy in workflow/schemas/ is for editors and for readers; `make schema` writes it.
"""

from __future__ import annotations

import functools
from typing import Any

from phasevae.sweeps.config_keys import NAME_PATTERN, ConfigSection

_KEPT_AS_THEY_ARE = ("default", "enum", "examples", "kinds", "required_for")


@functools.cache
def config_schema() -> dict[str, Any]:
    """The schema of a whole configuration."""
    generated = ConfigSection.model_json_schema()
    sections = generated.pop("$defs")
    # Sections within that of a data set stand in their places.
    definitions = {"dataset": _inlined(sections["DatasetSection"], sections), "cluster": sections["ClusterSection"]}
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_plain(generated)}
    schema["properties"]["datasets"]["propertyNames"] = {"pattern": NAME_PATTERN}
    schema["properties"]["datasets"]["additionalProperties"] = {"$ref": "#/$defs/dataset"}
    schema["properties"]["cluster"] = _plain(definitions.pop("cluster")) | {"default": {}}
    return {**schema, "$defs": {name: _plain(rule) for name, rule in definitions.items()}}


def dataset_rules() -> dict[str, Any]:
    """The rule of each key of one data set."""
    return config_schema()["$defs"]["dataset"]["properties"]


def _inlined(rule: Any, sections: dict[str, Any]) -> Any:
    """A generated rule with each reference to a section replaced by the section; words next to the reference win."""
    if isinstance(rule, list):
        return [_inlined(item, sections) for item in rule]
    if not isinstance(rule, dict):
        return rule
    kept = {word: _inlined(value, sections) for word, value in rule.items() if word != "$ref"}
    return _inlined(sections[rule["$ref"].rsplit("/", 1)[-1]], sections) | kept if "$ref" in rule else kept


def _plain(rule: Any) -> Any:
    """A generated rule in the words that error messages explain: no titles, alternatives merged, and no null, as a key
    that is null counts as left out."""
    if isinstance(rule, list):
        return [_plain(item) for item in rule]
    if not isinstance(rule, dict):
        return rule
    plain: dict[str, Any] = {}
    for word, value in rule.items():
        if word == "anyOf":
            plain |= _merged([_plain(option) for option in value if option != {"type": "null"}])
        elif word == "properties":
            plain[word] = {key: _plain(item) for key, item in value.items()}
        elif word == "const":
            plain["enum"] = [value]
        elif word == "description":
            plain[word] = " ".join(value.split())
        elif word != "title" and not (word == "default" and value is None):
            plain[word] = value if word in _KEPT_AS_THEY_ARE else _plain(value)
    return plain


def _merged(options: list[dict[str, Any]]) -> dict[str, Any]:
    """One rule that admits each of the options, which differ in their types."""
    merged = {word: value for option in options for word, value in option.items()}
    types = [option["type"] for option in options]
    return merged | {"type": types[0] if len(types) == 1 else types}
