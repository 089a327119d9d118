"""JSON Schemas of the JSON files of results: the keys that phasevae reads. Other keys may hold anything."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phasevae.artifacts.schema_errors import dotted_key, explain
from phasevae.errors import InputError

_NUMBER = {"type": "number"}
_ANY = {"type": ["number", "null"]}
_POSITIVE = {"type": "number", "exclusiveMinimum": 0}
_WHOLE = {"type": "integer", "minimum": 1}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_OBJECT = {"type": "object"}


def _list(items: dict[str, Any], least: int = 0, most: int | None = None, null: bool = False) -> dict[str, Any]:
    size = {"minItems": least} if most is None else {"minItems": least, "maxItems": most}
    return {"type": ["array", "null"] if null else "array", "items": items, **size}


def _object(required: tuple[str, ...] = (), null: bool = False, **properties: Any) -> dict[str, Any]:
    return {"type": ["object", "null"] if null else "object", "properties": properties, "required": [*required]}


_PAIR = _list(_ANY, 2, 2, null=True)
_MODEL = _object(
    critical_variance=_ANY,
    ci95=_PAIR,
    window=_PAIR,
    parameters=_object(null=True, eigenvalues=_list(_POSITIVE)),
)

_READ = _object(
    ("n_samples", "shape", "low", "high"),
    null=True,
    n_samples=_WHOLE,
    shape=_list(_WHOLE, 1),
    low=_NUMBER,
    high=_NUMBER,
    **dict.fromkeys(("preparation", "columns", "left_out"), _list(_TEXT)),
    parts=_list(_list(_TEXT, 2, 2) | {"prefixItems": [_TEXT, _WHOLE], "items": False}),
    rounding={"type": "number", "minimum": 0},
    effective_samples={"type": ["number", "null"], "exclusiveMinimum": 0},
)

SCHEMAS = {
    "data": _object(
        name=_TEXT,
        n_samples={"type": "integer", "minimum": 2},
        dimension=_WHOLE,
        preprocessing=_OBJECT,
        constant_features=_list({"type": "integer"}),
        mean=_list({"type": "number"}),
        scale=_list({"type": "number"}),
        sha256=_TEXT,
        provenance=_OBJECT,
        read=_READ,
    ),
    "spectrum": _object(
        name=_TEXT,
        n_samples=_WHOLE,
        dimension=_WHOLE,
        critical_variance=_POSITIVE,
        trace=_POSITIVE,
        eigenvalues=_list({"type": "number"}, 1),
        standard_errors=_list({"type": "number", "minimum": 0}, 1),
        skewness=_list(_ANY, 1),
        excess_kurtosis=_list(_ANY, 1),
        variance_proxy={"type": ["number", "null"], "exclusiveMinimum": 0},
        data_sha256={"type": ["string", "null"]},
        provenance=_OBJECT,
        read=_READ,
    ),
    "point": _object(
        sigma2=_POSITIVE,
        beta=_POSITIVE,
        seed={"type": "integer", "minimum": 0},
        samples=_WHOLE,
        extended=_WHOLE,
        active_dims={"type": "integer", "minimum": 0},
        **dict.fromkeys(("elbo", "kl", "mse", "log_likelihood", "log_likelihood_standard_error"), _ANY),
        **dict.fromkeys(("collapsed_elbo", "elbo_gap", "elbo_gap_standard_error"), _ANY),
        **dict.fromkeys(("kl_per_dim", "latent_variance", "mean_variance", "latent_mean"), _list(_ANY, 1)),
        mean_covariance=_list(_list({"type": "number"}, 1), 1),
        convergence=_OBJECT,
        config_digest=_TEXT,
        weights_sha256=_TEXT,
        history_sha256=_TEXT,
        settings=_object(
            ("n_latent", "schedule"),
            n_latent=_WHOLE,
            hidden=_list(_WHOLE),
            batch=_WHOLE,
            rao_blackwell_group=_WHOLE,
            schedule=_TEXT,
            **dict.fromkeys(("antithetic", "balanced_order", "moment_matched_noise"), _FLAG),
            **dict.fromkeys(("samples", "learning_rate", "anneal_from"), _POSITIVE),
            **dict.fromkeys(("anneal_fraction", "holdout"), _NUMBER),
        ),
        provenance=_object(("data_sha256", "code_hash", "backend"), data_sha256=_TEXT, code_hash=_TEXT, backend=_TEXT),
    ),
    "fit": _object(
        critical_variance={"type": ["number", "null"], "exclusiveMinimum": 0},
        ci95=_PAIR,
        window=_PAIR,
        model={"type": ["string", "null"]},
        reason={"type": ["string", "null"]},
        models={"type": "object", "additionalProperties": _MODEL},
        predicted=_object(null=True, critical_variance=_ANY, slope_below=_ANY),
        exponents=_object(null=True, window=_PAIR, reason={"type": ["string", "null"]}),
        cascade=_object(null=True, modes=_list(_object(mode=_WHOLE, threshold=_ANY, ci95=_PAIR))),
        derivatives=_object(null=True, x=_list({"type": "number"})),
    ),
}


def check_record(path: Path | str, value: Mapping[str, Any], kind: str) -> None:
    """Check the content of a JSON file.

    Parameters
    ----------
    path : Path or str
        The file, for the message.
    value : mapping
        Its content.
    kind : str
        Which of `SCHEMAS` it must meet.

    Raises
    ------
    InputError
        One line: the file, the first key that does not meet the schema, its value and what would be right.
    """
    errors = sorted(_validator(kind).iter_errors(value), key=lambda error: dotted_key(error.path))
    if errors:
        raise InputError(f"{path}: {explain(errors[0], yaml=False)}")


@functools.cache
def _validator(kind: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(SCHEMAS[kind])
