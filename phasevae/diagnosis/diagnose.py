"""Diagnose a trained VAE: which latents are active and what they carry, and whether further ones would live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phasevae.artifacts.files import read_json
from phasevae.datasets.store import is_saved, saved_digest
from phasevae.diagnosis.latents import Latent, RelevantDirection
from phasevae.diagnosis.networks import Networks, load_trained, networks_of
from phasevae.diagnosis.report import Diagnosis
from phasevae.errors import InputError
from phasevae.hierarchy import TrainedHierarchy
from phasevae.kernels import noise
from phasevae.kernels.reconstruction import GaussianReconstruction, Reconstruction
from phasevae.kernels.reconstructions import make_reconstruction
from phasevae.measurement.residual import residual_spectrum
from phasevae.measurement.residual_states import States, draw_states
from phasevae.prediction.losses import BERNOULLI, FIXED, LEARNED, Loss
from phasevae.prediction.measured import Model, setting_of_loss
from phasevae.prediction.optimum import find_optimum
from phasevae.prediction.options import chosen_loss
from phasevae.prediction.own_loss.rows import Rows as Samples
from phasevae.prediction.own_loss.rows import rows_of
from phasevae.rows import Rows
from phasevae.theory.limited_encoder import FREE
from phasevae.theory.ppca import ACTIVE_KL, gaussian_kl
from phasevae.theory.relevance import information, relevance_spectrum
from phasevae.trained import TrainedVAE

_MOST_NUMBERS = 2**28
"""Numbers of the data that are kept in memory; larger data are thinned evenly."""

_BLOCK = 2048
_DIRECTION_ROWS = 4096
_LEAST_ROWS = 64
_CERTAIN_PROBABILITY = 1e-6


def diagnose(
    model: Any,
    data: Any,
    *,
    sigma2: float | None = None,
    beta: float | None = None,
    loss: str | None = None,
    library: str | None = None,
    kl_weight: float | None = None,
    encode: Callable[..., Any] | None = None,
    decode: Callable[..., Any] | None = None,
    input_shape: tuple[int, ...] | None = None,
    loss_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Diagnosis:
    """Diagnose a trained VAE.

    Parameters
    ----------
    model : object
        A trained point (its folder, or what `phasevae.load` returns), a PyTorch module or a model of pythae, or the
        path of one (`phasevae.diagnosis.networks.load_trained`). The methods or modules `encode` or `encoder`, and
        `decode` or `decoder`, are used. None if both functions are given.
    data : samples [N, ...]
        Exactly as they are fed to the network; anything that `phasevae.predict` takes.
    sigma2, beta, loss, library, kl_weight, loss_options : optional
        The loss, as in `phasevae.predict`: a squared error or a cross entropy. To be left out for a trained point.
    encode, decode : callable, optional
        Instead of the model's: from samples [B, ...] to the posterior (mu and logvar, in any usual form), and from
        latents to the reconstruction.
    input_shape : tuple of int, optional
        Shape of one sample, where the data are flattened.
    **options
        Those of the reader: `standardize`, `key`, `size`, `grey`, `skip_damaged`, `drop`, `header`.

    Returns
    -------
    Diagnosis

    Raises
    ------
    InputError
        For a model, data or options that cannot be used.
    """
    _check_same_data(model, data)
    trained = load_trained(model)
    samples = rows_of(data, input_shape, **options)
    kept = samples.stream.thinned(max(_LEAST_ROWS, _MOST_NUMBERS // samples.stream.dimension))
    if len(kept) < _LEAST_ROWS:
        raise InputError(f"data: {len(kept)} samples, must be at least {_LEAST_ROWS}")
    x = torch.from_numpy(kept.astype(np.float32))
    described = (sigma2, beta, loss, library, kl_weight, loss_options)
    with networks_of(trained, encode, decode, x, samples.shape) as networks:
        if isinstance(trained, TrainedVAE):
            if trained.coding is not None:
                raise InputError("model: has a condition, must be a plain VAE; see residual_edge in its point.json")
            if isinstance(trained, TrainedHierarchy):
                raise InputError("model: has two levels of latents, must be a plain VAE; see top in its point.json")
            if any(option is not None for option in described):
                raise InputError("loss: must be left out for a trained point, which records sigma2 and beta")
            found = _diagnosed(networks, _of_point(trained, x, networks), samples)
            found = replace(found, converged=_converged(model))
            loss = chosen_loss(trained.sigma2, trained.beta, *[None] * 4) if trained.family is None else None
        else:
            loss = chosen_loss(*described)
            found = _diagnosed(networks, _Problem.of_loss(*loss, x, networks), samples)
    if not found.signs or loss is None:
        return found
    optimum = find_optimum(setting_of_loss(samples.stream, loss[0], Model(found.n_latent, loss[1], FREE)))
    return replace(found, dies_at=optimum.critical_kl_weight * found.kl_weight / loss[1])


def _check_same_data(model: Any, data: Any) -> None:
    """Raise InputError for a point and a saved data set that it was not trained on."""
    record = _record(model)
    if record is None or not isinstance(data, str | Path) or not is_saved(Path(data)):
        return
    if record["provenance"]["data_sha256"] != saved_digest(Path(data)):
        raise InputError(f"{data}: are other data than those that {model} was trained on")


def _converged(model: Any) -> bool | None:
    """Whether the training of a point had converged; None if this is not known."""
    record = _record(model)
    return None if record is None else record.get("converged")


def _record(model: Any) -> dict[str, Any] | None:
    """The point.json of the path of a trained point, of its folder or its weights; None if there is none."""
    if not isinstance(model, str | Path):
        return None
    path = Path(model).expanduser()
    point = (path if path.is_dir() else path.parent) / "point.json"
    return read_json(point, ("provenance",), "point") if point.is_file() else None


class _Problem:
    """What is known of the training of a model.

    Attributes
    ----------
    x : Tensor [N, D]
        The samples as the networks take them.
    decode : callable
        From latents to the outputs that `reconstruction` takes.
    reconstruction : Reconstruction
    kl_weight : float
    variance : callable
        From draws to beta * sigma2.
    """

    def __init__(
        self,
        x: Tensor,
        decode: Callable[[Tensor], Tensor],
        reconstruction: Reconstruction,
        kl_weight: float,
        variance: Callable[[States], float],
    ):
        self.x, self.decode, self.reconstruction = x, decode, reconstruction
        self.kl_weight, self.variance = kl_weight, variance

    @classmethod
    def of_loss(cls, loss: Loss, kl_weight: float, x: Tensor, networks: Networks) -> _Problem:
        """Return the problem of a named loss. Raises InputError for losses that are not diagnosed, and other widths."""
        if loss.decoder not in (FIXED, LEARNED, BERNOULLI):
            raise InputError(f"loss: {loss.name}, must be a squared error or a cross entropy")
        few = networks.decode(torch.zeros(2, networks.n_latent))
        if few.shape[1] != x.shape[1]:
            raise InputError(f"decode: gives {few.shape[1]} numbers a sample, must be {x.shape[1]} as the data have")
        dimension = x.shape[1]

        def variance(states: States) -> float:
            of_loss = loss.effective_variance(kl_weight, dimension, networks.n_latent)
            learned = float(states.scores.double().square().mean()) if loss.decoder == LEARNED else 1.0
            return of_loss * learned

        if loss.decoder != BERNOULLI:
            return cls(x, networks.decode, GaussianReconstruction(dimension), kl_weight, variance)
        reconstruction = make_reconstruction("bernoulli", {"offset": np.zeros(dimension)}, {})
        decode = _logits(networks.decode) if few.min() >= 0 and few.max() <= 1 else networks.decode
        return cls(x, decode, reconstruction.to("cpu", torch.float32), kl_weight, variance)


def _of_point(model: TrainedVAE, x: Tensor, networks: Networks) -> _Problem:
    """Return the problem of a trained point. Raises InputError for data of another width."""
    if x.shape[1] != model.mean.numel():
        raise InputError(f"data: {x.shape[1]} features, must be {model.mean.numel()} as the point was trained on")
    reconstruction = model.family or GaussianReconstruction(x.shape[1])
    return _Problem(x, networks.decode, reconstruction, model.beta, lambda states: model.beta * model.sigma2)


def _logits(decode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a decoder of logits from one of probabilities."""
    return lambda z: torch.logit(decode(z), eps=_CERTAIN_PROBABILITY)


@torch.no_grad()
def _diagnosed(networks: Networks, problem: _Problem, samples: Samples) -> Diagnosis:
    x = problem.x
    mu, logvar = (torch.cat(part) for part in zip(*map(networks.encode, x.split(_BLOCK)), strict=True))
    mu, logvar = mu.double(), logvar.double()
    kl = gaussian_kl(mu, logvar, torch.expm1).mean(0)
    active = (kl > ACTIVE_KL).nonzero()[:, 0].tolist()
    rows = Rows(x, np.zeros(x.shape[1], dtype=np.float32))
    states = draw_states(
        networks.encode,
        lambda z, condition: problem.decode(z),
        rows,
        active,
        noise.key("residual", "diagnose"),
        problem.reconstruction,
    )
    found = None if states is None else residual_spectrum(states)
    if found is None:
        raise InputError("loss: has no residual spectrum: it has no curvature, or too many outputs interact")
    variance = problem.variance(states)
    moves = _responses(problem.decode, mu, logvar, torch.eye(networks.n_latent, dtype=mu.dtype))
    latents = tuple(
        Latent(
            number=j,
            kl=float(kl[j]),
            latent_variance=float(logvar[:, j].exp().mean()),
            mean_variance=float(mu[:, j].var(correction=0)),
            second_moment=float((mu[:, j].square() + logvar[:, j].exp()).mean()),
            active=j in active,
            strength=float(moves[j].norm()) if j in active else 0.0,
            direction=torch.nn.functional.normalize(moves[j], dim=0).numpy() if j in active else None,
        )
        for j in range(networks.n_latent)
    )
    shape, columns = _labels(samples) if found.directions.shape[1] == x.shape[1] else ((), ())
    return Diagnosis(
        data=f"{len(x)} samples of {x.shape[1]} features",
        kl_weight=problem.kl_weight,
        effective_variance=variance,
        latents=latents,
        relevant_directions=_relevant_directions(problem, mu, logvar),
        edge=found.edge,
        standard_error=found.standard_error,
        eigenvalues=found.eigenvalues,
        standard_errors=found.standard_errors,
        directions=found.directions,
        corrected_edge=found.corrected_edge,
        decoder_gap=found.decoder_gap * problem.kl_weight / variance,
        sample_shape=shape,
        columns=columns,
    )


def _labels(samples: Samples) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the shape of a sample and the names of its features, as far as they are known."""
    known = samples.stream.reading or samples.stream.origin
    if known is None:
        return tuple(samples.shape), ()
    return tuple(samples.shape if len(samples.shape) > 1 else known.shape), tuple(known.columns)


def _relevant_directions(problem: _Problem, mu: Tensor, logvar: Tensor) -> tuple[RelevantDirection, ...]:
    """Return the directions of the latent space that carry more than ACTIVE_KL nats."""
    relevances, directions = relevance_spectrum(
        torch.cov(mu.T, correction=0).reshape(mu.shape[1], -1).numpy(), logvar.exp().mean(0).numpy()
    )
    nats = information(relevances)
    if not (nats > ACTIVE_KL).any():
        return ()
    moves = _responses(problem.decode, mu, logvar, torch.from_numpy(directions[:, nats > ACTIVE_KL].copy()))
    return tuple(
        RelevantDirection(
            relevance=float(relevance),
            information=float(said),
            critical_kl_weight=problem.kl_weight * (1 + float(relevance)),
            strength=float(move.norm()),
            direction=torch.nn.functional.normalize(move, dim=0).numpy(),
        )
        for relevance, said, move in zip(relevances, nats, moves, strict=False)
    )


def _responses(decode: Callable[[Tensor], Tensor], mu: Tensor, logvar: Tensor, directions: Tensor) -> Tensor:
    """Return how the outputs move with one standard deviation along directions [n, K] of the latents, [K, P].

    It is the slope of their regression.
    """
    step = -(-len(mu) // _DIRECTION_ROWS)
    mu, logvar = mu[::step], logvar[::step]
    z = mu + (0.5 * logvar).exp() * torch.randn(mu.shape, generator=torch.Generator().manual_seed(0), dtype=mu.dtype)
    outputs, along = decode(z.float()).double(), z @ directions
    spread = along.std(0, correction=0).clamp_min(torch.finfo(z.dtype).tiny)
    return ((along - along.mean(0)) / spread).T @ (outputs - outputs.mean(0)) / len(z)
