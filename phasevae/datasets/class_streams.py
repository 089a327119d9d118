"""The rows of each class of data with a condition, as streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from phasevae.datasets.base import SampleStream
from phasevae.datasets.conditions import class_rows


@dataclass(frozen=True)
class ClassRows:
    """The rows of one class: its value, its share of all rows, and their stream."""

    value: Any
    share: float
    rows: SampleStream


def streams_of_classes(rows: SampleStream) -> list[ClassRows]:
    """Return the rows of each class of a condition; none for a condition of numbers."""
    condition = rows.condition
    if not condition.is_classes:
        return []

    def of_class(number: int, value: Any) -> SampleStream:
        label = f"{rows.label} of class {value}"
        return SampleStream(lambda: class_rows(condition, number, rows.read()), rows.dimension, label)

    shares = condition.shares
    return [ClassRows(value, float(shares[k]), of_class(k, value)) for k, value in enumerate(condition.coding.classes)]
