"""Options that verbs of several groups take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OutputJson = Annotated[Path, typer.Option("--output", "-o", help="JSON file to write.")]
SettingsJson = Annotated[str | None, typer.Option(help="Training settings as JSON, as the workflow gives them.")]
DimensionsFile = Annotated[Path | None, typer.Option(help="dimensions.csv of `phasevae collect`.")]
HysteresisFile = Annotated[Path | None, typer.Option(help="hysteresis.csv of `phasevae hysteresis`.")]
PlanFile = Annotated[Path | None, typer.Option(help="plan.csv of `phasevae plan`.")]
SpectrumFile = Annotated[Path | None, typer.Option(help="spectrum.json of `phasevae spectrum`.")]
