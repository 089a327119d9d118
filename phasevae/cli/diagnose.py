"""`phasevae diagnose`: which latents of a trained VAE are active, and whether further ones would live."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from phasevae.artifacts.files import readable_json, replacing
from phasevae.cli.arguments import named_values, shape
from phasevae.cli.options import Json, NetworkChoice, reads_data
from phasevae.prediction.libraries import LIBRARIES


@reads_data(with_condition=False)
def diagnose(
    model: Annotated[
        str,
        typer.Argument(help="Folder of a trained point, of a pythae model, or FILE.py:NAME, which returns your model."),
    ],
    data: Annotated[Path, typer.Argument(help="The data as they are fed to the network; as for `phasevae predict`.")],
    sigma2: Annotated[float | None, typer.Option(help="Variance of a Gaussian decoder.")] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of KL in a loss with half the squared error.")] = None,
    loss: Annotated[str | None, typer.Option(help="Name of the loss, such as sse, mean-se, bce, gaussian-nll.")] = None,
    library: Annotated[str | None, typer.Option(help=f"Loss of public code: {' | '.join(LIBRARIES)}.")] = None,
    loss_options: Annotated[str | None, typer.Option(help="Options of the likelihood.")] = None,
    kl_weight: Annotated[
        float | None, typer.Option(help="Weight of KL in the loss (default 1, or the library's).")
    ] = None,
    network: NetworkChoice = None,
    input_shape: Annotated[str | None, typer.Option(help="Shape of a sample for your model, such as 3,64,64.")] = None,
    *,
    reading: dict[str, Any],
    json_output: Json = False,
    html: Annotated[
        Path | None, typer.Option(help="Write the diagnosis as one self-contained page with figures.")
    ] = None,
) -> None:
    """Say which latents of a trained VAE are active and what they carry, whether a dead one could come back, and
    whether more latents would live. Describe the loss of your own model as for `phasevae predict`.

    Example: phasevae diagnose points/sigma2=0.8,seed=0 results/mine --html diagnosis.html
    """
    from phasevae.diagnosis.diagnose import diagnose
    from phasevae.stored import load

    diagnosis = diagnose(
        model if network is None else load(model, network),
        data,
        sigma2=sigma2,
        beta=beta,
        loss=loss,
        library=library,
        loss_options=named_values("loss-options", loss_options),
        kl_weight=kl_weight,
        input_shape=shape("input-shape", input_shape),
        **reading,
    )
    if html is not None:
        from phasevae.figures.diagnosis_report import diagnosis_page

        with replacing(html) as temporary:
            temporary.write_text(diagnosis_page(diagnosis), encoding="utf-8")
    print(readable_json(diagnosis.to_json()) if json_output else diagnosis)
