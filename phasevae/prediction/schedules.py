"""Schedules of the KL weight: a linear or a cosine ramp, or cycles (Fu et al., NAACL 2019, arXiv:1903.10145).

A schedule is written as one word, for example ``linear:0,1,400``. Its times have no unit: epochs, steps or reports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from phasevae.errors import InputError, no_such_choice

LINEAR, COSINE, CYCLIC = SHAPES = ("linear", "cosine", "cyclic")

_NUMBERS = {LINEAR: "START,END,LENGTH", COSINE: "START,END,LENGTH", CYCLIC: "START,END,PERIOD[,RISE]"}
"""What follows the shape and a colon."""

FORMS = " or ".join(f"{shape}:{numbers}" for shape, numbers in _NUMBERS.items())

EXAMPLE = "linear:0,1,400 raises the weight from 0 to 1 in 400 epochs"

RISE = 0.5
"""Share of a period in which the weight of a cyclic schedule rises, by default."""

ROUNDING = 1e-9
"""A time this close to the end of a period, in periods, is the end."""


@dataclass(frozen=True)
class KlSchedule:
    """The weight of KL over time.

    A ramp goes from `start` to `end` in `length` and stays there. Each cycle goes linearly from `start` to `end` in the
    share `rise` of its period `length`, and stays at `end` for the rest of the period.

    Parameters
    ----------
    shape : str
        One of SHAPES.
    start, end : float
        Weights of KL. `start` may be 0, and may be above `end`.
    length : float
        Length of the ramp, or one period of the cycles.
    rise : float
        For cycles only: above 0, at most 1.

    Raises
    ------
    InputError
        For values outside these ranges.
    """

    shape: str
    start: float
    end: float
    length: float
    rise: float = RISE

    def __post_init__(self) -> None:
        for key, valid, range_ in (
            ("shape", self.shape in SHAPES, f"one of {', '.join(SHAPES)}"),
            ("START", 0 <= self.start < math.inf, "zero or a positive number"),
            ("END", 0 < self.end < math.inf, "a positive number"),
            ("PERIOD" if self.shape == CYCLIC else "LENGTH", 0 < self.length < math.inf, "a positive number"),
            ("RISE", 0 < self.rise <= 1, "above 0 and at most 1"),
        ):
            if not valid:
                value = getattr(self, "length" if key == "PERIOD" else key.lower())
                raise InputError(f"kl_schedule: {key} {value!r}, must be {range_}")

    def weight_at(self, time: float) -> float:
        """Return the weight at a time; the schedule starts at time 0."""
        turns = max(time, 0.0) / self.length
        if self.shape == CYCLIC:
            return self._ramp((turns - math.floor(turns)) / self.rise)
        return self._ramp(turns)

    def reached_by(self, length: float) -> bool:
        """Return whether a training of this length reaches the weight `end`, in its first cycle if there are cycles."""
        return length >= self.length * (self.rise if self.shape == CYCLIC else 1)

    def final_weight(self, length: float | None = None) -> float:
        """Return the weight at the end of a training.

        Parameters
        ----------
        length : float, optional
            Length of the training. Without it, the training is long enough and ends at the end of a cycle.

        Returns
        -------
        float
            `end` without a length. A training that stops where one cycle ends and the next would start has the weight
            at the end of the cycle.
        """
        if length is None:
            return self.end
        if not 0 < length < math.inf:
            raise InputError(f"length: {length!r}, must be a positive number")
        turns = length / self.length
        if self.shape == CYCLIC and abs(turns - round(turns)) < ROUNDING and round(turns):
            return self.end
        return self.weight_at(length)

    def _ramp(self, share: float) -> float:
        """Return the weight after a share of the ramp."""
        if share >= 1:
            return self.end
        if self.shape == COSINE:
            share = 0.5 * (1 - math.cos(math.pi * share))
        return self.start + (self.end - self.start) * share


def parse_schedule(schedule: str | KlSchedule) -> KlSchedule:
    """Return the schedule that is written in one of FORMS; a KlSchedule is returned as it is."""
    if isinstance(schedule, KlSchedule):
        return schedule
    shape, _, numbers = schedule.partition(":") if isinstance(schedule, str) else ("", "", "")
    if numbers and shape not in SHAPES:
        raise no_such_choice("kl_schedule", shape, SHAPES)
    try:
        values = [float(number) for number in numbers.split(",")]
    except ValueError:
        values = []
    if len(values) not in ((3, 4) if shape == CYCLIC else (3,)):
        form = f"{shape}:{_NUMBERS[shape]}" if shape in SHAPES else FORMS
        raise InputError(f"kl_schedule: {schedule!r}, must be {form}; for example, {EXAMPLE}")
    return KlSchedule(shape, *values)
