"""What was read from a source of samples: how many, in which shape, from where, and how they were prepared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
    """

    x: Any
    label: str
    source: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    parts: tuple[tuple[str, int], ...] = ()
    changes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

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
    """

    n_samples: int
    shape: tuple[int, ...]
    low: float
    high: float
    preparation: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    parts: tuple[tuple[str, int], ...] = ()
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.shape)) if len(self.shape) > 1 else f"{self.shape[0]} features"
        said = [f"{self.n_samples} samples of {shape}", f"values {self.low:.4g} to {self.high:.4g}"]
        if self.columns:
            said.append(f"columns {_shortened(self.columns)}")
        if self.parts:
            counted = [f"{name} {count}" for name, count in self.parts]
            said.append(f"from {len(self.parts)} sources ({_shortened(counted)})")
        if self.left_out:
            said.append(f"left out: {_shortened(self.left_out)}")
        return ", ".join([*said, f"preparation: {', '.join(self.preparation) or 'none'}"])


def _shortened(names: tuple[str, ...] | list[str], most: int = 6) -> str:
    """Names with commas between; of many the first ones and the last."""
    shown = [*names[: most - 1], "...", names[-1]] if len(names) > most else names
    return ", ".join(shown)
