"""Schemas of the tables of results: the columns that phasevae reads. Other columns may hold anything.

Whoever reads a table names its kind (`phasevae.artifacts.tables.read_table`). Nothing that computes checks it again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

LARGEST = 1e100
"""Larger numbers, and decoder variances below its inverse, are rejected: their squares overflow a float."""

PLANNED = (1e-30, 1e30)
"""Decoder variances and beta of a sweep. Training is in single precision, which ends at 1.2e-38 and 3.4e38."""

NEGATIVE_KL = -0.2
"""KL in nats is never negative; simulated noise may take it a little below zero, but not this far."""

NEGATIVE_VARIANCE = -1e-3
"""Variances and eigenvalues are never negative; rounding may take them a little below zero."""

LARGEST_WHOLE = 2**53 - 1
"""Larger whole numbers are not exact in double precision."""


@dataclass(frozen=True)
class Column:
    """What the cells of a column may hold.

    Attributes
    ----------
    kind : a number, a whole number, True or False, or text
    low, high : the least and the greatest number
    words : what a cell must be, for messages
    empty : whether a cell may be empty, because its value is undefined
    required : whether the table must have the column
    choices : the texts that are right; empty if any text is
    pattern : a regular expression that the whole text must match
    """

    kind: Literal["number", "whole", "flag", "text"]
    low: float = -LARGEST
    high: float = LARGEST
    words: str = "a number"
    empty: bool = False
    required: bool = False
    choices: tuple[str, ...] = ()
    pattern: str = ".*"


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table, and those of them (`key`) that no two rows share.

    Columns of `further_key` belong to the key where the table has them.
    """

    columns: dict[str, Column]
    key: tuple[str, ...]
    further_key: tuple[str, ...] = ()


def _needed(column: Column) -> Column:
    return replace(column, required=True)


def _or_empty(column: Column) -> Column:
    return replace(column, empty=True, words=f"{column.words}, or empty")


_NUMBER = Column("number", words=f"a finite number up to {LARGEST:g} in magnitude")
_POSITIVE = Column("number", 1 / LARGEST, words=f"a positive number up to {LARGEST:g}")
_LEAST_0 = Column("number", 0.0, words=f"a finite number from 0 to {LARGEST:g}")
_VARIANCE = Column("number", NEGATIVE_VARIANCE, words=_LEAST_0.words)
_KL = Column("number", NEGATIVE_KL, words=f"a finite number from {NEGATIVE_KL} to {LARGEST:g}")
_INDEX = Column("whole", 0, LARGEST_WHOLE, words="a whole number, 0 or more")
_COUNT = Column("whole", 1, LARGEST_WHOLE, words="a whole number, 1 or more")
_FLAG = Column("flag", words="True or False")
_TEXT = Column("text", words="text")


def _choice(*choices: str) -> Column:
    return Column("text", words=f"one of {', '.join(choices)}", choices=choices)


_POINT = {"sigma2": _needed(_POSITIVE), "beta": _needed(_POSITIVE), "seed": _needed(_INDEX)}
_IDENTITY = tuple(_POINT)
_OF_HIERARCHY = {"beta_top": _POSITIVE}
_ENERGIES = {"elbo": _NUMBER, "mse": _or_empty(_LEAST_0), "collapsed_elbo": _NUMBER, "reconstruction": _NUMBER}
_ORIGIN = {"n_latent": _COUNT, "backend": _TEXT, "data_sha256": _TEXT}

_SWEEP = {
    **_POINT,
    "kl": _needed(_KL),
    "active_dims": _needed(_INDEX),
    **_ENERGIES,
    "log_likelihood": _or_empty(_NUMBER),
    "log_likelihood_standard_error": _or_empty(_LEAST_0),
    "elbo_gap": _NUMBER,
    "elbo_gap_standard_error": _or_empty(_LEAST_0),
    "residual_edge": _or_empty(_NUMBER),
    "residual_edge_standard_error": _or_empty(_LEAST_0),
    "residual_margin": _or_empty(_NUMBER),
    "samples": _COUNT,
    "converged": _or_empty(_FLAG),
    "schedule": _TEXT,
    "likelihood": _TEXT,
    "encoder_sees_condition": _FLAG,
    **_ORIGIN,
    **_OF_HIERARCHY,
    "kl_top": _KL,
    "active_top": _INDEX,
    "n_top": _COUNT,
    "posterior_variance": _or_empty(_POSITIVE),
}

_DIMENSIONS = {
    **_POINT,
    **_OF_HIERARCHY,
    "level": Column("whole", 1, 2, words="1 or 2"),
    "latent": _needed(_INDEX),
    "kl": _KL,
    "latent_variance": _LEAST_0,
    "mean_variance": _VARIANCE,
    "mean_eigenvalue": _VARIANCE,
    "relevance": _LEAST_0,
    "condition": _or_empty(_TEXT),
    "encoder_sees_condition": _FLAG,
}

# The divergence of a hierarchy is an average over draws: over the few rows of a record it may be well below zero.
_COURSE = {"elbo": _NUMBER, "kl": _needed(_NUMBER), "mse": _or_empty(_LEAST_0)}
_HISTORY = {"step": _needed(_COUNT), "samples": _COUNT, "sigma2": _needed(_POSITIVE), **_COURSE}
_HISTORIES = {
    **_POINT,
    **_OF_HIERARCHY,
    "step": _COUNT,
    "learning_time": _needed(_LEAST_0),
    "current_sigma2": _needed(_POSITIVE),
    **_COURSE,
}

_TIMING = {
    **_POINT,
    **_OF_HIERARCHY,
    "train_seconds": _needed(_LEAST_0),
    "measure_seconds": _needed(_LEAST_0),
    "models_in_ensemble": _needed(_COUNT),
    "samples_per_second": _or_empty(_LEAST_0),
}

_HYSTERESIS = {
    "branch": _needed(_choice("up", "fresh")),
    **_POINT,
    "kl": _needed(_KL),
    **_ENERGIES,
    "elbo_gap": _needed(_NUMBER),
    "elbo_gap_standard_error": _needed(_LEAST_0),
    "active_dims": _INDEX,
    "samples": _COUNT,
    "encoder_sees_condition": _FLAG,
    **_ORIGIN,
}

_BRACKETING = {
    "sigma2": _needed(_POSITIVE),
    "beta": _needed(_POSITIVE),
    "kl_first": _needed(_KL),
    "kl_second": _needed(_KL),
    "elbo_first": _NUMBER,
    "elbo_second": _NUMBER,
    "n_seeds_first": _COUNT,
    "n_seeds_second": _COUNT,
    "kl_difference": _needed(_NUMBER),
    "kl_standard_error": _needed(_LEAST_0),
    "elbo_difference": _NUMBER,
    "elbo_standard_error": _or_empty(_LEAST_0),
    "disagree": _needed(_FLAG),
    "reading": _choice("agree", "slowing down", "coexistence"),
    "encoder_sees_condition": _FLAG,
}

_PLANNED = Column("number", *PLANNED, words=f"a positive number from {PLANNED[0]:g} to {PLANNED[1]:g}")
_PLAN = {
    "sigma2": _PLANNED,
    "ratio": _PLANNED,
    "beta": _PLANNED,
    "beta_ratio": _PLANNED,
    "seed": _needed(_INDEX),
    "beta_top": _PLANNED,
    "bucket": _needed(_INDEX),
    "path": Column("text", words="a folder under points/", required=True, pattern=r"points/(?!(.*/)?\.\.(/|$)).+"),
}

TABLES = {
    "sweep": TableSchema(_SWEEP, _IDENTITY, ("beta_top",)),
    "dimensions": TableSchema(_DIMENSIONS, (*_IDENTITY, "latent"), ("beta_top", "level", "condition")),
    "histories": TableSchema(_HISTORIES, (*_IDENTITY, "step"), ("beta_top",)),
    "history": TableSchema(_HISTORY, ("step",)),
    "timing": TableSchema(_TIMING, _IDENTITY, ("beta_top",)),
    "hysteresis": TableSchema(_HYSTERESIS, ("branch", *_IDENTITY)),
    "bracketing": TableSchema(_BRACKETING, ("sigma2", "beta")),
    "plan": TableSchema(_PLAN, ("path",)),
}
"""The schema of each kind of table; refined.csv is a plan."""
