"""The origin of a result: the stage that made it, a hash of its code, its inputs, the version and the commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from phasevae.artifacts.environment import environment
from phasevae.artifacts.figures import read_png_origin
from phasevae.artifacts.files import file_sha256, is_open_pipe, json_sha256, read_json
from phasevae.artifacts.source_hash import source_hash
from phasevae.artifacts.tables import metadata_path
from phasevae.errors import InputError
from phasevae.sweeps.digest import NOT_ENTERED, VERDICT, training_code_hash


class UnknownStageError(InputError):
    """A stage or a figure that this version does not have."""


_STAGES = {
    "spectrum": ("phasevae.spectrum.measure:spectrum_of", "phasevae.spectrum.spectrum_files:write_spectrum"),
    "scores": (
        "phasevae.prediction.score_spectrum:spectrum_of_likelihood",
        "phasevae.spectrum.spectrum_files:write_spectrum",
    ),
    "moments": ("phasevae.spectrum.sharded", "phasevae.datasets.store:load_dataset"),
    "plan": ("phasevae.sweeps.plan:make_plan", "phasevae.sweeps.plan:write_plan"),
    "collect": ("phasevae.measurement.tables",),
    "fit": ("phasevae.analysis.pipeline", "phasevae.analysis.verdict"),
    "refine": ("phasevae.sweeps.refine", "phasevae.sweeps.plan:make_plan", "phasevae.sweeps.plan:write_plan"),
    "bracket": ("phasevae.analysis.bracketing",),
    "hysteresis": ("phasevae.training.hysteresis",),
    "verdict": (VERDICT,),
    "stability": ("phasevae.measurement.stability",),
}
"""The code that each stage starts with."""


def stage_code(stage: str, entry: str = "") -> str:
    """Return the hash of the code of a stage of the workflow.

    Parameters
    ----------
    stage : str
    entry : str
        For the stage dataset the kind of data, for the stage figure the name of the figure.

    Raises
    ------
    UnknownStageError
        If there is no such stage or figure.
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
            "phasevae.artifacts.figures:write_figure",
        )
    elif stage not in _STAGES:
        raise UnknownStageError(f"stage '{stage}': phasevae has none of this name")
    else:
        roots = _STAGES[stage]
    code = source_hash(*roots, without=NOT_ENTERED)
    return json_sha256([code, training_code_hash()]) if stage == "hysteresis" else code


def _root(function: Callable) -> str:
    return f"{function.__module__}:{function.__name__}"


def provenance_record(
    output: Path, stage: str, inputs: Iterable[Path | None] = (), entry: str = "", **more: Any
) -> dict[str, Any]:
    """Return the origin of an artifact: {stage, entry, version, git, dirty, python, code_hash, inputs, ...more}.

    Parameters
    ----------
    output : Path
        The artifact.
    stage, entry : str
        See `stage_code`.
    inputs : iterable of Path or None
        The files it is made from; None for an input that was not given. They are recorded with their sha256, and with
        paths relative to the folder of `output`, so that results may be moved. A pipe cannot be read again: it is not
        recorded.
    **more
        Further keys.
    """
    files = [path for path in inputs if path is not None and not is_open_pipe(path)]
    digests = {os.path.relpath(path, output.parent): file_sha256(path) for path in files}
    names = {"stage": stage, "entry": entry} if entry else {"stage": stage}
    return {**names, **environment(), "code_hash": stage_code(stage, entry), "inputs": digests, **more}


def read_provenance(path: Path | str) -> dict[str, Any] | None:
    """Return the origin that an artifact (JSON, a table, PNG) carries; None if it carries none.

    Raises InputError that names a file that is missing or damaged.
    """
    path = Path(path)
    if path.suffix == ".csv":
        if not metadata_path(path).is_file():
            return None
        notes = read_json(metadata_path(path)).get("notes")
        described = isinstance(notes, list) and notes and isinstance(notes[0], dict)
        origin = notes[0].get("provenance") if described else None
    elif path.suffix == ".png":
        origin = read_png_origin(path)
    else:
        record = read_json(path)
        origin = record.get("made_by", record.get("provenance"))
    return origin if isinstance(origin, dict) else None
