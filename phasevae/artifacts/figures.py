"""Figures as PDF and PNG files that are equal for equal figures and carry their origin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phasevae.artifacts.files import canonical_json, replacing
from phasevae.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PNG_KEY = "phasevae"


def write_figure(stem: Path | str, figure: Figure, provenance: Mapping[str, Any] | None = None) -> tuple[Path, Path]:
    """Write STEM.pdf and STEM.png without time stamps and with embedded outlines.

    Parameters
    ----------
    stem : Path or str
        The path without its ending.
    figure : Figure
    provenance : mapping, optional
        The origin of the figure: the text `phasevae` of the PNG, and the keywords of the PDF.

    Returns
    -------
    tuple of Path
        The PDF and the PNG file.
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


def read_png_origin(path: Path) -> Any:
    """Return the origin in a PNG file of `write_figure`, None if it has none. Raises InputError for a damaged file."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            return json.loads(image.info.get(_PNG_KEY, "null"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
        raise InputError(f"{path}: not a PNG file, or damaged ({error})") from None
