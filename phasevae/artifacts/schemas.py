"""JSON Schemas of the JSON files of results, and of the metadata of safetensors files: the keys that phasevae reads.

Other keys may hold anything.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phasevae.artifacts.schema_errors import dotted_key, explain
from phasevae.artifacts.table_schemas import LARGEST, NEGATIVE_KL, NEGATIVE_VARIANCE
from phasevae.errors import InputError

_NUMBER = {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}
_ANY = _NUMBER | {"type": ["number", "null"]}
_POSITIVE = {"type": "number", "exclusiveMinimum": 0, "maximum": LARGEST}
_LEAST_0 = {"type": "number", "minimum": 0, "maximum": LARGEST}
_KL = {"type": "number", "minimum": NEGATIVE_KL, "maximum": LARGEST}
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

_MACHINE = {key: {"type": ["string", "null"]} for key in ("device", "torch", "cuda")}

_CONDITION = _object(
    ("kind", "classes", "mean", "scale"),
    null=True,
    kind={"enum": ["classes", "numbers"]},
    classes=_list({"type": ["string", "integer", "boolean"]}),
    mean=_list(_NUMBER),
    scale=_list(_POSITIVE),
)
"""How values of a condition become columns (`phasevae.datasets.conditions.Coding`)."""

CONVERGENCE = ("kl_late", "kl_drift", "elbo_drift", "elbo_drift_standard_error", "second_moment_deviation")
"""Keys of the evidence for convergence in point.json."""

_OF_LATENTS = {
    "kl_per_dim": _list(_KL, 1),
    "latent_variance": _list(_LEAST_0, 1),
    "mean_variance": _list(_NUMBER | {"minimum": NEGATIVE_VARIANCE}, 1),
    "latent_mean": _list(_NUMBER, 1),
    "mean_covariance": _list(_list(_NUMBER, 1), 1),
}
"""Keys of a level of latents in point.json."""

_PART = _object(
    ("name", "data_sha256", "start", "stop", "n_rows", "provenance"),
    name=_TEXT,
    data_sha256=_TEXT,
    start={"type": "integer", "minimum": 0},
    stop=_WHOLE,
    n_rows=_WHOLE,
    provenance=_OBJECT,
    read=_READ,
)

_CLASS_SPECTRUM = _object(
    (
        "value", "share", "n_samples", "critical_variance", "trace", "eigenvalues", "standard_errors", "skewness",
        "excess_kurtosis", "variance_proxy",
    ),
    value={"type": ["string", "integer", "boolean"]},
    share={"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    n_samples=_WHOLE,
    critical_variance=_LEAST_0,
    trace=_LEAST_0,
    eigenvalues=_list(_LEAST_0, 1),
    standard_errors=_list(_LEAST_0, 1),
    skewness=_list(_ANY, 1),
    excess_kurtosis=_list(_ANY, 1),
    variance_proxy=_POSITIVE | {"type": ["number", "null"]},
)  # fmt: skip
"""The spectrum of one class of a condition."""

_OF_CLASS = _object(
    ("value", "share", "kl", "kl_per_dim", "latent_variance", "mean_variance", "mean_covariance"),
    value={"type": ["string", "integer", "boolean"]},
    share={"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    n_samples=_WHOLE,
    kl=_KL,
    mse=_LEAST_0 | {"type": ["number", "null"]},
    reconstruction=_NUMBER,
    kl_per_dim=_list(_KL, 1),
    latent_variance=_list(_LEAST_0, 1),
    mean_variance=_list(_NUMBER | {"minimum": NEGATIVE_VARIANCE}, 1),
    mean_covariance=_list(_list(_NUMBER, 1), 1),
)
"""The numbers of a point for one class of its condition."""

SCHEMAS = {
    "data": _object(
        name=_TEXT,
        n_samples={"type": "integer", "minimum": 2},
        dimension=_WHOLE,
        preprocessing=_OBJECT,
        constant_features=_list({"type": "integer"}),
        mean=_list(_NUMBER),
        scale=_list(_NUMBER),
        sha256=_TEXT,
        provenance=_OBJECT,
        read=_READ,
        condition=_CONDITION,
    ),
    "spectrum": _object(
        name=_TEXT,
        n_samples=_WHOLE,
        dimension=_WHOLE,
        critical_variance=_POSITIVE,
        trace=_POSITIVE,
        eigenvalues=_list(_LEAST_0, 1),
        standard_errors=_list(_LEAST_0, 1),
        skewness=_list(_ANY, 1),
        excess_kurtosis=_list(_ANY, 1),
        variance_proxy=_POSITIVE | {"type": ["number", "null"]},
        data_sha256={"type": ["string", "null"]},
        provenance=_OBJECT,
        read=_READ,
        condition=_object(("kind", "source"), null=True, kind=_TEXT, source=_TEXT),
        unaware_variance=_LEAST_0 | {"type": ["number", "null"]},
        conditions=_list(_CLASS_SPECTRUM),
        likelihood={
            **_object(("name", "options", "collapsed_loss"), name=_TEXT, options=_OBJECT, collapsed_loss=_NUMBER),
            "additionalProperties": False,
        },
    ),
    "point": _object(
        sigma2=_POSITIVE,
        beta=_POSITIVE,
        seed={"type": "integer", "minimum": 0},
        samples=_WHOLE,
        extended=_WHOLE,
        active_dims={"type": "integer", "minimum": 0},
        kl=_KL,
        mse=_LEAST_0 | {"type": ["number", "null"]},
        reconstruction=_NUMBER,
        **dict.fromkeys(("elbo", "collapsed_elbo", "elbo_gap"), _NUMBER),
        **dict.fromkeys(("log_likelihood", "log_likelihood_standard_error", "elbo_gap_standard_error"), _ANY),
        **dict.fromkeys(("residual_edge", "residual_edge_standard_error", "residual_margin"), _ANY),
        **_OF_LATENTS,
        conditions=_list(_OF_CLASS),
        encoder_sees_condition=_FLAG,
        beta_top=_POSITIVE | {"type": ["number", "null"]},
        top=_object(
            ("kl", "active_dims", *_OF_LATENTS), kl=_KL, active_dims={"type": "integer", "minimum": 0}, **_OF_LATENTS
        ),
        convergence=_object(CONVERGENCE, **dict.fromkeys(CONVERGENCE, _ANY)),
        config_digest=_TEXT,
        weights_sha256=_TEXT,
        history_sha256=_TEXT,
        settings=_object(
            ("n_latent", "schedule"),
            n_latent=_WHOLE,
            hidden=_list(_WHOLE),
            hierarchy=_object(("n_top", "posterior_variance"), null=True, n_top=_WHOLE),
            batch=_WHOLE,
            rao_blackwell_group=_WHOLE,
            schedule=_TEXT,
            **dict.fromkeys(("antithetic", "balanced_order", "moment_matched_noise", "encoder_sees_condition"), _FLAG),
            **dict.fromkeys(("samples", "learning_rate", "anneal_from"), _POSITIVE),
            **dict.fromkeys(("anneal_fraction", "holdout"), _NUMBER),
        ),
        provenance=_object(
            ("data_sha256", "code_hash", "backend"),
            **dict.fromkeys(("data_sha256", "code_hash", "backend"), _TEXT),
            tf32=_FLAG,
            **_MACHINE,
        ),
    ),
    "weights": _object(
        ("sigma2", "beta", "architecture"),
        sigma2=_POSITIVE,
        beta=_POSITIVE,
        architecture=_object(
            ("dimension", "n_latent", "hidden"),
            dimension=_WHOLE,
            n_latent=_WHOLE,
            hidden=_list(_WHOLE),
            n_top=_WHOLE,
            posterior_variance=_POSITIVE | {"type": ["number", "null"]},
            n_outputs={"type": ["integer", "null"]},
            n_condition={"type": "integer", "minimum": 0},
            input_shape=_list(_WHOLE, 1),
            channels_last=_FLAG,
            network=_object(("file", "build", "text"), file=_TEXT, build=_TEXT, text=_TEXT),
            encoder_sees_condition=_FLAG,
        ),
        condition=_CONDITION,
    ),
    "moments": _object(
        ("parts",),
        parts=_list(_PART, 1),
        n_samples=_WHOLE,
        share_binary={"type": "number", "minimum": 0, "maximum": 1},
        trace=_POSITIVE,
        basis_sha256=_TEXT,
    ),
    "timing": _object(
        ("train_seconds", "measure_seconds", "models_in_ensemble"),
        **dict.fromkeys(("train_seconds", "measure_seconds"), _LEAST_0),
        models_in_ensemble=_WHOLE,
    ),
    "metadata": _object(("notes",), notes=_list(_object(("provenance",), provenance=_object(sha256=_TEXT)), 1)),
    "manifest": _object(("files",), files=_list(_object(("path", "sha256"), path=_TEXT, sha256=_TEXT))),
    "fit": _object(
        critical_variance=_POSITIVE | {"type": ["number", "null"]},
        ci95=_PAIR,
        window=_PAIR,
        model={"type": ["string", "null"]},
        reason={"type": ["string", "null"]},
        models={"type": "object", "additionalProperties": _MODEL},
        predicted=_object(
            null=True, critical_variance=_ANY, slope_below=_ANY, unaware_variance=_ANY, is_upper_bound=_FLAG
        ),
        exponents=_object(null=True, window=_PAIR, reason={"type": ["string", "null"]}),
        cascade=_object(null=True, modes=_list(_object(mode=_WHOLE, threshold=_ANY, ci95=_PAIR))),
        derivatives=_object(null=True, x=_list(_NUMBER)),
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
