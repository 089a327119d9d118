"""The user's encoder and decoder as functions of rows: samples get their shape, outputs become rows again."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from phasevae.datasets.sample_shape import SampleShape
from phasevae.errors import InputError


class RowEncoder(nn.Module):
    """Calls the user's encoder with samples [R, *shape], and the condition [R, C] if the rows hold one.

    Parameters
    ----------
    inner : nn.Module
        The user's encoder.
    sample : SampleShape
    n_latent : int
    label : str
        What messages call it.
    """

    def __init__(self, inner: nn.Module, sample: SampleShape, n_latent: int, label: str):
        super().__init__()
        self.inner = inner
        self._sample, self._n_latent, self.label = sample, n_latent, label

    def forward(self, rows: Tensor) -> Tensor:
        """Return mu and log variance [R, 2 n] for rows [R, D], or [R, D + C]."""
        x, condition = rows.split((self._sample.size, rows.shape[1] - self._sample.size), 1)
        given = (_as_samples(x, self._sample), condition)[: 2 if condition.shape[1] else 1]
        output = self.inner(*given)
        parts = tuple(output) if isinstance(output, tuple | list) else (output,)
        width = 2 * self._n_latent // len(parts) if parts else 0
        if len(parts) not in (1, 2) or not all(_is_rows(part, len(rows), width) for part in parts):
            n = self._n_latent
            raise InputError(
                f"{self.label}: returned {_described(output)} for {_described(given[0])}, must return (mu, logvar), "
                f"both [{len(rows)}, {n}], or one tensor [{len(rows)}, {2 * n}]"
            )
        return torch.cat(parts, 1)


class RowDecoder(nn.Module):
    """Calls the user's decoder with latents [R, n], and the condition [R, C] if the rows hold one.

    Parameters
    ----------
    inner : nn.Module
        The user's decoder.
    sample : SampleShape
    n_latent, n_outputs : int
        Latents, and outputs per sample.
    label : str
        What messages call it.
    """

    def __init__(self, inner: nn.Module, sample: SampleShape, n_latent: int, n_outputs: int, label: str):
        super().__init__()
        self.inner = inner
        self._sample, self._n_latent, self._n_outputs, self.label = sample, n_latent, n_outputs, label

    def forward(self, rows: Tensor) -> Tensor:
        """Return the outputs [R, P] for latents [R, n], or latents with their condition [R, n + C]."""
        z, condition = rows.split((self._n_latent, rows.shape[1] - self._n_latent), 1)
        output = self.inner(z, condition) if condition.shape[1] else self.inner(z)
        if not self._fits(output, len(rows)):
            expected = f"[{len(rows)}, {self._n_outputs}]"
            if self._n_outputs == self._sample.size and len(self._sample.shape) > 1:
                expected = f"[{len(rows)}, {', '.join(map(str, self._sample.shape))}] or {expected}"
            raise InputError(f"{self.label}: returned {_described(output)} for {_described(z)}, must be {expected}")
        return _as_rows(output, self._sample)

    def _fits(self, output: Any, n_rows: int) -> bool:
        """Several outputs for each number of a sample may have any shape; others are flat or shaped as the sample."""
        if not isinstance(output, Tensor) or output.ndim < 2 or output.shape[0] != n_rows:
            return False
        if math.prod(output.shape[1:]) != self._n_outputs:
            return False
        shape = [side for side in output.shape[1:] if side > 1]
        allowed = [side for side in self._sample.shape if side > 1]
        return self._n_outputs != self._sample.size or output.ndim == 2 or shape == allowed


def _as_samples(x: Tensor, sample: SampleShape) -> Tensor:
    """Give rows [R, D] the shape [R, *shape]."""
    if not sample.channels_last or sample.shape[0] == 1:
        return x.reshape(-1, *sample.shape)
    channels, *sides = sample.shape
    return x.reshape(-1, *sides, channels).movedim(-1, 1).contiguous()


def _as_rows(output: Tensor, sample: SampleShape) -> Tensor:
    """Flatten outputs [R, ...], of one number or several for each of a sample, into the order of the data's rows."""
    flat = output.reshape(len(output), -1)
    if not sample.channels_last or sample.shape[0] == 1 or flat.shape[1] % sample.size:
        return flat
    return flat.reshape(len(flat), -1, *sample.shape).movedim(2, -1).reshape(len(flat), -1)


def _is_rows(part: Any, n_rows: int, width: int) -> bool:
    return isinstance(part, Tensor) and part.shape == (n_rows, width)


def _described(value: Any) -> str:
    """The shape of a tensor, or what else the user returned."""
    if isinstance(value, Tensor):
        return str(list(value.shape))
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_described, value))})"
    return f"a {type(value).__name__}"
