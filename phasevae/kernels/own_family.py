"""The reconstruction term of a user's own function loss(outputs, x)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from phasevae.errors import InputError
from phasevae.kernels.family import Family


class OwnFamily(Family):
    """A function of torch operations: -ln p in nats for each row, from outputs [rows, P] and rows of data [rows, D].

    Parameters
    ----------
    arrays, options
        See `Family`.
    function : callable, optional
        None for a stored model: its file does not hold the function, and `energy` raises InputError.
    """

    is_linear = False

    def __init__(
        self,
        arrays: Mapping[str, NDArray],
        options: Mapping[str, Any],
        function: Callable[[Tensor, Tensor], Tensor] | None = None,
    ):
        super().__init__(arrays, options)
        self._function = function

    def _energy(self, statistics: Tensor, outputs: Tensor) -> Tensor:
        if self._function is None:
            raise InputError(
                "likelihood: your own function is not stored with the weights, must be one of phasevae's likelihoods; "
                "point.json has the edge (residual_edge) that the training measured"
            )
        x = statistics.expand(*outputs.shape[:-1], -1)
        return self._function(outputs.flatten(0, -2), x.flatten(0, -2)).view(outputs.shape[:-1])
