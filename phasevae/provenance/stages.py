"""What produced a result: a hash of the code it depends on, the backend, the version and the commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from phasevae.artifacts.environment import environment
from phasevae.artifacts.files import file_sha256, json_sha256
from phasevae.artifacts.source_hash import source_hash
from phasevae.errors import InputError
from phasevae.sweep.digest import NOT_ENTERED, VERDICT, training_code_hash


class UnknownStageError(InputError):
    """A stage, or a figure, that this version does not have."""


_STAGES = {
    "spectrum": ("phasevae.spectrum.spectrum:spectrum_of", "phasevae.spectrum.spectrum:write_spectrum"),
    "moments": ("phasevae.spectrum.sharded", "phasevae.datasets.store:load_dataset"),
    "plan": ("phasevae.sweep.plan:make_plan", "phasevae.sweep.plan:write_plan"),
    "collect": ("phasevae.measurement.tables",),
    "fit": ("phasevae.analysis.pipeline",),
    "refine": ("phasevae.sweep.refine", "phasevae.sweep.plan:make_plan", "phasevae.sweep.plan:write_plan"),
    "bracket": ("phasevae.analysis.bracketing",),
    "hysteresis": ("phasevae.training.hysteresis",),
    "verdict": (VERDICT,),
    "stability": ("phasevae.measurement.stability",),
}
"""What each stage starts with."""


def stage_code(stage: str, entry: str = "") -> str:
    """Hash of the code of a stage of the workflow. `entry`: the kind of the stage dataset, the figure of figure.

    Raises UnknownStageError when there is no such stage or figure.
    """
    if stage == "train":
        return training_code_hash()
    if stage == "dataset":
        from phasevae.datasets.registry import KINDS

        builder = (_root(KINDS[entry]),) if entry in KINDS else ()
        roots = ("phasevae.datasets.registry:build_dataset", "phasevae.datasets.store:save_dataset", *builder)
    elif stage == "figure":
        from phasevae.figures.registry import FIGURES

        if entry not in FIGURES:
            raise UnknownStageError(f"figure '{entry}': phasevae has none of this name")
        roots = (
            _root(FIGURES[entry].draw),
            "phasevae.figures.registry:render_figure",
            "phasevae.artifacts.files:write_figure",
        )
    elif stage not in _STAGES:
        raise UnknownStageError(f"stage '{stage}': phasevae has none of this name")
    else:
        roots = _STAGES[stage]
    found = source_hash(*roots, without=NOT_ENTERED)
    return json_sha256([found, training_code_hash()]) if stage == "hysteresis" else found


def _root(function: Callable) -> str:
    return f"{function.__module__}:{function.__name__}"


def provenance_record(
    output: Path, stage: str, inputs: Iterable[Path | None] = (), entry: str = "", **more: Any
) -> dict[str, Any]:
    """Where an artifact at `output` comes from: {stage, version, git, dirty, python, code_hash, inputs, ...more}.

    inputs: sha256 of each input by its path relative to the folder of `output`, so that results may be moved; None
    stands for an input that was not given.
    """
    sums = {os.path.relpath(path, output.parent): file_sha256(path) for path in inputs if path is not None}
    named = {"stage": stage, "entry": entry} if entry else {"stage": stage}
    return {**named, **environment(), "code_hash": stage_code(stage, entry), "inputs": sums, **more}
