"""A finished run as an RO-Crate (Soiland-Reyes et al., Data Science 5, 97, 2022; specification 1.1): the files with a
machine-readable description of what they are and what made them, for a repository or a reader years from now."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from phasevae.artifacts.environment import environment
from phasevae.artifacts.files import file_sha256, read_json, replacing
from phasevae.errors import InputError
from phasevae.provenance.manifest import MANIFEST, artifact_files
from phasevae.provenance.verify import verify_results

_KINDS = {
    ".json": "application/json",
    ".csv": "text/csv",
    ".npy": "application/x-npy",
    ".png": "image/png",
    ".pdf": "application/pdf",
    ".safetensors": "application/x-safetensors",
}

_WORDS = {
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
    """Write the results of `folder` as a crate: a zip file if `output` is named so, else a new folder.
    data.npy is left out unless `with_data`: data.json says how it is made again, with its digest.

    Returns the number of files. Raises InputError when there are no results, one was altered after it was written,
    `output` exists or rocrate is not there.
    """
    try:
        from rocrate.rocrate import ROCrate
    except ImportError:
        raise InputError("export: needs the package rocrate, which is not installed (pip install rocrate)") from None
    if output.exists():
        raise InputError(f"{output}: is there already, must be a new folder or .zip file")
    altered = [one for one in verify_results(folder)[0] if one.state == "altered"]
    if altered:
        raise InputError(f"{folder / altered[0].path}: {altered[0].reason}; `phasevae verify` tells all")
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
    described = _WORDS.get(name) or (f"Figure: {path.stem}" if path.suffix in (".png", ".pdf") else "")
    return {
        "name": name,
        "encodingFormat": _KINDS.get(path.suffix, "text/html"),
        "contentSize": str(path.stat().st_size),
        "sha256": file_sha256(path),
        **({"description": described} if described else {}),
    }


def _described(folder: Path) -> str:
    """Each data set with its predicted and its fitted critical variance."""
    told = []
    for path in sorted(folder.glob("*/fit.json")):
        fit = read_json(path, ("critical_variance", "predicted"), "fit")
        predicted = (fit["predicted"] or {}).get("critical_variance")
        told.append(f"{path.parent.name}: critical variance {fit['critical_variance']}, predicted {predicted}")
    return "; ".join(told) or "Results of phasevae"


def _add_run(crate: Any, files: list[Any]) -> None:
    """The software and the run that made the files (the terms of the profile Process Run Crate)."""
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
