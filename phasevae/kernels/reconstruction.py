"""The reconstruction term of the ELBO, by the likelihood of the decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class Reconstruction(ABC):
    """Placeholder until the skeleton lands."""

    n_outputs: int
    n_statistics: int
    is_linear: bool
    offset: Tensor

    @abstractmethod
    def statistics(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def energy(self, statistics: Tensor, outputs: Tensor, sigma2: Tensor) -> Tensor: ...

    @abstractmethod
    def constant(self, x: Tensor) -> Tensor: ...

    def means(self, outputs: Tensor) -> Tensor:
        raise NotImplementedError
