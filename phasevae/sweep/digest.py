"""TODO."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from phasevae.artifacts.files import json_sha256
from phasevae.artifacts.source_hash import PACKAGE, source_hash
from phasevae.kernels import backends
from phasevae.sweep.settings import Member, Settings

NOT_ENTERED = (
    "phasevae.artifacts.environment",  # what is recorded about the origin of a result is none of its numbers
    "phasevae.sweep.digest",
    "phasevae.provenance.stages",
    "phasevae.artifacts.schemas",  # refuses damaged files
    "phasevae.datasets.registry:KINDS",  # of the registries a stage runs one entry, which is its root
    "phasevae.figures.registry:FIGURES",
)
"""Modules and definitions that no hash of a stage's code follows."""

VERDICT = "phasevae.sweep.convergence:is_converged"
"""Whether a point converged decides how long it is trained, but none of its numbers."""


def point_digest(settings: Settings, member: Member, data_sha256: str, code_hash: str) -> str:
    """The identity of a point's numbers: everything they depend on but the machine."""
    keys = {"settings": asdict(settings), **asdict(member), "data_sha256": data_sha256, "code_hash": code_hash}
    return json_sha256(keys)


def training_code_hash() -> str:
    """Hash of everything that a trained point's numbers depend on beside data and settings: the training and
    measuring code, the family of the backend and, for native ones, the sources of the kernels. What is recorded
    about the origin of a point is none of its numbers.

    Raises InputError when PHASEVAE_BACKEND asks for a backend that is not there.
    """
    family = backends.family()
    record = backends.build_record() if family == "native" else None
    return json_sha256({"python": training_sources(), "native": record and record["sources"], "backend": family})


def training_sources(package: Path = PACKAGE) -> str:
    """Hash of the training and measuring code in the folder `package`."""
    return source_hash("phasevae.training.job:run_job", without=(*NOT_ENTERED, VERDICT), package=package)
