"""Results as dataclasses: the estimate that all parts of the analysis share, and how a result is read from JSON.

`dataclasses.asdict` gives the JSON form of a result, with its fields as keys in their order. `from_json` is the
inverse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from phasevae.errors import InputError

Interval = list[float | None]
"""Lowest and highest value of a 95 % interval; None on a side that the data leave open."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; None where it is undetermined."""

    value: float | None = None
    ci95: Interval | None = None


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
        If a key without default is missing, or if a value has another structure than its type hint.
    """
    _check(record, Mapping, name)
    hints = get_type_hints(kind)
    values = {}
    for field in fields(kind):
        if field.name in record:
            values[field.name] = _convert(hints[field.name], record[field.name], f"{name}: {field.name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise InputError(f"{name}: key '{field.name}' is missing")
    return kind(**values)


def _convert(hint: Any, value: Any, name: str) -> Any:
    """The value of one field: nested dataclasses, lists and dicts of them, or None where the hint allows it."""
    arguments = get_args(hint)
    if type(None) in arguments:
        return None if value is None else _convert(arguments[0], value, name)
    if is_dataclass(hint):
        return from_json(hint, value, name)
    if get_origin(hint) is list:
        return [_convert(arguments[0], item, name) for item in _check(value, list, name)]
    if get_origin(hint) is dict:
        return {
            key: _convert(arguments[1], item, f"{name}: {key}") for key, item in _check(value, Mapping, name).items()
        }
    return value


def _check(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise InputError(f"{name}: {value!r:.60}, must be {'a list' if kind is list else 'an object'}")
    return value
