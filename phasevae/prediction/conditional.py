"""A prediction for data with a condition that encoder and decoder see: one for each class, and their mean."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from phasevae.datasets.base import Dataset
from phasevae.datasets.class_streams import streams_of_classes
from phasevae.datasets.feature_statistics import feature_statistics, reading_of_rows
from phasevae.datasets.samples import read_samples
from phasevae.datasets.store import is_saved, read_record
from phasevae.errors import InputError
from phasevae.prediction.few_rows import few_rows_of_kl
from phasevae.prediction.losses import LEARNED, PER_FEATURE
from phasevae.spectrum.conditional import residuals
from phasevae.spectrum.spectrum import Spectrum
from phasevae.wording import plain, with_error

if TYPE_CHECKING:
    from rich.console import Console

    from phasevae.datasets.reading import Reading
    from phasevae.prediction.explained import Explained
    from phasevae.prediction.optimum import Threshold

_WIDTH = 120


@dataclass(frozen=True)
class ClassPrediction:
    """The prediction for the rows of one class: its value and its share of all rows."""

    value: Any
    share: float
    prediction: Explained  # a Prediction, whose module imports this one


@dataclass(frozen=True, repr=False)
class ConditionalPrediction:
    """A prediction for data with classes. `print` shows what `phasevae predict` prints.

    Networks that see the class treat each class by itself, so the KL is the mean of those of the classes, and a model
    collapses when its last class does.

    Attributes
    ----------
    classes : tuple of ClassPrediction
    reading : Reading or None
        What was read.
    """

    classes: tuple[ClassPrediction, ...]
    reading: Reading | None = None

    @property
    def kl(self) -> float:
        """KL of all latents together, in nats per sample; as in `Optimum` where few samples carry a component."""
        return sum(each.share * each.prediction.kl for each in self.classes)

    @property
    def leading(self) -> ClassPrediction:
        """The class that collapses last."""
        return max(self.classes, key=lambda each: each.prediction.critical_kl_weight)

    @property
    def critical_variance(self) -> float:
        """Effective variance above which every class is collapsed."""
        return self.leading.prediction.critical_variance

    @property
    def critical_kl_weight(self) -> float:
        """Weight of KL above which every class is collapsed."""
        return self.leading.prediction.critical_kl_weight

    @property
    def thresholds(self) -> list[Threshold]:
        """Where a latent of some class dies, the largest KL weight first; `latents` and `keeps` are of its class."""
        found = [threshold for each in self.classes for threshold in each.prediction.thresholds]
        return sorted(found, key=lambda threshold: threshold.kl_weight, reverse=True)

    @property
    def active_dims(self) -> int:
        """Least number of active latents: that of the class with the most."""
        return max(each.prediction.active_dims for each in self.classes)

    def at(self, kl_weight: float) -> ConditionalPrediction:
        """Return the prediction for another weight of KL. Raises InputError if it is not a positive number."""
        return replace(
            self, classes=tuple(replace(each, prediction=each.prediction.at(kl_weight)) for each in self.classes)
        )

    def kl_weight_for(self, kl: float) -> NoReturn:
        """Raise InputError: the classes have different KL at the same weight."""
        raise InputError(f"target_kl: {kl!r}, must be left out for data with classes, which differ in KL")

    @property
    def headline(self) -> str:
        """What to expect, in one sentence."""
        active = [each for each in self.classes if each.prediction.active_dims]
        if not active:
            return (
                f"Every class is collapsed: below the KL weight {self._weight()} a latent lives, in class "
                f"{self.leading.value}."
            )
        state = "Every class is active" if len(active) == len(self.classes) else self._some(active)
        kl = f"{plain(self.kl)} nats" if self._knows_kl else "not known, as a few samples carry a latent"
        return f"{state}: KL {kl}. All are collapsed from the KL weight {self._weight()} on."

    @property
    def _knows_kl(self) -> bool:
        return all(few_rows_of_kl(each.prediction) is None for each in self.classes)

    def _some(self, active: list[ClassPrediction]) -> str:
        return f"{len(active)} of {len(self.classes)} classes are active, the others collapsed"

    def _weight(self) -> str:
        found = self.leading.prediction
        return with_error(found.critical_kl_weight, float(found.relative_errors[0]) * found.critical_kl_weight)

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=io.StringIO(), width=_WIDTH)
        self.show(console)
        return console.file.getvalue().rstrip("\n")

    __repr__ = __str__

    def show(self, console: Console) -> None:
        """Print the prediction, the headline first."""
        from rich.table import Table

        if self.reading is not None:
            console.print(str(self.reading), highlight=False, markup=False, soft_wrap=True)
        console.print(self.headline, highlight=False, markup=False, style="bold", soft_wrap=True)
        console.print()
        heads = ("class", "share", "critical variance", "critical KL weight", "active latents", "KL (nats)")
        table = Table(*heads, box=None, pad_edge=False, header_style="bold")
        for each in self.classes:
            found = each.prediction
            error = float(found.relative_errors[0])
            numbers = (found.critical_variance, found.critical_kl_weight)
            shown = [with_error(number, error * number) for number in numbers]
            kl = plain(found.kl) if few_rows_of_kl(found) is None else "not known"
            table.add_row(str(each.value), f"{each.share:.3g}", *shown, str(found.active_dims), kl)
        console.print(table)
        console.print()
        for line in self._warnings():
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _warnings(self) -> list[str]:
        """One warning of each code: that of the first class that has it, and how many others have it."""
        of: dict[str, list[tuple[str, str]]] = {}
        for each in self.classes:
            for warning in each.prediction.warnings:
                of.setdefault(warning.code, []).append((str(each.value), warning.message))
        return [
            f"warning [{code}] (class {said[0][0]}{f' and {len(said) - 1} more' * (len(said) > 1)}): {said[0][1]}"
            for code, said in of.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the keys of `phasevae predict --json`."""
        return {
            "read": None if self.reading is None else self.reading.to_json(),
            "headline": self.headline,
            "critical_variance": self.critical_variance,
            "critical_kl_weight": self.critical_kl_weight,
            "active_dims": self.active_dims,
            "kl": self.kl if self._knows_kl else None,
            "conditions": [
                {"value": each.value, "share": each.share, **each.prediction.to_json()} for each in self.classes
            ],
        }


def has_condition(data: Any, options: Mapping[str, Any]) -> bool:
    """Return whether there is a condition: among the options of the reader, or saved with the data.

    A spectrum of residuals alone, of a condition of numbers, is used as any other.
    """
    if options.get("condition") is not None:
        return True
    if isinstance(data, Spectrum):
        return bool(data.conditions)
    if isinstance(data, Dataset):
        return data.condition is not None
    is_folder = isinstance(data, str | os.PathLike) and is_saved(Path(data))
    return is_folder and read_record(Path(data)).condition is not None


@dataclass(frozen=True)
class Parts:
    """What a prediction is made of: the rows, or the spectrum, of each class; or those that numbers leave (`rest`)."""

    classes: tuple[tuple[Any, float, Any], ...]  # value, share, rows
    rest: Any = None
    reading: Reading | None = None


def parts_of(data: Any, options: Mapping[str, Any]) -> Parts:
    """Read data with a condition.

    Parameters
    ----------
    data : samples or Spectrum
        See `phasevae.predict`.
    options : mapping
        Those of its reader.
    """
    if isinstance(data, Spectrum):
        spectra = tuple((each.value, each.share, each.spectrum) for each in data.conditions)
        return Parts(spectra, reading=data.reading)
    rows = read_samples(data, **options)
    features = feature_statistics(rows)
    reading = reading_of_rows(rows, features)
    if rows.condition.is_classes:
        classes = tuple((each.value, each.share, each.rows) for each in streams_of_classes(rows))
        return Parts(classes, reading=reading)
    preparation = (*reading.preparation, f"less regression on {rows.condition.source or 'the condition'}")
    rest = replace(residuals(rows, features).rows, reading=replace(reading, preparation=preparation))
    return Parts((), rest, reading)


def conditional_prediction(parts: Parts, predict: Callable[[Any], Explained]) -> Explained | ConditionalPrediction:
    """Return the prediction for data with a condition.

    Parameters
    ----------
    parts : Parts
    predict : callable
        Predicts for some rows, or a spectrum.

    Raises
    ------
    InputError
        For a variance that is learned: all classes would share it.
    """
    if not parts.classes:
        return predict(parts.rest)
    found = []
    for value, share, rows in parts.classes:
        prediction = predict(rows)
        if prediction.setting.loss.decoder in (LEARNED, PER_FEATURE):
            raise InputError(
                f"condition: must be left out for the loss {prediction.setting.loss.name}, whose variance is learned"
            )
        found.append(ClassPrediction(value, share, prediction))
    return ConditionalPrediction(tuple(found), parts.reading)
