"""`phasevae predict`: whether a VAE will collapse on these data, and what to change, before it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phasevae.artifacts.files import readable_json, replacing
from phasevae.cli.arguments import given
from phasevae.cli.options import Json, Key, Size, Standardize
from phasevae.errors import InputError
from phasevae.prediction.losses import LIBRARIES, LOSSES

if TYPE_CHECKING:
    from phasevae.datasets.base import Dataset
    from phasevae.spectrum.spectrum import Spectrum


def predict(
    data: Annotated[
        Path,
        typer.Argument(help="A folder from `phasevae dataset`, an array or table, .h5ad, images, or spectrum.json."),
    ],
    latent: Annotated[int, typer.Option(help="Number of latents.")],
    sigma2: Annotated[float | None, typer.Option(help="Variance of a Gaussian decoder.")] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of KL in a loss with half the squared error.")] = None,
    loss: Annotated[str | None, typer.Option(help=f"Name of the loss: {' | '.join(LOSSES)}.")] = None,
    library: Annotated[str | None, typer.Option(help=f"Loss of public code: {' | '.join(LIBRARIES)}.")] = None,
    kl_weight: Annotated[
        float | None, typer.Option(help="Weight of KL in the loss (default 1, or the library's).")
    ] = None,
    size: Size = None,
    grey: Annotated[
        bool | None, typer.Option("--grey/--colour", help="ITU-R 601 grey, or the three colours (default: as stored).")
    ] = None,
    key: Key = None,
    standardize: Standardize = None,
    skip_damaged: Annotated[bool, typer.Option(help="Leave out images that cannot be decoded.")] = False,
    json_output: Json = False,
    html: Annotated[
        Path | None, typer.Option(help="Write the prediction as one self-contained page with figures.")
    ] = None,
) -> None:
    """Predict from the spectrum of the data whether a VAE will collapse, without training it. Describe the loss by
    --sigma2, --beta, --loss or --library. Data are used as they are (images scaled to [0, 1]) unless --standardize says
    how they are fed to the network.

    Example: phasevae predict photos.zip --size 64 --latent 128 --library pytorch-vae --html will-it-collapse.html
    """
    from phasevae.prediction.predict import predict

    options = given({"size": size, "grey": grey, "key": key, "standardize": standardize})
    prediction = predict(
        _read(data, options, skip_damaged),
        latent,
        sigma2=sigma2,
        beta=beta,
        loss=loss,
        library=library,
        kl_weight=kl_weight,
    )
    if html is not None:
        from phasevae.figures.prediction_report import prediction_page

        with replacing(html) as temporary:
            temporary.write_text(prediction_page(prediction), encoding="utf-8")
    if json_output:
        print(readable_json(prediction.to_json()))
        return
    from rich.console import Console

    from phasevae.figures.prediction_report import show_prediction

    show_prediction(prediction, Console())


def _read(path: Path, options: dict[str, Any], skip_damaged: bool) -> Dataset | Spectrum:
    """Read the data at `path` as they are, or the spectrum that `phasevae spectrum` wrote there."""
    import warnings
    from dataclasses import replace

    from phasevae.datasets.registry import dataset_from_path, kind_of_path
    from phasevae.spectrum.spectrum import read_spectrum

    if path.suffix.lower() == ".json":
        if options or skip_damaged:
            raise InputError(f"{path}: is a spectrum, must be used without {', '.join(options) or 'skip_damaged'}")
        return read_spectrum(path)
    if skip_damaged:
        options = {**options, "skip_damaged": True}
    if kind_of_path(path) == "images":
        options = {"standardize": "none", "grey": None, **options}
    with warnings.catch_warnings():
        # The prediction warns about them itself.
        warnings.filterwarnings("ignore", "[^\n]*features are constant")
        dataset = dataset_from_path(path, **options)
    return dataset if kind_of_path(path) == "saved" else replace(dataset, name=path.name)
