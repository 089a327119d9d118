"""Options of the command line for the settings of a training: type, help and default come from their sections."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from phasevae.cli.arguments import json_object, named_values, numbers
from phasevae.config import completed_settings, dataset_settings
from phasevae.datasets.sample_shape import sample_shape
from phasevae.datasets.store import read_record
from phasevae.errors import InputError
from phasevae.sweeps.config_schema import dataset_rules
from phasevae.sweeps.network_file import NetworkSpec, chosen_file, parsed_network
from phasevae.sweeps.settings import Settings, training_keys

_TYPES = {"integer": float, "number": float, "boolean": bool, "string": str, "array": str, "object": str}
"""Whole numbers are read as float: 2e5 is one."""


def setting(key: str, flag: str | None = None, words: str | None = None) -> Any:
    """Make the option of a configuration key of one data set; it is None when it is not given.

    Parameters
    ----------
    key : str
        The key, such as "learning_rate".
    flag : str, optional
        The option's name where it is not the key's own, such as "--latent".
    words : str, optional
        Help instead of the key's description, where that names keys that are no options.
    """
    rule = dataset_rules()[key]
    kind = "array" if "array" in rule["type"] else rule["type"]
    default = f" [default: {_written(rule['default'])}]" if rule.get("default", {}) != {} else ""
    name = flag or f"--{key.replace('_', '-')}"
    if kind == "boolean":
        name += f"/--no-{name.removeprefix('--')}"
    metavar = {"integer": "INTEGER", "array": "LIST", "object": "NAME=VALUE,..."}.get(kind)
    text = (words or rule["description"]) + default
    return Annotated[_TYPES[kind] | None, typer.Option(name, help=text, metavar=metavar)]


def given_settings(context: typer.Context, settings: str | None) -> dict[str, Any]:
    """The settings of a command: those of its option --settings (a JSON object), overridden by the options given."""
    options = {key: value for key, value in context.params.items() if key in dataset_rules() and value is not None}
    return json_object("--settings", settings) | {key: _parsed(key, value) for key, value in options.items()}


def sweep_settings(verb: str, config: list[Path] | None, dataset: str | None, settings: str | None) -> dict[str, Any]:
    """The settings of one data set with its grid, from config files or from a JSON object.

    Raises InputError that names the `verb` unless exactly one of the two is given.
    """
    if (settings is None) == (config is None):
        raise InputError(f"{verb}: give either --config FILE with --dataset NAME, or --settings JSON")
    if settings is None:
        return dataset_settings(config, dataset)
    return completed_settings(json_object("--settings", settings), needs_grid=True)


def training_settings(checked: Mapping[str, Any], data: Path) -> Settings:
    """The settings of a training on a saved data set, from checked settings of a configuration.

    Raises InputError that names the file of the user's own networks if it cannot be read.
    """
    file = chosen_file(checked)
    spec = None if file is None else NetworkSpec.of(file, sample_shape(read_record(data)))
    return Settings.from_keys(training_keys(checked) | {"network": spec})


def _parsed(key: str, value: Any) -> Any:
    """The value of an option as a configuration file would have it: a text of numbers becomes a list, or a number where
    the key takes both."""
    if key == "network":
        return _parsed_network(value)
    rule = dataset_rules()[key]
    if rule["type"] == "object":
        return named_values(f"--{key.replace('_', '-')}", value)
    if "array" not in rule["type"]:
        return value
    values = numbers(f"--{key}", value, int if rule["items"]["type"] == "integer" else float)
    return values[0] if rule["type"] != "array" and len(values) == 1 else values


def _parsed_network(value: str) -> dict[str, str]:
    """`mlp`, or FILE:NAME for a function of a Python file; FILE alone for its function `build`."""
    if value == "mlp":
        return {"kind": "mlp"}
    return dict(zip(("module", "build"), parsed_network(value), strict=True))


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
