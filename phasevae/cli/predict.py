"""`phasevae predict`: whether a VAE will collapse on these data, and what to change, before it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phasevae.artifacts.files import readable_json, replacing
from phasevae.cli.arguments import named_values, shape, shapes
from phasevae.cli.options import Json, reads_data
from phasevae.errors import InputError
from phasevae.prediction.libraries import LIBRARIES
from phasevae.prediction.losses import LOSS_NAMES
from phasevae.prediction.schedules import FORMS

if TYPE_CHECKING:
    from collections.abc import Callable


@reads_data()
def predict(
    data: Annotated[
        Path,
        typer.Argument(help="A folder from `phasevae dataset`, an array or table, .h5ad, images, or spectrum.json."),
    ],
    latent: Annotated[int, typer.Option(help="Number of latents.")],
    sigma2: Annotated[float | None, typer.Option(help="Variance of a Gaussian decoder.")] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of KL in a loss with half the squared error.")] = None,
    loss: Annotated[str | None, typer.Option(help=f"Name of the loss: {' | '.join(LOSS_NAMES)}.")] = None,
    library: Annotated[str | None, typer.Option(help=f"Loss of public code: {' | '.join(LIBRARIES)}.")] = None,
    loss_options: Annotated[
        str | None, typer.Option(help="Options of a likelihood, such as size_factors=total,dispersion=2.")
    ] = None,
    loss_function: Annotated[
        str | None, typer.Option(help="FILE.py:FUNCTION, your own loss(recon, x, mu, logvar) of torch operations.")
    ] = None,
    kl_weight: Annotated[
        float | None, typer.Option(help="Weight of KL in the loss (default 1, or the library's).")
    ] = None,
    kl_schedule: Annotated[str | None, typer.Option(help=f"Instead of a weight: {FORMS}.")] = None,
    training_length: Annotated[float | None, typer.Option(help="Length of the training, as in the schedule.")] = None,
    target_kl: Annotated[
        float | None, typer.Option(help="Also print the weight for this KL (nats per sample).")
    ] = None,
    input_shape: Annotated[str | None, typer.Option(help="Shape of a sample for your loss, such as 3,64,64.")] = None,
    output_shape: Annotated[
        str | None, typer.Option(help="Shape of a sample's recon, such as 8,20; of several heads, such as 64/64.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option(help="What your loss compares with, if not the encoder's input.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Of the training, where your loss depends on it.")] = None,
    posterior_std: Annotated[float | None, typer.Option(help="Fixed standard deviation of the posterior.")] = None,
    least_logvar: Annotated[float | None, typer.Option(help="Lower bound of the posterior's log variance.")] = None,
    noise_scale: Annotated[float, typer.Option(help="Factor of the noise that the decoder sees.")] = 1.0,
    input_noise: Annotated[float, typer.Option(help="Standard deviation of noise added to the encoder's input.")] = 0.0,
    input_mask: Annotated[float, typer.Option(help="Part of the encoder's input that is set to zero.")] = 0.0,
    *,
    reading: dict[str, Any],
    json_output: Json = False,
    html: Annotated[
        Path | None, typer.Option(help="Write the prediction as one self-contained page with figures.")
    ] = None,
) -> None:
    """Predict from the spectrum of the data whether a VAE will collapse, without training it. Describe the loss by
    --sigma2, --beta, --loss, --library or --loss-function. Data are used as they are (images scaled to [0, 1]) unless
    --standardize says how they are fed to the network.

    Example: phasevae predict photos.zip --size 64 --latent 128 --library pytorch-vae --html will-it-collapse.html
    """
    from phasevae.prediction.conditional import ConditionalPrediction
    from phasevae.prediction.options import positive
    from phasevae.prediction.predict import predict

    if loss is not None and loss_function is not None:
        raise InputError("loss-function: cannot be given together with loss")
    if target_kl is not None:
        positive("target_kl", target_kl)
    prediction = predict(
        data,
        latent,
        sigma2=sigma2,
        beta=beta,
        loss=loss if loss_function is None else _function(loss_function),
        library=library,
        loss_options=named_values("loss-options", loss_options),
        kl_weight=kl_weight,
        kl_schedule=kl_schedule,
        training_length=training_length,
        input_shape=shape("input-shape", input_shape),
        output_shape=shapes("output-shape", output_shape),
        target=target,
        batch_size=batch_size,
        posterior_std=posterior_std,
        least_logvar=least_logvar,
        noise_scale=noise_scale,
        input_noise=input_noise,
        input_mask=input_mask,
        **reading,
    )
    if html is not None and isinstance(prediction, ConditionalPrediction):
        raise InputError("html: must be left out for data with classes")
    weight = None if target_kl is None else prediction.kl_weight_for(target_kl)
    if html is not None:
        from phasevae.figures.prediction_report import prediction_page

        with replacing(html) as temporary:
            temporary.write_text(prediction_page(prediction), encoding="utf-8")
    if json_output:
        more = {} if weight is None else {"kl_weight_for_target": weight}
        print(readable_json(prediction.to_json() | more))
        return
    from rich.console import Console

    from phasevae.prediction.text import show, target_line

    if isinstance(prediction, ConditionalPrediction):
        prediction.show(Console())
    else:
        show(prediction, Console())
    if weight is not None:
        print(target_line(prediction.at(weight)))


def _function(address: str) -> Callable[..., Any]:
    from phasevae.prediction.own_loss.function import load_function

    return load_function(address)
