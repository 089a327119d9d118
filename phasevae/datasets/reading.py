"""What was read from a source of samples: how many, in which shape, from where, and how they were prepared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from phasevae.wording import counted

MUCH_ROUNDING = 1e-3
"""Rounding matters where its mean square is above this part of a feature's variance."""

FEWER_SAMPLES = 0.9
"""Repeated rows matter where they are worth less than this part of as many different rows."""


class ReadingWarning(UserWarning):
    """Something about the samples as they were read. `predict` lists it among its warnings instead."""


@dataclass(frozen=True)
class Origin:
    """What a reader knows about samples besides their values; see `RawSamples` and `Reading`."""

    shape: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    parts: tuple[tuple[str, int], ...] = ()
    changes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    dtype: str = "float64"  # of the numbers as they are stored, such as "bfloat16"


@dataclass(frozen=True)
class RawSamples:
    """Samples as a reader finds them, before they are standardised.

    Attributes
    ----------
    x : array [N, ...]
        The samples; a memory map or anything else that is read by slices of its rows.
    label : str
        Name of the data in messages.
    source : dict
        The origin of the samples, for the provenance.
    columns : tuple of str
        Names of the features; empty where they have none.
    parts : tuple of (str, int)
        Files or folders that the samples come from, with the number of samples of each; empty where there is one.
    changes : tuple of str
        What the reader did to the values, such as "grey", "resized to 8 x 8" or "divided by 255".
    left_out : tuple of str
        What was left out, such as "column id" or "2 damaged images".
    labels : array [N], optional
        A value beside each sample that may be its condition: the column that was asked for, or the labels that come
        with the data.
    """

    x: Any
    label: str
    source: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    parts: tuple[tuple[str, int], ...] = ()
    changes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    labels: Any = None

    @property
    def origin(self) -> Origin:
        dtype = str(self.x.dtype).removeprefix("torch.")
        return Origin(tuple(self.x.shape[1:]), self.columns, self.parts, self.changes, self.left_out, dtype)


@dataclass(frozen=True)
class Reading:
    """What an answer is about, in one sentence (`str`).

    Attributes
    ----------
    n_samples : int
    shape : tuple of int
        Shape of one sample.
    low, high : float
        Smallest and largest value, after the preparation.
    preparation : tuple of str
        What was done to the values, the standardisation last; empty where they are as they were stored.
    columns, parts, left_out
        See `RawSamples`.
    rounding : float
        Mean square of what single precision takes from the values, as a part of the variance, of the worst feature.
    effective_samples : float or None
        Number of different samples that the samples are worth, where some repeat others; otherwise None.
    """

    n_samples: int
    shape: tuple[int, ...]
    low: float
    high: float
    preparation: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    parts: tuple[tuple[str, int], ...] = ()
    left_out: tuple[str, ...] = ()
    rounding: float = 0.0
    effective_samples: float | None = None

    def __str__(self) -> str:
        samples = counted(self.n_samples, "sample")
        shape = " x ".join(map(str, self.shape)) if len(self.shape) > 1 else counted(*self.shape, "feature")
        said = [f"{samples} of {shape}", f"values {_range(self.low, self.high)}"]
        if self.columns:
            said.append(f"{'columns' if len(self.columns) > 1 else 'column'} {_shortened(_with_ranges(self.columns))}")
        if self.parts:
            listed = [f"{name} {count}" for name, count in self.parts]
            said.append(f"from {counted(len(self.parts), 'source')} ({_shortened(listed)})")
        if self.left_out:
            said.append(f"left out: {_shortened(self.left_out)}")
        return ", ".join([*said, f"preparation: {', '.join(self.preparation) or 'none'}"])

    def to_json(self) -> dict[str, Any]:
        """Return the key `read` of an answer: the sentence, then what it is made of."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        return {"sentence": str(self), **plain, "parts": [list(part) for part in self.parts]}

    @classmethod
    def from_json(cls, value: dict[str, Any] | None) -> Reading | None:
        """Return the reading that `to_json` wrote; None stays None."""
        if value is None:
            return None
        known = {key: value[key] for key in cls.__dataclass_fields__ if key in value}
        for key in ("shape", "preparation", "columns", "left_out"):
            known[key] = tuple(known.get(key, ()))
        return cls(**known | {"parts": tuple((name, count) for name, count in known.get("parts", ()))})

    def concerns(self) -> dict[str, str]:
        """Return what may be wrong with the samples, by the code of the warning."""
        found = {}
        if self.rounding > MUCH_ROUNDING:
            found["rounding"] = (
                f"single precision, which networks compute in, rounds the values by {self.rounding**0.5:.2g} of a "
                f"feature's standard deviation: subtract the mean in double precision before (standardize: center)"
            )
        if self.effective_samples is not None and self.effective_samples < FEWER_SAMPLES * self.n_samples:
            factor = (self.n_samples / self.effective_samples) ** 0.5
            found["duplicates"] = (
                f"some samples are exact copies of others: if they are no independent samples, the {self.n_samples} "
                f"samples are worth {self.effective_samples:.4g}, and standard errors are {factor:.2g} times as large"
            )
        return found


def joined_reading(readings: Sequence[tuple[str, Reading | None]]) -> Reading | None:
    """Return the reading of several data sets, each with its name; None where that of one is not known.

    Copies are known within each data set only.
    """
    if any(reading is None for _, reading in readings):
        return None
    known = [reading for _, reading in readings]
    n = sum(reading.n_samples for reading in known)
    effective = sum(reading.effective_samples or reading.n_samples for reading in known)
    preparations = list(dict.fromkeys(", ".join(reading.preparation) or "none" for reading in known))
    return Reading(
        n_samples=n,
        shape=known[0].shape,
        low=min(reading.low for reading in known),
        high=max(reading.high for reading in known),
        preparation=known[0].preparation if len(preparations) == 1 else ("; ".join(preparations),),
        columns=known[0].columns,
        parts=tuple((name, reading.n_samples) for name, reading in readings),
        left_out=tuple(dict.fromkeys(left for reading in known for left in reading.left_out)),
        rounding=max(reading.rounding for reading in known),
        effective_samples=effective if effective < n else None,
    )


def _range(low: float, high: float) -> str:
    """Both ends, with as many digits as their difference needs."""
    for digits in range(4, 10):
        ends = [_value(end, digits) for end in (low, high)]
        if sum(abs(float(text) - end) for text, end in zip(ends, (low, high), strict=True)) <= 0.01 * (high - low):
            break
    return " to ".join(ends)


def _value(value: float, digits: int) -> str:
    whole = float(value).is_integer() and abs(value) < 1e9
    return str(int(value)) if whole else f"{value:.{digits}g}"


def _shortened(names: Sequence[str], most: int = 6) -> str:
    """Names with commas between; of many the first ones and the last."""
    shown = [*names[: most - 1], "...", names[-1]] if len(names) > most else names
    return ", ".join(shown)


def _with_ranges(names: Sequence[str]) -> list[str]:
    """Names with three or more that count in equal steps, such as x0, x1, x2, as "x0 ... x2"."""
    places, shown, first = [_place(name) for name in names], [], 0
    while first < len(names):
        last = first
        while last + 1 < len(names) and _follows(places, first, last + 1):
            last += 1
        run = names[first : last + 1]
        shown += [f"{run[0]} ... {run[-1]}"] if len(run) > 2 else run
        first = last + 1
    return shown


def _place(name: str) -> tuple[str, float]:
    """The part of a name before its final number, and the number; a single letter is a number as well."""
    if len(name) == 1 and name.isalpha():
        return "", float(ord(name))
    prefix, number = re.fullmatch(r"(.*?)(\d*\.?\d*)", name, re.DOTALL).groups()
    return (prefix, float(number)) if number.strip(".") else (name, float("nan"))


def _follows(places: list[tuple[str, float]], first: int, i: int) -> bool:
    (prefix, number), (before_prefix, before) = places[i], places[i - 1]
    step = places[first + 1][1] - places[first][1]
    return prefix == before_prefix and abs(number - before - step) <= 1e-9 * abs(number) and step != 0
