"""The digest of a point: the identity of its numbers, from its settings, its data and the code of the training."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from phasevae.artifacts.files import file_sha256, json_sha256
from phasevae.artifacts.source_hash import PACKAGE, source_hash
from phasevae.errors import InputError
from phasevae.kernels import backends
from phasevae.sweeps.settings import Member, Settings, own_module

NOT_ENTERED = (
    "phasevae.artifacts.environment",  # records the origin of a result, which changes no number
    "phasevae.sweeps.digest",
    "phasevae.sweeps.config_keys",  # defaults and descriptions: the values of settings are in the digest of a point
    "phasevae.provenance.stages",
    "phasevae.artifacts.schemas",  # refuses damaged files
    "phasevae.artifacts.table_schemas",
    "phasevae.datasets.registry:KINDS",  # a stage runs one entry of a registry, and that is its root
    "phasevae.figures.registry:FIGURES",
)
"""Modules and definitions that no hash of a stage's code follows."""

OWN_LIKELIHOOD = "phasevae.prediction.own_likelihood:own_likelihood"
"""Fits the constant decoder of a function of the user's own."""

VERDICT = "phasevae.sweeps.convergence:is_converged"
"""Decides how long a point is trained, but changes none of its numbers."""


def point_digest(settings: Settings, member: Member, data_sha256: str, code_hash: str) -> str:
    """sha256 (hex) of everything that a point's numbers depend on, except the machine."""
    keys = {"settings": settings.model_dump(), **asdict(member), "data_sha256": data_sha256, "code_hash": code_hash}
    return json_sha256(keys)


def training_code_hash(settings: Settings | None = None) -> str:
    """Hash of the code that a trained point's numbers depend on.

    It covers the code of training and measurement, the family of the backend and, if that is native, the sources of
    the kernels, and whether a GPU may compute in TF32. With settings, also the content of the user's own Python files
    that they name, and the code that fits a likelihood of the user's own.

    Raises InputError if PHASEVAE_BACKEND asks for a backend that is not available, and for a file that is missing.
    """
    family = backends.family()
    record = backends.build_record() if family == "native" else None
    keys = {"python": training_sources(), "native": record and record["sources"], "backend": family}
    if backends.allows_tf32():
        keys["tf32"] = True
    module = None if settings is None else own_module(settings.model_dump())
    if module is not None:
        if not module.is_file():
            raise InputError(f"{module}: no such file")
        keys["own_likelihood"] = [file_sha256(module), source_hash(OWN_LIKELIHOOD, without=NOT_ENTERED)]
    return json_sha256(keys)


def training_sources(package: Path = PACKAGE) -> str:
    """Hash of the training and measuring code in the folder `package`."""
    return source_hash("phasevae.training.job:run_job", without=(*NOT_ENTERED, VERDICT), package=package)
