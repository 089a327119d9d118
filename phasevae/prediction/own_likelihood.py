"""A likelihood of the user's own: its constant decoder, its spectrum, and its reconstruction term.

The function takes outputs of the decoder [rows, P] and rows of data [rows, D], and returns -ln p of each row in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasevae.artifacts.names import OWN
from phasevae.errors import InputError
from phasevae.kernels.own_family import OwnFamily
from phasevae.prediction.own_loss.function import load_function
from phasevae.prediction.own_loss.measure import understand
from phasevae.prediction.own_loss.rows import rows_of
from phasevae.spectrum.spectrum import Spectrum

_PROBE_ROWS = 8


@dataclass(frozen=True)
class OwnLikelihood:
    """The fitted function: its reconstruction term, the spectrum of its scores and the loss of its constant decoder."""

    term: OwnFamily
    spectrum: Spectrum
    collapsed_loss: float  # nats per sample


def own_likelihood(name: str, options: Mapping[str, Any], x: NDArray) -> OwnLikelihood:
    """Load a function and fit its constant decoder.

    Parameters
    ----------
    name : str
        module:FILE.py:NAME.
    options : mapping
        `n_outputs`, the outputs of the decoder P; as many as features by default.
    x : array [N, D]

    Raises
    ------
    InputError
        One line that names file and function: if it cannot be imported or fails, returns something else than one finite
        number for each row, changes its arguments or is random; and for losses without an optimum or curvature.
    """
    address = name.removeprefix(OWN)
    function = load_function(address)
    n_outputs = int(options.get("n_outputs", x.shape[1]))

    def with_kl(recon: Tensor, rows: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        return checked(function, address, recon, rows).sum() + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()

    with_kl.__name__ = address
    _probe(function, address, torch.from_numpy(np.array(x[:_PROBE_ROWS], dtype=np.float64)), n_outputs)
    own = understand(with_kl, rows_of(x), 1, output_shape=(n_outputs,), is_likelihood=True)

    def each_row(outputs: Tensor, rows: Tensor) -> Tensor:
        return checked(function, address, outputs, rows)

    term = OwnFamily({"offset": own.constant}, dict(options), each_row)
    return OwnLikelihood(term, own.scores.spectrum, own.collapsed_loss)


def checked(function: Callable[[Tensor, Tensor], Tensor], address: str, outputs: Tensor, x: Tensor) -> Tensor:
    """Return the loss of each row. Raises InputError that names the function if it fails or gives another shape."""
    try:
        loss = function(outputs, x)
    except Exception as error:  # whatever a user's function raises
        shapes = f"outputs {tuple(outputs.shape)} and x {tuple(x.shape)}"
        reason = str(error).strip().splitlines()[:1]
        raise InputError(f"{address}: fails for {shapes} ({type(error).__name__}: {''.join(reason)})") from None
    if not isinstance(loss, Tensor) or loss.shape != (len(x),):
        found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise InputError(f"{address}: returns {found}, must be a tensor of shape [rows] = ({len(x)},)")
    return loss


def _probe(function: Callable[[Tensor, Tensor], Tensor], address: str, x: Tensor, n_outputs: int) -> None:
    """Check that a function leaves its arguments as they are and gives the same twice. Raises InputError otherwise."""
    outputs = torch.full((len(x), n_outputs), 0.25, dtype=x.dtype)
    arguments = outputs.clone(), x.clone()
    first = checked(function, address, *arguments)
    if not (torch.equal(arguments[0], outputs) and torch.equal(arguments[1], x)):
        raise InputError(f"{address}: changes its arguments, must leave outputs and x as they are")
    second = checked(function, address, outputs, x)
    if not torch.equal(first, second) and not bool(first.isnan().any()):
        raise InputError(f"{address}: gives two values for the same arguments, must not be random")
