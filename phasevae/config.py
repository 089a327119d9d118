"""The configuration: YAML files are merged, checked and completed with defaults.

Keys, ranges and defaults stand in `phasevae.sweeps.config_keys`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from phasevae.artifacts.schema_errors import dotted_key, explain, shown
from phasevae.errors import InputError, no_such_choice
from phasevae.sweeps.config_schema import config_schema, dataset_rules
from phasevae.sweeps.plan import make_plan, second_pass
from phasevae.sweeps.settings import GAUSSIAN, check_hierarchy, check_likelihood, check_with_condition
from phasevae.wording import suggestion


def load_config(*paths: Path | str) -> dict[str, Any]:
    """Read YAML files and merge them: later files override earlier ones key by key, lists as a whole.

    Raises InputError that names the file if it is missing, not YAML or not a mapping.
    """
    config: dict[str, Any] = {}
    for path in paths:
        config = _merged(config, _read_yaml(Path(path)))
    return config


def validate(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Check a merged configuration; return it with defaults filled in and numbers in canonical types.

    Parameters
    ----------
    config : mapping
        The configuration. A key that is null counts as left out, so an overriding file can remove a key.
    source : str
        The file or files, as messages name them.

    Raises
    ------
    InputError
        One line: the source, the dotted key, its value, and what to write instead.
    """
    config = _without_nulls(config)
    try:
        _check_finite(config, ())
        _check_schema(config)
        _check_run(config)
        for name, settings in config["datasets"].items():
            _check_dataset(f"datasets.{name}", settings)
        resolved = _resolved(config, config_schema())
        resolved.setdefault("run", list(resolved["datasets"]))
        for name, settings in resolved["datasets"].items():
            if "beta_ratio" in settings:
                settings.pop("beta", None)  # the default
            _check_points(f"datasets.{name}", settings)
            _check_hierarchy(f"datasets.{name}", settings)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return resolved


def completed_settings(keys: Mapping[str, Any], needs_grid: bool = False) -> dict[str, Any]:
    """Check settings of one data set by the rules of a config file and fill in its defaults.

    With `needs_grid` they must hold the sweep's grid; training settings do not depend on it.
    Raises InputError, one line without the data set's name.
    """
    # The rules ask for a kind of data as well, on which no setting depends.
    entry = {"kind": "synthetic", **keys}
    if "n_latent" not in entry:
        raise InputError("n_latent: is missing (option --latent), must be the number of latents")
    if not needs_grid and not {"sigma2", "sigma2_ratio", "beta_ratio"} & entry.keys():
        if entry.get("likelihood", GAUSSIAN) == GAUSSIAN:
            entry["sigma2"] = [1.0]
        else:
            entry.setdefault("beta", 1.0)
    try:
        completed = validate({"datasets": {"options": entry}}, "options")["datasets"]["options"]
    except InputError as error:
        # The one data set has no name that the user knows, and no file.
        message = str(error).removeprefix("options: ")
        raise InputError(message.replace("datasets.options.", "").replace("datasets.options: ", "")) from None
    return completed if "kind" in keys else {key: value for key, value in completed.items() if key != "kind"}


def dataset_settings(files: Sequence[Path], name: str | None) -> dict[str, Any]:
    """Read merged config files; return the settings of one data set. Raises InputError if it is not among them."""
    datasets = validate(load_config(*files), " + ".join(map(str, files)))["datasets"]
    if name not in datasets:
        raise no_such_choice("--dataset", name, datasets)
    return datasets[name]


def dataset_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `phasevae dataset KIND` among the settings of a data set."""
    return {key: settings[key] for key, rule in dataset_rules().items() if "kinds" in rule and key in settings}


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
        raise InputError(f"{path}: holds {shown(value)}, must be a mapping of keys such as 'datasets:'")
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


def _check_finite(value: Any, path: tuple[str | int, ...]) -> None:
    """YAML can write .nan and .inf, which no key takes."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{dotted_key(path)}: {value}, must be a finite number")
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        _check_finite(item, (*path, key))


def _check_schema(config: Mapping[str, Any]) -> None:
    from jsonschema import Draft202012Validator

    errors = sorted(
        Draft202012Validator(config_schema()).iter_errors(config),
        key=lambda error: (dotted_key(error.path), error.validator),
    )
    if errors:
        raise InputError(explain(errors[0]))


def _check_run(config: Mapping[str, Any]) -> None:
    for name in config.get("run", []):
        if name not in config["datasets"]:
            raise InputError(f"run: '{name}' is not among datasets; {suggestion(name, config['datasets'])}")


def _check_dataset(where: str, settings: Mapping[str, Any]) -> None:
    """The rules between keys, which the words of JSON Schema cannot explain readably."""
    kind = settings["kind"]
    options = {key: rule for key, rule in dataset_rules().items() if "kinds" in rule}
    taken = [key for key, rule in options.items() if kind in rule["kinds"]]
    for key, rule in options.items():
        if key in settings and key not in taken:
            raise InputError(f"{where}.{key}: kind '{kind}' has no such option; it takes: {', '.join(taken)}")
        if key not in settings and kind in rule.get("required_for", []):
            raise InputError(f"{where}: key '{key}' is missing; kind '{kind}' needs it")
    _check_network(f"{where}.network", settings.get("network"))
    has_condition = _has_condition(settings)
    if settings.get("shards", 1) > 1 and has_condition:
        raise InputError(f"{where}.shards: {settings['shards']}, must be 1 for data with a condition")
    name = settings.get("likelihood", GAUSSIAN)
    if name != GAUSSIAN:
        _check_likelihood(where, name, settings)
        if has_condition:
            _checked_in(where, check_with_condition, name, settings.get("likelihood_options", {}))
        return
    for key in ("beta_ratio", "likelihood_options"):
        if settings.get(key):
            raise InputError(f"{where}.{key}: goes with a likelihood other than gaussian, must be left out")
    _check_one_of(where, ("sigma2", "sigma2_ratio"), settings)


def _has_condition(settings: Mapping[str, Any]) -> bool:
    return "condition" in settings or settings["kind"] == "conditional"


def _check_likelihood(where: str, name: str, settings: Mapping[str, Any]) -> None:
    """The rules of likelihoods other than the Gaussian one, which are swept over the weight of KL."""
    for key in ("sigma2", "sigma2_ratio"):
        if key in settings:
            raise InputError(f"{where}.{key}: must be left out with likelihood {name}, which is swept over beta")
    if settings.get("shards", 1) > 1:
        raise InputError(f"{where}.shards: {settings['shards']}, must be 1 with likelihood {name}")
    _check_one_of(where, ("beta", "beta_ratio"), settings)
    _checked_in(where, check_likelihood, name, settings.get("likelihood_options", {}))


def _checked_in(where: str, check: Callable[..., None], *values: Any) -> None:
    """Call a check; name the data set in what it raises."""
    try:
        check(*values)
    except InputError as error:
        raise InputError(f"{where}.{error}") from None


def _check_one_of(where: str, keys: tuple[str, str], settings: Mapping[str, Any]) -> None:
    if (keys[0] in settings) == (keys[1] in settings):
        state = "both are given" if keys[0] in settings else "neither is given"
        raise InputError(
            f"{where}: {keys[0]} and {keys[1]}: {state}; give one list (null in an overriding file removes the other)"
        )


def _check_network(where: str, network: Mapping[str, Any] | None) -> None:
    if network is not None and ("kind" in network) == ("module" in network):
        given = "both are given" if "kind" in network else "neither is given"
        raise InputError(
            f"{where}: kind and module: {given}; write {{kind: mlp}} or {{module: FILE}} (null in an overriding file "
            "removes one)"
        )
    if network is not None and "build" in network and "module" not in network:
        raise InputError(f"{where}.build: {network['build']!r}, goes with module: FILE")


def _check_hierarchy(where: str, settings: Mapping[str, Any]) -> None:
    """A second level of latents goes with the simplest of everything else."""
    hierarchy = settings.get("hierarchy")
    if hierarchy is None:
        return
    has_own_networks = "module" in (settings.get("network") or {})
    _checked_in(where, check_hierarchy, settings["likelihood"], has_own_networks, _has_condition(settings))
    if "hysteresis_ratio" in settings:
        raise InputError(f"{where}.hysteresis_ratio: goes with one level of latents, must be left out with hierarchy")
    if settings["bracket"] and isinstance(hierarchy["beta_top"], list):
        raise InputError(f"{where}.hierarchy.beta_top: {hierarchy['beta_top']}, must be one number with bracket: true")


def _check_points(where: str, settings: Mapping[str, Any]) -> None:
    try:
        make_plan(settings)
        if settings["bracket"]:
            second_pass(settings)
        _check_steps(settings.get("hysteresis_ratio"), settings)
    except InputError as error:
        raise InputError(f"{where}.{error}") from None


def _check_steps(ratios: list[float] | None, settings: Mapping[str, Any]) -> None:
    """An upward sweep needs two different steps or more; one over the decoder variance is at a single beta."""
    beta = settings.get("beta")
    if ratios is None:
        return
    if len(set(ratios)) < len(ratios) or len(ratios) < 2:
        raise InputError(f"hysteresis_ratio: {ratios}, must be two or more different numbers")
    if isinstance(beta, list) and settings["likelihood"] == GAUSSIAN:
        raise InputError(f"beta: {beta}, must be one number with hysteresis_ratio, not a list")


def _resolved(value: Any, rule: Mapping[str, Any]) -> Any:
    """`value` with the defaults of `rule` filled in; whole numbers become int, other numbers float."""
    if "$ref" in rule:
        rule = config_schema()["$defs"][rule["$ref"].rsplit("/", 1)[-1]]
    if isinstance(value, Mapping):
        known, others = rule.get("properties", {}), rule.get("additionalProperties")
        filled = {key: item["default"] for key, item in known.items() if "default" in item} | dict(value)
        return {key: _resolved(item, known.get(key, others)) for key, item in filled.items()}
    if isinstance(value, list):
        return [_resolved(item, rule["items"]) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if "integer" in rule.get("type", ()) else float(value)
    return value
