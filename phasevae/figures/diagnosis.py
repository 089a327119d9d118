"""Figures of a diagnosis: KL of each latent, the residual spectrum, and what latents carry."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phasevae.figures.marks import BLUE, GREY, STYLE, VERMILION, WIDTH, figure_of, legend
from phasevae.theory.ppca import ACTIVE_KL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from phasevae.diagnosis.report import Diagnosis

MOST_DRAWN = 16
"""Directions that are drawn, of active latents and of further ones each."""

_LEAST_KL = 1e-6
_COLUMNS = 4
_CHANNELS = (1, 3)


def draw_diagnosis(diagnosis: Diagnosis) -> list[Figure]:
    """Draw the KL of each latent, the residual spectrum, and the directions of active and of further latents."""
    import matplotlib

    active = {f"latent {latent.number} (from 0)": latent.direction for latent in diagnosis.active[:MOST_DRAWN]}
    above = diagnosis.eigenvalues > diagnosis.effective_variance
    words = {True: "would live", False: "stays dead"}
    further = {f"mode {i + 1}\n{words[bool(above[i])]}": direction for i, direction in enumerate(diagnosis.directions)}
    with matplotlib.rc_context(STYLE):
        figures = [kl(diagnosis), residual_spectrum(diagnosis)]
        figures += [directions(diagnosis, shown) for shown in (active, further) if shown]
    return figures


def kl(diagnosis: Diagnosis) -> Figure:
    """Draw the KL of each latent, the largest first; the active ones are filled."""
    figure = figure_of(0.75 * WIDTH)
    axes = figure.subplots()
    values = np.sort([latent.kl for latent in diagnosis.latents])[::-1]
    index, alive = np.arange(1, len(values) + 1), values > ACTIVE_KL
    for part, face, label in ((alive, BLUE, "active"), (~alive, "white", "dead")):
        if part.any():
            drawn = np.maximum(values[part], _LEAST_KL)
            axes.plot(index[part], drawn, "o", color=BLUE, markerfacecolor=face, label=label)
    axes.axhline(ACTIVE_KL, color=GREY, linestyle=":", label=f"{ACTIVE_KL:g} nats")
    axes.set(xlabel="latent, by KL", ylabel="KL (nats per sample)", yscale="log")
    legend(figure, axes, 3)
    return figure


def residual_spectrum(diagnosis: Diagnosis) -> Figure:
    """Draw the residual eigenvalues with the effective variance: those above it are latents that would live."""
    figure = figure_of(0.75 * WIDTH)
    axes = figure.subplots()
    values, errors = diagnosis.eigenvalues, diagnosis.standard_errors
    index, above = np.arange(1, len(values) + 1), values > diagnosis.effective_variance
    for part, face, label in ((above, BLUE, "would live"), (~above, "white", "stays dead")):
        if part.any():
            axes.errorbar(
                index[part], values[part], errors[part], fmt="o", color=BLUE, markerfacecolor=face, label=label
            )
    axes.axhline(diagnosis.effective_variance, color=VERMILION, label="effective variance")
    axes.set(xlabel="residual mode", ylabel=r"eigenvalue of $R_A^\top R_A$")
    axes.set_ylim(bottom=0)
    legend(figure, axes, 2)
    return figure


def directions(diagnosis: Diagnosis, shown: dict[str, NDArray]) -> Figure:
    """Draw directions in data space: as images where the samples are images, else as lines over the features."""
    shape = _image_shape(diagnosis.sample_shape)
    if shape is None:
        figure = figure_of(0.35 * WIDTH * min(len(shown), _COLUMNS) + 0.4)
        panels = figure.subplots(min(len(shown), _COLUMNS), 1, sharex=True, squeeze=False).ravel()
        for axes, (name, direction) in zip(panels, shown.items(), strict=False):
            _line(axes, name, direction)
        panels[-1].set_xlabel("feature")
        return figure
    rows = math.ceil(len(shown) / _COLUMNS)
    figure = figure_of(0.3 * WIDTH * rows)
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, (name, direction) in zip(panels, shown.items(), strict=False):
        _image(axes, name, direction, shape)
    return figure


def _line(axes: Axes, name: str, direction: NDArray) -> None:
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.plot(direction, marker="o" if len(direction) <= 64 else "", color=BLUE)
    axes.set_title(name, fontsize=7)


def _image(axes: Axes, name: str, direction: NDArray, shape: tuple[int, ...]) -> None:
    image = direction.reshape(shape)
    if len(shape) == 3:  # the channel comes first in PyTorch
        image = (image if shape[0] in _CHANNELS else np.moveaxis(image, -1, 0)).mean(0)
    most = np.abs(image).max()
    axes.imshow(image, cmap="RdBu_r", vmin=-most, vmax=most)
    axes.set_title(name, fontsize=7)


def _image_shape(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape of an image; None for other samples."""
    if len(shape) == 2 or (len(shape) == 3 and (shape[0] in _CHANNELS or shape[-1] in _CHANNELS)):
        return shape
    return None
