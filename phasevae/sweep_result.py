"""What a sweep in Python returns: its tables, with the fit and the figures that they give."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from phasevae.analysis.pipeline import Analysis, analyse
from phasevae.analysis.sweep_table import SweptQuantity
from phasevae.analysis.verdict import verdict
from phasevae.artifacts.files import write_json
from phasevae.artifacts.tables import write_table
from phasevae.errors import InputError
from phasevae.figures.registry import render_figure
from phasevae.prediction.conditional import ConditionalPrediction
from phasevae.prediction.predict import Prediction
from phasevae.provenance.stages import provenance_record
from phasevae.spectrum.spectrum import Spectrum
from phasevae.sweeps.points import Task
from phasevae.wording import counted, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from phasevae.trained import TrainedVAE

_CLOSE = 1e-9
_MOST_NAMED = 8
"""A message names at most this many weights."""


@dataclass(frozen=True, repr=False)
class SweepResult:
    """A finished sweep.

    Attributes
    ----------
    sweep, dimensions, histories, timing : DataFrame
        One row for each model, latent, record of a training, and model; the columns are those of the workflow's files.
    spectrum : Spectrum
    prediction : Prediction or ConditionalPrediction
        That of `phasevae.predict` for the loss.
    n_latent : int
    weights : list of float
        In the units of the loss, ascending.
    unit : float
        What a weight of 1 is in the abscissa of tables and figures, beta * sigma2.
    folder : Path
        Where the points are: your folder, or a temporary one that is removed together with this object.
    """

    sweep: pd.DataFrame
    dimensions: pd.DataFrame
    histories: pd.DataFrame
    timing: pd.DataFrame
    spectrum: Spectrum
    prediction: Prediction | ConditionalPrediction
    n_latent: int
    weights: list[float]
    unit: float
    folder: Path
    tasks: Sequence[Task] = field(repr=False)
    place: Any = field(default=None, repr=False)  # a temporary folder is removed with it
    build: Any = field(default=None, repr=False)  # the networks of the user's own

    def __repr__(self) -> str:
        ends = f"{plain(self.weights[0])} to {plain(self.weights[-1])}"
        return f"<SweepResult: {counted(len(self.sweep), 'model')}, weights {ends}>"

    def fit(
        self, model: str | None = None, window: tuple[float, float] | None = None, converged_only: bool = False
    ) -> Analysis:
        """Fit the transition.

        Parameters
        ----------
        model : str, optional
            The form that gives the critical variance; by default the data choose it.
        window : pair of float, optional
            Lowest and highest point of the forms with one mode, in the units of `critical_variance`: `unit` times a
            weight.
        converged_only : bool
            Leave out the points that are not known to have converged.

        Returns
        -------
        Analysis
            The content of fit.json: `critical_variance` with `ci95`, order, exponents, thresholds, warnings.

        Raises
        ------
        InputError
            For an unknown model, a window that is none or holds no point, and if no point would be left.

        Warns
        -----
        UserWarning
            Of each of the `warnings` of the result, and of its `reason` and `advice` if there is no critical variance.
        """
        fit = self._analysis(model=model, window=window, converged_only=converged_only)
        # Of a hierarchy with a fixed variance nothing is meant to be fitted: its phases are the result.
        is_missing = fit.critical_variance is None and not fit.hierarchy
        reasons = [text for text in (fit.reason, fit.advice) if is_missing and text is not None]
        missing = [f"critical_variance is None: {'; '.join(reasons)}"] if reasons else []
        for line in [*fit.warnings, *missing]:
            warnings.warn(line, UserWarning, stacklevel=2)
        return fit

    def _analysis(self, **options: Any) -> Analysis:
        tables = {"dimensions": self.dimensions, "histories": self.histories}
        swept = SweptQuantity("weight", self.unit)
        return analyse(self.sweep, self.spectrum, self.n_latent, **tables, **options, swept=swept)

    def plot(self, figure: str = "kl") -> Figure:
        """Draw a figure of `phasevae plot`: kl, elbo, latent_variance, kl_derivatives, spectrum, cascade, ...

        Raises InputError for an unknown name, which lists all, and for a figure of tables that a sweep in Python lacks.
        """
        tables = {"sweep": self.sweep, "dimensions": self.dimensions}
        return render_figure(figure, **tables, fit=self._analysis(), spectrum=self.spectrum)

    def load(self, weight: float, seed: int | None = None) -> TrainedVAE:
        """Return a trained model.

        Parameters
        ----------
        weight : float
            One of `weights`.
        seed : int, optional
            By default the first.

        Raises
        ------
        InputError
            If no model was trained with this weight and seed.
        """
        from phasevae.stored import load

        try:
            wanted = float(weight) * self.unit
        except (TypeError, ValueError):
            raise InputError(f"weight: {weight!r}, must be a number") from None
        trained = {}
        for task in self.tasks:
            product = task.member.beta * task.member.sigma2
            if abs(product - wanted) <= _CLOSE * product:
                trained.setdefault(task.member.seed, task)
        if not trained:
            raise InputError(f"weight: {weight!r}, must be {self._choice_near(float(weight))}")
        if seed is None:
            seed = next(iter(trained))
        if seed not in trained:
            raise InputError(f"seed: {seed!r}, must be one of {', '.join(map(str, trained))}")
        return load(trained[seed].folder, build=self.build)

    def _choice_near(self, weight: float) -> str:
        """Name the weights that there are, or of many the nearest one, with all their digits."""
        if len(self.weights) <= _MOST_NAMED:
            return f"one of {', '.join(map(repr, self.weights))}"
        return f"one of the attribute `weights`, nearest is {min(self.weights, key=lambda each: abs(each - weight))!r}"

    def save(self, folder: Path | str) -> Path:
        """Write everything to a new folder, in the layout of the workflow, and fit.json.

        Raises InputError if the folder is there already and is not the one of the sweep.
        """
        folder = Path(folder)
        if folder.resolve() != self.folder.resolve():
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise InputError(f"{folder}: is not empty, must be a new folder")
            shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("*.lock"), dirs_exist_ok=True)
        fit = self._analysis()
        path = folder / "fit.json"
        inputs = [folder / name for name in ("sweep.csv", "spectrum.json", "dimensions.csv", "histories.csv")]
        write_json(path, {"verdict": verdict(fit), **asdict(fit), "provenance": provenance_record(path, "fit", inputs)})
        return folder


def write_tables(tasks: Sequence[Task], folder: Path) -> dict[str, pd.DataFrame]:
    """Gather trained points into tables, and write them to a folder; return the tables by name."""
    from phasevae.measurement import tables

    points = tables.read_planned(tasks)
    made = {
        "sweep": tables.sweep_table(points),
        "dimensions": tables.dimensions_table(points),
        "histories": tables.histories_table(points),
        "timing": tables.timing_table(points),
    }
    sweep = folder / "sweep.csv"
    for name, table in made.items():
        path = folder / f"{name}.csv"
        first = name == "sweep"
        origin = provenance_record(path, "collect", (folder / "plan.csv",) if first else (sweep,))
        write_table(path, table, origin | (tables.provenance_of(points, path) if first else {}))
    return made
