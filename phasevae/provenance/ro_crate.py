"""Finished results as an RO-Crate: the files with a machine-readable description of their content and origin.

References
----------
S. Soiland-Reyes et al., Packaging research artefacts with RO-Crate, Data Science 5, 97 (2022). Specification 1.1.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from phasevae.analysis.records import is_open
from phasevae.artifacts.environment import environment
from phasevae.artifacts.files import file_sha256, read_json, replacing
from phasevae.errors import InputError
from phasevae.provenance.manifest import MANIFEST, artifact_files
from phasevae.provenance.verify import verify_results

_MEDIA_TYPES = {
    ".json": "application/json",
    ".csv": "text/csv",
    ".npy": "application/x-npy",
    ".png": "image/png",
    ".pdf": "application/pdf",
    ".safetensors": "application/x-safetensors",
}

_DESCRIPTIONS = {
    "data.npy": "Samples as they were fed to the networks, float32 [N, D]",
    "data.json": "The data set: size, preprocessing, source, digest",
    "spectrum.json": "Eigenvalues of the data covariance; the largest is the predicted critical decoder variance",
    "plan.csv": "The points of the sweep",
    "sweep.csv": "Every trained model: ELBO and its parts, active dimensions, convergence",
    "dimensions.csv": "Every latent dimension of every trained model",
    "fit.json": "Critical variance with its interval, order of the transition, exponents",
    "point.json": "One trained model, measured on the whole data set",
    "weights.safetensors": "Weights of one trained model",
    "history.csv": "How one model was trained",
}


def export(folder: Path, output: Path, with_data: bool = False, date: datetime.date | None = None) -> int:
    """Write results as a crate and return its number of files.

    Parameters
    ----------
    folder : Path
        The results folder.
    output : Path
        A new .zip file, or else a new folder.
    with_data : bool
        Whether data.npy is included. Without it, data.json says how to make it again, with its digest.
    date : date, optional
        The date of publication; today by default.

    Raises
    ------
    InputError
        If there are no results, a file was altered, `output` exists or the package rocrate is not installed.
    """
    try:
        from rocrate.rocrate import ROCrate
    except ImportError:
        raise InputError("export: needs the package rocrate, which is not installed (pip install rocrate)") from None
    if output.exists():
        raise InputError(f"{output}: exists, must be a new folder or .zip file")
    altered = [finding for finding in verify_results(folder)[0] if finding.state == "altered"]
    if altered:
        raise InputError(f"{folder / altered[0].path}: {altered[0].reason}; `phasevae verify` lists all")
    files = [path for path in artifact_files(folder) if with_data or path.name != "data.npy"]
    files += [path for path in (folder / MANIFEST, folder / "report.html") if path.is_file()]
    crate = ROCrate()
    crate.name = "Posterior collapse of variational autoencoders: data, trained models, fits and figures"
    crate.description = _described(folder)
    crate.datePublished = date or datetime.datetime.now(datetime.UTC).date()
    crate.license = "https://spdx.org/licenses/MIT"
    added = [crate.add_file(path, path.relative_to(folder).as_posix(), properties=_properties(path)) for path in files]
    _add_run(crate, added)
    write = crate.write_zip if output.suffix == ".zip" else crate.write
    with replacing(output) as temporary:
        write(temporary)
    return len(files)


def _properties(path: Path) -> dict[str, Any]:
    name = path.name
    described = _DESCRIPTIONS.get(name) or (f"Figure: {path.stem}" if path.suffix in (".png", ".pdf") else "")
    return {
        "name": name,
        "encodingFormat": _MEDIA_TYPES.get(path.suffix, "text/html"),
        "contentSize": str(path.stat().st_size),
        "sha256": file_sha256(path),
        **({"description": described} if described else {}),
    }


def _described(folder: Path) -> str:
    """Each data set with its predicted and its fitted critical variance."""
    sentences = []
    for path in sorted(folder.glob("*/fit.json")):
        fit = read_json(path, ("critical_variance", "predicted"), "fit")
        predicted = (fit["predicted"] or {}).get("critical_variance")
        fitted = "not determined" if is_open(fit.get("ci95")) else fit["critical_variance"]
        sentences.append(f"{path.parent.name}: critical variance {fitted}, predicted {predicted}")
    return "; ".join(sentences) or "Results of phasevae"


def _add_run(crate: Any, files: list[Any]) -> None:
    """Describe the software and the run that made the files, in the terms of the profile Process Run Crate."""
    from rocrate.model.contextentity import ContextEntity

    made = environment()
    software = {
        "@type": "SoftwareApplication",
        "name": "phasevae",
        "softwareVersion": made["version"],
        "description": f"commit {made['git'] or 'unknown'}{' with changes' if made['dirty'] else ''}",
        "softwareRequirements": f"Python {made['python']}",
    }
    tool = crate.add(ContextEntity(crate, "#phasevae", properties=software))
    action = {"@type": "CreateAction", "name": "Reproduction run", "instrument": {"@id": tool.id}}
    run = crate.add(ContextEntity(crate, "#run", properties=action))
    run["result"] = files
    crate.root_dataset["mentions"] = run
