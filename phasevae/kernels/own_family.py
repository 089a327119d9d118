"""The reconstruction term of a user's own function loss(outputs, x)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from phasevae.kernels.family import Family


class OwnFamily(Family):
    """A function of torch operations: -ln p in nats for each row, from outputs [rows, P] and rows of data [rows, D].

    Parameters
    ----------
    arrays, options
        See `Family`.
    function : callable, optional
        None for a stored model, which has no use for it.
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
        x = statistics.expand(*outputs.shape[:-1], -1)
        return self._function(outputs.flatten(0, -2), x.flatten(0, -2)).view(outputs.shape[:-1])
