"""Results as dataclasses: the estimate that all parts of the analysis share, and how a result is read from JSON.

`dataclasses.asdict` gives the JSON form of a result, with its fields as keys in their order. `from_json` is the
inverse.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from phasevae.artifacts.schema_errors import dotted_key, shown
from phasevae.errors import InputError

Interval = Annotated[list[float | None], Field(min_length=2, max_length=2)]
"""Lowest and highest value of a 95 % interval; None on a side that the data leave open."""

Result = TypeVar("Result")

_TYPES = {
    "bool_type": "true or false",
    "dataclass_type": "an object",
    "dict_type": "an object",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "string_type": "text",
    "too_long": "two numbers",
    "too_short": "two numbers",
}
"""What a value must be, by pydantic's name of the error."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; None where it is undetermined."""

    value: float | None = None
    ci95: Interval | None = None


OPEN = "the points do not determine the critical variance: its 95 % interval is open on both sides"


def is_open(ci95: Interval | None) -> bool:
    """Whether there is an interval of which no side is known."""
    return ci95 == [None, None]


class FittedVariance:
    """What a fit of the critical variance is worth. Its points determine it if they bound it on at least one side."""

    critical_variance: float | None
    ci95: Interval | None
    reason: str | None  # why there is no critical variance

    @property
    def is_open(self) -> bool:
        """Whether there is a critical variance that its points do not determine: no side of the interval is known."""
        return self.critical_variance is not None and is_open(self.ci95)

    @property
    def determined(self) -> float | None:
        """The critical variance, None if the points do not determine it."""
        return None if self.is_open else self.critical_variance

    @property
    def why_undetermined(self) -> str | None:
        """Why the points determine no critical variance, None if they do."""
        return OPEN if self.is_open else self.reason


def from_json(kind: type[Result], record: Any, name: str) -> Result:
    """Build a result from its JSON form, by the type hints of its dataclass.

    Parameters
    ----------
    kind
        Dataclass of the result.
    record
        Its JSON form; keys without a field are ignored, and a missing key takes the field's default.
    name
        What error messages call the record, such as the path of its file.

    Raises
    ------
    InputError
        If a key without default is missing, or if a value does not have the type of its hint.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(record), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        *path, last = first["loc"] or ("",)
        place = f"{name}: {dotted_key(path)}" if path else name
        if first["type"] == "missing":
            raise InputError(f"{place}: key '{last}' is missing") from None
        words = _TYPES.get(first["type"], first["msg"])
        raise InputError(f"{name}: {dotted_key(first['loc'])}: {shown(first['input'])}, must be {words}") from None
