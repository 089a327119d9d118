"""Options that several verbs share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from phasevae.datasets.samples import given_options

READING = {
    "size": Annotated[int | None, typer.Option(help="Resize images to SIZE x SIZE pixels (antialiased bilinear).")],
    "grey": Annotated[
        bool | None,
        typer.Option("--grey/--colour", help="Take images as grey (ITU-R 601) or in colour (default: as stored)."),
    ],
    "key": Annotated[
        str | None, typer.Option(help="Which array, sheet, layer or variable of a file that holds several.")
    ],
    "standardize": Annotated[
        str | None, typer.Option(help="none | center | global | per-feature (default: as they are, none).")
    ],
    "skip_damaged": Annotated[
        bool | None, typer.Option("--skip-damaged", help="Leave out images that cannot be decoded.")
    ],
    "drop": Annotated[
        list[str] | None,
        typer.Option(
            help="Column to leave out, by name or by number from 0; may be repeated. none: keep columns that look like "
            "ids."
        ),
    ],
    "header": Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header", help="Whether the first line of a table holds names (default: recognised)."
        ),
    ],
}
"""The options that say how data are read."""

CONDITION = {
    "condition": Annotated[
        str | None,
        typer.Option(
            help="What the networks see beside each row: a .npy file, column:NAME, or label (the data's own)."
        ),
    ],
    "condition_kind": Annotated[
        str | None, typer.Option(help="classes | numbers (default: texts and whole numbers are classes).")
    ],
}
"""The options that say what the condition of data is."""


def reads_data(with_condition: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb the options that say how its data are read; it takes those that were given as the dict `reading`.

    Parameters
    ----------
    with_condition : bool
        Whether the verb has the options of a condition as well.
    """
    options = READING | (CONDITION if with_condition else {})

    def with_options(verb: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(verb)
        def command(**given: Any) -> None:
            chosen = {name: given.pop(name) for name in options}
            verb(**given, reading=given_options(**chosen))

        parameters = []
        for parameter in inspect.signature(verb, eval_str=True).parameters.values():
            parameters += (
                [parameter]
                if parameter.name != "reading"
                else [
                    inspect.Parameter(name, parameter.KEYWORD_ONLY, default=None, annotation=annotation)
                    for name, annotation in options.items()
                ]
            )
        by_name = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        command.__signature__ = inspect.Signature(by_name)
        command.__annotations__ = {each.name: each.annotation for each in by_name}
        return command

    return with_options


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OutputJson = Annotated[Path, typer.Option("--output", "-o", help="JSON file to write.")]
DataMemory = Annotated[
    int | None,
    typer.Option(
        "--data-memory-mb", min=1, help="Memory for the samples in MiB; larger data stay in their file (default: half)."
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads (default: OMP_NUM_THREADS, or all cores).")
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
