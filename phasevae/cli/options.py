"""Options that verbs of several groups take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Standardize = Annotated[str | None, typer.Option(help="none | center | global | per-feature.")]
Size = Annotated[int | None, typer.Option(help="Resize images to SIZE x SIZE (antialiased bilinear).")]
Grey = Annotated[bool | None, typer.Option("--grey/--colour", help="ITU-R 601 grey, or the three colours.")]
Split = Annotated[str | None, typer.Option(help="cifar10: train | test | all.")]
Key = Annotated[str | None, typer.Option(help="array: which array of an .npz file.")]
OutputJson = Annotated[Path, typer.Option("--output", "-o", help="JSON file to write.")]
SettingsJson = Annotated[str | None, typer.Option(help="Training settings as JSON, as the workflow gives them.")]
DimensionsFile = Annotated[Path | None, typer.Option(help="dimensions.csv of `phasevae collect`.")]
HysteresisFile = Annotated[Path | None, typer.Option(help="hysteresis.csv of `phasevae hysteresis`.")]
PlanFile = Annotated[Path | None, typer.Option(help="plan.csv of `phasevae plan`.")]
SpectrumFile = Annotated[Path | None, typer.Option(help="spectrum.json of `phasevae spectrum`.")]
