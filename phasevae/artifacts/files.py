"""The only module that reads or writes result files.

Every file is written under a temporary name beside its destination and renamed, so a reader sees the old
file, the new file or none. What a later run builds on carries the sha256 of its own content, so that a file which
was cut off or altered is noticed. JSON holds null for what is undefined, never NaN.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phasevae.artifacts.schemas import check_record
from phasevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


_SEAL = "record_sha256"
_PNG_KEY = "phasevae"
_NUMBERS = ("parse_int", "parse_float", "parse_constant")
_DATATYPES = {"i": "integer", "u": "integer", "f": "double", "b": "boolean"}


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` on success, remove it on failure.

    Raises OSError that names `path` when it cannot be written: a full disk, a folder that is read-only.
    """
    path = Path(path)
    if not path.name or path.is_dir():
        raise InputError(f"{path}: is a folder, must be the name of a file to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial(path: Path | str) -> None:
    """Remove what is left of attempts to write `path` that were killed. Nobody else may be writing it now."""
    path = Path(path)
    if path.parent.is_dir():
        for left in path.parent.iterdir():
            if left.name.startswith(f".{path.name}.") and ".partial" in left.name:
                shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def canonical_json(value: Any) -> str:
    """One string per value: sorted keys, no spaces, shortest exact floats."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def json_sha256(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_sha256(path: Path | str) -> str:
    """sha256 (hex) of a file's bytes, read in constant memory."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def readable_json(value: Mapping[str, Any]) -> str:
    """`value` in its key order, indented; arrays become lists, NaN and infinities null."""
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def write_json(path: Path | str, value: Mapping[str, Any], sealed: bool = True) -> None:
    """Write `readable_json`, `sealed` with the digest of the rest as its last key, by which `read_json` sees damage."""
    plain = {key: item for key, item in _plain(value).items() if key != _SEAL}
    with replacing(path) as temporary:
        temporary.write_text(readable_json({**plain, _SEAL: json_sha256(plain)} if sealed else plain) + "\n")


def read_json(path: Path | str, required: tuple[str, ...] = (), kind: str | None = None) -> dict[str, Any]:
    """Read a JSON object, without its seal, and check that it has the `required` keys and is as the schema of its
    `kind` has it (`phasevae.artifacts.schemas`).

    Raises InputError that names the file when it is missing, not JSON, not an object, lacks a key, holds a number that
    no computer number can be, is not what was written or does not meet the schema.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"), **dict.fromkeys(_NUMBERS, _number))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (ValueError, IsADirectoryError) as error:
        raise InputError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds a {type(value).__name__}, must be a JSON object")
    for key in required:
        if key not in value:
            raise InputError(f"{path}: key '{key}' is missing")
    seal = value.pop(_SEAL, None)
    if seal is not None and seal != json_sha256(value):
        raise InputError(f"{path}: altered after it was written ({_SEAL} is not that of its content); make it again")
    if kind is not None:
        check_record(path, value, kind)
    return value


def _number(text: str) -> float | int:
    """A number of a JSON text. Raises ValueError for one beyond double precision, NaN and infinities."""
    if text.lstrip("-").isdecimal() and len(text) < 19:
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"number {text[:20]}{'...' * (len(text) > 20)}")
    return int(text) if text.lstrip("-").isdecimal() else value


def write_table(path: Path | str, table: pd.DataFrame, provenance: Mapping[str, Any] | None = None) -> None:
    """Write a table as CSV with exact floats; undefined cells are empty. With `provenance`, describe it as well."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    if provenance is not None:
        describe_table(path, table, provenance)


def describe_table(path: Path | str, table: pd.DataFrame, provenance: Mapping[str, Any]) -> None:
    """Write the columns of the table at `path` and where it comes from beside it, to its `metadata_path`: a CSV file
    has no room for them (Tennison & Kellogg, Metadata Vocabulary for Tabular Data, W3C Recommendation 2015)."""
    columns = [
        {"name": str(name), "datatype": _DATATYPES.get(kind.kind, "string")} for name, kind in table.dtypes.items()
    ]
    metadata = {
        "@context": "http://www.w3.org/ns/csvw",
        "url": Path(path).name,
        "tableSchema": {"columns": columns},
        "notes": [{"provenance": {**provenance, "sha256": file_sha256(path)}}],
    }
    write_json(metadata_path(path), metadata, sealed=False)


def metadata_path(path: Path | str) -> Path:
    """Where the metadata of a table lie."""
    return Path(f"{path}-metadata.json")


def read_provenance(path: Path | str) -> dict[str, Any] | None:
    """What an artifact (JSON, a table, PNG) says of its own origin; None where it says nothing.

    Raises InputError that names a file that is missing or damaged.
    """
    path = Path(path)
    if path.suffix == ".csv":
        if not metadata_path(path).is_file():
            return None
        found = read_json(metadata_path(path)).get("notes")
        found = found[0].get("provenance") if isinstance(found, list) and found and isinstance(found[0], dict) else None
    elif path.suffix == ".png":
        found = _png_text(path)
    else:
        record = read_json(path)
        found = record.get("made_by", record.get("provenance"))
    return found if isinstance(found, dict) else None


def read_table(path: Path | str, required: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a CSV table with exact floats and check that it has rows and the `required` columns.

    Raises InputError that names the file and the column.
    """
    import pandas as pd

    path = Path(path)
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (ValueError, IsADirectoryError) as error:
        raise InputError(f"{path}: not a CSV table ({error})") from None
    for column in required:
        if column not in table.columns:
            raise InputError(f"{path}: column '{column}' is missing (found: {', '.join(table.columns)})")
    if table.empty:
        raise InputError(f"{path}: has no rows")
    return table


def write_tensors(path: Path | str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write arrays as safetensors; `metadata` is stored as one canonical JSON string, with a sha256 of all content.

    Raises OSError that names `path` when it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path = Path(path)
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    # One string: the library stores several in random order, and equal content must be equal bytes.
    header = {"phasevae": canonical_json({**metadata, _SEAL: _tensors_sha256(contiguous, metadata)})}
    # The library writes under a name of its own: in a folder of ours it can be found and removed after a kill.
    with replacing(path) as temporary:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        try:
            save_file(contiguous, folder / path.name, header)
            (folder / path.name).replace(temporary)
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(number and int(number[1]), os.strerror(int(number[1])) if number else str(error)) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def read_tensors(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read arrays and metadata written by `write_tensors`.

    Raises InputError that names the file when it is missing, truncated, altered or not ours.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as stream:
            metadata = json.loads((stream.metadata() or {})["phasevae"])
            sha256 = metadata.pop(_SEAL)
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: not a weights file of phasevae, or damaged ({error})") from None
    if sha256 != _tensors_sha256(tensors, metadata):
        raise InputError(f"{path}: altered after it was written ({_SEAL} is not that of its content)")
    return tensors, metadata


def _tensors_sha256(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> str:
    """sha256 (hex) of contiguous arrays with their names, types and shapes, and of the metadata."""
    found = hashlib.sha256(canonical_json(metadata).encode())
    for name, array in sorted(tensors.items()):
        found.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def write_figure(stem: Path | str, figure: Figure, provenance: Mapping[str, Any] | None = None) -> tuple[Path, Path]:
    """Write STEM.pdf and STEM.png without time stamps and with embedded outlines, so equal figures are equal files.

    Both carry where they come from: the PNG as text `phasevae`, the PDF among its keywords.
    """
    import matplotlib

    stem = Path(stem)
    if not stem.name:
        raise InputError(f"{stem}: is a folder, must be the name of a figure without its ending")
    paths = stem.with_name(stem.name + ".pdf"), stem.with_name(stem.name + ".png")
    origin = None if provenance is None else canonical_json(provenance)
    pdf = {"CreationDate": None, "ModDate": None, "Keywords": origin}
    png = {"Software": None} if origin is None else {"Software": None, _PNG_KEY: origin}
    for path, metadata in zip(paths, (pdf, png), strict=True):
        with replacing(path) as temporary, matplotlib.rc_context({"pdf.fonttype": 42}):
            figure.savefig(temporary, format=path.suffix[1:], metadata=metadata)
    return paths


def _png_text(path: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            return json.loads(image.info.get(_PNG_KEY, "null"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
        raise InputError(f"{path}: not a PNG file, or damaged ({error})") from None


def _plain(value: Any) -> Any:
    """Reduce numpy and pathlib values to JSON's own types; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value
