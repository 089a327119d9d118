"""The residual spectrum of a trained VAE: whether a dead latent could come back, and what it would carry.

A dead latent leaves the collapsed state where it lowers the loss to move its decoder by u z e(z_A) and its encoder by
mu = v h(x), while the active latents z_A keep their posterior. To second order in u and v this happens when
beta * sigma2 is below

    Lambda_A = sup over h, e of  E[(g . e(z_A)) h(x)]^2 / (E[e . H e] E[h^2]),

with the score g, minus the derivative of the energy by the decoder's outputs, and its curvature H, both at sigma2 = 1.
For a Gaussian decoder g = x - f and H = 1. Without active latents Lambda_A is the largest eigenvalue of the data.

Here h is linear in the whitened inputs of the encoder (and, for other families than the Gaussian one, in the scores of
the constant decoder), and e is a polynomial of degree 2 in the active latents. Both are restrictions (Rayleigh-Ritz),
so the result bounds Lambda_A from below. For Gaussian data h is linear and e constant.

The operator is that of Li, "Residual spectral instabilities in representation learning", arXiv:2610.11257.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasevae.kernels import noise
from phasevae.kernels.reconstruction import GaussianReconstruction, Reconstruction
from phasevae.measurement.residual_bases import LatentBasis, leading_functions, unbiased_square, whitening
from phasevae.measurement.residual_states import States, draw_states
from phasevae.model import VAEEnsemble
from phasevae.rows import AnyRows, Rows
from phasevae.sweeps.settings import Member
from phasevae.theory.ppca import ACTIVE_KL

PARTS = 16
"""Disjoint parts of the rows. The product of two parts has no bias from their noise, and their scatter is the error."""

MODES = 8
"""Leading modes that are kept."""

_NO_CURVATURE = 1e-9
_LARGEST_METRIC = 1024


@dataclass(frozen=True)
class ResidualSpectrum:
    """The leading part of the residual spectrum, in units of beta * sigma2.

    Attributes
    ----------
    edge, standard_error : float
        Lambda_A, and its error over disjoint parts of the data.
    eigenvalues, standard_errors : array [modes]
        The largest eigenvalues, descending.
    directions : array [modes, P]
        Unit vectors: how the outputs of the decoder move along the new latent, averaged over the active latents.
    functions : array [modes, E]
        What the new latent encodes, h(x) = functions . (inputs - mean), of unit variance.
    moves : Tensor [modes, m, P]
        float64. The outputs move along the new latent by e(z_A) = sum_m moves_m basis_m(z_A), with E[e . H e] = 1.
    basis : LatentBasis
    corrected_edge : float
        Lambda_A if the decoder moved to the conditional mean, as far as e can express the move.
    decoder_gap : float
        What this move gains, in nats times sigma2; zero, up to noise, where the decoder has converged.
    n_samples : int
        Draws (x, z) that were used.
    """

    edge: float
    standard_error: float
    eigenvalues: NDArray
    standard_errors: NDArray
    directions: NDArray
    functions: NDArray
    moves: Tensor
    basis: LatentBasis
    corrected_edge: float
    decoder_gap: float
    n_samples: int


def measure_residual(
    model: VAEEnsemble,
    rows: AnyRows | Tensor,
    member: Member,
    active: Sequence[int],
    reconstruction: Reconstruction | None = None,
) -> ResidualSpectrum | None:
    """Measure the residual spectrum of a trained point.

    Parameters
    ----------
    model : VAEEnsemble
        An ensemble of one model.
    rows : Rows, FileRows, or Tensor [N, D]
        The full data set. A tensor is taken as centred rows.
    member : Member
        The decoder variance, beta and seed of the model. They key the noise, so the numbers of a point do not depend
        on the ensemble that it was trained in.
    active : sequence of int
        The active latents.
    reconstruction : Reconstruction, optional
        The family of likelihoods; Gaussian by default.

    Returns
    -------
    ResidualSpectrum or None
        None where the energy has no curvature, or where too many outputs interact.
    """
    data = Rows.of(rows)
    reconstruction = reconstruction or GaussianReconstruction(data.n_features)

    def encode(inputs: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = model.encode(inputs[None])
        return mu[0], logvar[0]

    def decode(z: Tensor, condition: Tensor | None) -> Tensor:
        columns = None if condition is None else condition[None]
        return reconstruction.with_offset(model.decode(z[None], columns), columns)[0]

    key = noise.point_key("residual", member.seed, member.sigma2, member.beta)
    states = draw_states(encode, decode, data, active, key, reconstruction)
    return None if states is None else residual_spectrum(states)


def residual_numbers(
    model: VAEEnsemble, rows: AnyRows | Tensor, member: Member, kl_per_dim: NDArray, reconstruction: Reconstruction
) -> dict[str, Any]:
    """Return what point.json records of the residual spectrum of a trained point.

    Parameters
    ----------
    model, rows, member, reconstruction
        As in `measure_residual`.
    kl_per_dim : array [n]
        The KL of each latent in nats, which tells the active ones.

    Returns
    -------
    dict
        `residual_edge` is Lambda_A and `residual_margin` is beta * sigma2 - Lambda_A: below zero, a further latent
        would live. `residual_corrected_edge` is the edge if the decoder moved to the conditional mean, and
        `residual_decoder_gap` what the move gains, in nats. All are None where the spectrum is not defined.
    """
    active = np.flatnonzero(np.asarray(kl_per_dim) > ACTIVE_KL)
    found = measure_residual(model, rows, member, active.tolist(), reconstruction)
    names = ("edge", "edge_standard_error", "margin", "eigenvalues", "corrected_edge", "decoder_gap")
    values: tuple[Any, ...] = (None,) * len(names)
    if found is not None:
        margin, gap = member.beta * member.sigma2 - found.edge, found.decoder_gap / member.sigma2
        values = (found.edge, found.standard_error, margin, found.eigenvalues, found.corrected_edge, gap)
    return {f"residual_{name}": value for name, value in zip(names, values, strict=True)}


@torch.no_grad()
def residual_spectrum(states: States) -> ResidualSpectrum | None:
    """Return the residual spectrum from draws with their scores.

    Parameters
    ----------
    states : States

    Returns
    -------
    ResidualSpectrum or None
        None where the energy has no curvature.
    """
    functions_of_latents = LatentBasis.of(states.latents, states.condition)
    basis = functions_of_latents(states.latents, states.condition)
    if states.curvature is not None and states.curvature.ndim == 4:
        basis = basis[..., : max(1, _LARGEST_METRIC // states.scores.shape[-1])]
    metric = _Metric.of(states, basis)
    if metric is None:
        return None
    functions = whitening(states.covariance, len(states.inputs))
    inputs = states.inputs @ functions.to(basis.dtype)
    reduction = leading_functions(_fields(states.scores, basis[..., :1], inputs)[:, 0])
    functions, inputs = functions @ reduction, inputs @ reduction.to(inputs.dtype)
    fields = metric.whitened(_fields(states.scores, basis, inputs))
    gradients = _products(states.scores, basis, torch.ones_like(inputs[:, :1]))
    step = metric.newton(gradients.mean(0))[..., 0].to(basis.dtype)
    moved = states.scores - states.curved(basis @ step)
    values, errors, vectors = _eigen(fields)
    kept = min(MODES, len(values))
    fields_of_modes = fields.mean(0) @ vectors[:, :kept]
    length = fields_of_modes.flatten(0, 1).norm(dim=0).clamp_min(torch.finfo(fields.dtype).tiny)
    moves = metric.outputs(fields_of_modes / length).permute(2, 0, 1)
    gap = 0.5 * float(unbiased_square(metric.whitened(gradients).flatten(1, 2)))
    corrected, _, _ = _eigen(metric.whitened(_fields(moved, basis, inputs)))
    return ResidualSpectrum(
        edge=float(values[0]),
        standard_error=float(errors[0]),
        eigenvalues=values[:kept].cpu().numpy(),
        standard_errors=errors[:kept].cpu().numpy(),
        directions=torch.nn.functional.normalize(moves[:, 0], dim=-1).cpu().numpy(),
        functions=(states.axes @ functions @ vectors[:, :kept]).T.cpu().numpy(),
        moves=moves,
        basis=functions_of_latents,
        corrected_edge=float(corrected[0]),
        decoder_gap=max(0.0, gap),
        n_samples=states.latents.shape[0] * states.latents.shape[1],
    )


def _fields(scores: Tensor, basis: Tensor, inputs: Tensor) -> Tensor:
    """Return `_products` of whitened inputs, less the part of their noise that the covariance of the inputs explains.

    Over all rows the covariance is 1; over a part it is not. The regression of the scores on the inputs says by how
    much this changes the first product, that with the constant function.
    """
    fields = _products(scores, basis, inputs)
    of_inputs = _products(inputs[None], torch.ones_like(basis[:1, :, :1]), inputs)[:, 0]
    fields[:, 0] += fields[:, 0].mean(0) @ (torch.eye(inputs.shape[1], device=inputs.device) - of_inputs)
    return fields


def _products(scores: Tensor, basis: Tensor, inputs: Tensor) -> Tensor:
    """Return E[g psi phi] over each part of the rows, float64 [parts, m, P, K].

    Parameters
    ----------
    scores : Tensor [A, N, P]
    basis : Tensor [A, N, m]
    inputs : Tensor [N, K]
    """
    n_parts = min(PARTS, len(inputs))
    shape = n_parts, basis.shape[-1], scores.shape[-1], inputs.shape[-1]
    result = torch.empty(shape, dtype=torch.float64, device=inputs.device)
    for m in range(basis.shape[-1]):
        weighted = (scores * basis[..., m : m + 1]).mean(0)
        for part in range(n_parts):
            of_part = inputs[part::n_parts]
            result[part, m] = weighted[part::n_parts].T @ of_part / len(of_part)
    return result


class _Metric:
    """The inverse root of E[psi psi H], which measures moves e = sum_m c_m psi_m of the outputs.

    Roots are [1, m, m] where the curvature is 1, [P, m, m] where outputs do not interact, and [1, m P, m P] otherwise.
    """

    def __init__(self, roots: Tensor, full: bool):
        self._roots, self._full = roots, full

    @classmethod
    def of(cls, states: States, basis: Tensor) -> _Metric | None:
        """Return the metric of some states; None where no move costs anything."""
        psi, curvature = basis.flatten(0, 1).double(), states.curvature
        full = curvature is not None and curvature.ndim == 4
        if curvature is None:
            grams = (psi.T @ psi)[None]
        elif full:
            width = psi.shape[1] * curvature.shape[-1]
            grams = torch.einsum("bi,bpq,bj->ipjq", psi, curvature.flatten(0, 1).double(), psi).reshape(1, width, width)
        else:
            grams = torch.stack([(psi * h[:, None]).T @ psi for h in curvature.flatten(0, 1).double().T])
        values, vectors = torch.linalg.eigh(grams / len(psi))
        largest = values.max()
        if not largest > 0:
            return None
        inverse = torch.where(values > _NO_CURVATURE * largest, values.clamp_min(0).rsqrt(), 0.0)
        return cls((vectors * inverse[..., None, :]) @ vectors.mT, full)

    def whitened(self, fields: Tensor) -> Tensor:
        """Return the inverse root times fields [..., m, P, K]."""
        if self._full:
            return (self._roots[0] @ fields.flatten(-3, -2)).unflatten(-2, fields.shape[-3:-1])
        by_output = self._roots @ fields.transpose(-3, -2)
        return by_output.transpose(-3, -2)

    outputs = whitened
    """From whitened fields to moves of the outputs."""

    def newton(self, gradients: Tensor) -> Tensor:
        """Return the move [m, P, K] that the inverse metric makes of gradients."""
        return self.whitened(self.whitened(gradients))


def _eigen(fields: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return eigenvalues [K], descending, their errors by the jackknife, and eigenvectors [K, K].

    The eigenvalues of a noisy matrix spread, so the largest are too large. The jackknife corrects for it.

    Parameters
    ----------
    fields : Tensor [parts, m, P, K]
    """
    parts = fields.flatten(1, 2)
    n = len(parts)
    total, own = parts.sum(0), torch.einsum("rfk,rfl->rkl", parts, parts)
    values, vectors = torch.linalg.eigh((total.T @ total - own.sum(0)) / (n * (n - 1)))
    mixed = torch.einsum("fk,rfl->rkl", total, parts)
    without = total.T @ total - mixed - mixed.mT + own - (own.sum(0) - own)
    others = torch.linalg.eigvalsh(without / ((n - 1) * (n - 2)))
    errors = ((n - 1) / n * (others - others.mean(0)).square().sum(0)).sqrt()
    corrected = n * values - (n - 1) * others.mean(0)
    order = corrected.argsort(descending=True)
    return corrected[order], errors[order], vectors[:, order]
