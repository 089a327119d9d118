"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Standardize = Annotated[
    str | None, typer.Option(help="none | center | global | per-feature (default: as they are, none).")
]
Size = Annotated[int | None, typer.Option(help="Resize images to SIZE x SIZE pixels (antialiased bilinear).")]
Grey = Annotated[
    bool | None,
    typer.Option("--grey/--colour", help="Take images as grey (ITU-R 601) or in colour (default: as stored)."),
]
Key = Annotated[str | None, typer.Option(help="Which array, sheet, layer or variable of a file that holds several.")]
SkipDamaged = Annotated[bool, typer.Option("--skip-damaged", help="Leave out images that cannot be decoded.")]
Drop = Annotated[
    list[str] | None,
    typer.Option(
        help="Column to leave out, by name or by number from 0; may be repeated. none: keep columns that look like ids."
    ),
]
Header = Annotated[
    bool | None,
    typer.Option("--header/--no-header", help="Whether the first line of a table holds names (default: recognised)."),
]
Condition = Annotated[
    str | None,
    typer.Option(help="What the networks see beside each row: a .npy file, column:NAME, or label (the data's own)."),
]
ConditionKind = Annotated[
    str | None, typer.Option(help="classes | numbers (default: texts and whole numbers are classes).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OutputJson = Annotated[Path, typer.Option("--output", "-o", help="JSON file to write.")]
DataMemory = Annotated[
    int | None,
    typer.Option(
        "--data-memory-mb", min=1, help="Memory for the samples in MiB; larger data stay in their file (default: half)."
    ),
]
SettingsJson = Annotated[str | None, typer.Option(help="Training settings as JSON, as the workflow gives them.")]
NetworkChoice = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="FILE:BUILD",
        help="Networks of your own: a Python file and its function build(input_shape, n_latent), which returns "
        "(encoder, decoder) [default: mlp].",
    ),
]
DimensionsFile = Annotated[Path | None, typer.Option(help="dimensions.csv of `phasevae collect`.")]
HysteresisFile = Annotated[Path | None, typer.Option(help="hysteresis.csv of `phasevae hysteresis`.")]
PlanFile = Annotated[Path | None, typer.Option(help="plan.csv of `phasevae plan`.")]
SpectrumFile = Annotated[Path | None, typer.Option(help="spectrum.json of `phasevae spectrum`.")]


def in_bytes(mebibytes: int | None) -> int | None:
    """Turn a size in MiB, as options give it, into bytes."""
    return None if mebibytes is None else mebibytes * 2**20
