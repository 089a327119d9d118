"""One network of each of M models: linear layers with rectifiers between them, forward and back.

Derivatives are written out instead of recorded: a decoder is to be differentiated twice, by what its parameters and by
what its input minimise, and neither pass needs all that a recorded one would compute. On the CPU the native kernels
take a block of rows through all layers while it stays in the cache (csrc/cpu/mlp_block.h); PyTorch computes elsewhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from phasevae.kernels.elbo import backend

_THIN = 16
"""Libraries' matrix products with so few columns are several times slower than those with so few rows."""


class Layer(NamedTuple):
    """A linear layer: its widths, and where its weight [in, out] begins in a model's row; the bias follows."""

    fan_in: int
    fan_out: int
    offset: int


class Network:
    """Layers of the given widths, whose parameters begin at `offset` in each row of a buffer [M, P].

    Not for autograd: `forward` records nothing for it.
    """

    def __init__(self, widths: Sequence[int], offset: int):
        self.widths = list(widths)
        self.layers: list[Layer] = []
        self._offset = offset
        for fan_in, fan_out in itertools.pairwise(widths):
            self.layers.append(Layer(fan_in, fan_out, offset))
            offset += (fan_in + 1) * fan_out
        self.end = offset

    @torch.no_grad()
    def forward(self, parameters: Tensor, x: Tensor, keep: bool = False) -> tuple[Tensor, list[Tensor]]:
        """What the network gives, [M, R, out], and with `keep` what `backward` needs of it.

        parameters: [M, P]; x: [M, R, in], or [1, R, in] shared by all models.
        """
        if _native_kernels(parameters, x):
            x = x if x.stride(-1) == 1 else x.contiguous()
            output, tape = torch.ops.phasevae.mlp_forward(x, parameters, self._offset, self.widths, keep)
            return output, [tape] if keep else []
        h = x.expand(parameters.shape[0], -1, -1)
        inner: list[Tensor] = []
        for layer in self.layers:
            weight, bias = _of(layer, parameters)
            if layer.fan_out <= _THIN:
                weight = weight.mT.contiguous().mT
            h = torch.baddbmm(bias, h, weight)
            if layer is not self.layers[-1]:
                h.relu_()
                if keep:
                    inner.append(h)
        return h, inner

    @torch.no_grad()
    def backward(
        self,
        parameters: Tensor,
        x: Tensor,
        kept: list[Tensor],
        grad_output: Tensor,
        gradients: Tensor,
        grad_for_input: Tensor | None = None,
        input_wanted: bool = False,
    ) -> Tensor | None:
        """Put the derivative by the parameters into their place in `gradients` [M, P]; return that by the input.

        parameters, x: as given to `forward`, the latter of unit stride in its last dimension; kept: what it returned;
        grad_output: the derivative by the output of what is differentiated, [M, R, out]; grad_for_input: of what is
        differentiated by the input, when that is something else; input_wanted: whether to compute the derivative by the
        input, [M, R, in].
        """
        if _native_kernels(parameters, x):
            found = torch.ops.phasevae.mlp_backward(
                x, parameters, self._offset, self.widths, kept[0], grad_output, grad_for_input, input_wanted, gradients
            )
            return found if input_wanted else None
        inputs = [x.expand(parameters.shape[0], -1, -1), *kept]
        grad = grad_output
        for layer, h in zip(reversed(self.layers), reversed(inputs), strict=True):
            weight, bias = _of(layer, gradients)
            torch.sum(grad, 1, keepdim=True, out=bias)
            weight.copy_((grad.mT @ h).mT if layer.fan_out <= _THIN else h.mT @ grad)
            if layer.offset > self._offset:
                grad = _to_input(layer, parameters, grad, h)
        if not input_wanted:
            return None
        if grad_for_input is not None:
            grad = grad_for_input
            for layer, h in zip(self.layers[:0:-1], inputs[:0:-1], strict=True):
                grad = _to_input(layer, parameters, grad, h)
        return grad @ _of(self.layers[0], parameters)[0].mT


def _of(layer: Layer, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The views [M, in, out] and [M, 1, out] of a layer's weight and bias in rows [M, P]."""
    end = layer.offset + layer.fan_in * layer.fan_out
    weight = rows[:, layer.offset : end].unflatten(1, (layer.fan_in, layer.fan_out))
    return weight, rows[:, None, end : end + layer.fan_out]


def _to_input(layer: Layer, parameters: Tensor, grad: Tensor, h: Tensor) -> Tensor:
    """The derivative by what went into the rectifier that gave h."""
    grad = grad @ _of(layer, parameters)[0].mT
    return torch.ops.aten.threshold_backward.grad_input(grad, h, 0, grad_input=grad)


def _native_kernels(parameters: Tensor, x: Tensor) -> bool:
    if parameters.device.type != "cpu" or parameters.dtype != torch.float32 or x.dtype != torch.float32:
        return False
    if backend("cpu") != "native_cpu":
        return False
    from phasevae.kernels import native

    return native.HAS_NETWORK_KERNELS
