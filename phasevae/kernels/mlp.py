"""Forward and backward passes of one network for M models at once: linear layers with ReLUs between them.

The derivatives are written out, not recorded by autograd. A training step differentiates two objectives through the
decoder, one by its parameters and one by its input, and neither pass needs all that a recorded one would compute. On
the CPU the native kernels take a block of rows through all layers while it stays in the cache (csrc/cpu/mlp_block.h).
On CUDA a launch takes a layer of all models (csrc/cuda/networks.cu). Elsewhere, and in float64, PyTorch computes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from phasevae.kernels.backends import allows_tf32
from phasevae.kernels.dispatch import implementation

_THIN = 16
"""Matrix products with this many columns or fewer are several times slower in the libraries of the CPU than their
transposes, even with the copy of the weight that a transpose needs."""


class Layer(NamedTuple):
    """A linear layer: its widths, and the offset of its weight [in, out] in a model's parameters; the bias follows."""

    fan_in: int
    fan_out: int
    offset: int


class Network:
    """A network of the same widths for each of M models. It records nothing for autograd.

    Parameters
    ----------
    widths : sequence of int
        Widths of the input, of the hidden layers and of the output.
    offset : int
        Where the parameters begin in each row of a buffer [M, P].

    Attributes
    ----------
    layers : list of Layer
        The linear layers from the input to the output.
    end : int
        Where the parameters end.
    widest : int
        The numbers per row that a pass through the network holds.
    is_random : bool
        Whether it draws random numbers in the training; false.
    """

    is_random = False

    def __init__(self, widths: Sequence[int], offset: int):
        self.widths = list(widths)
        self.layers: list[Layer] = []
        self.widest = max(widths)
        self._offset = offset
        for fan_in, fan_out in itertools.pairwise(widths):
            self.layers.append(Layer(fan_in, fan_out, offset))
            offset += (fan_in + 1) * fan_out
        self.end = offset

    @torch.no_grad()
    def forward(self, parameters: Tensor, x: Tensor, keep: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Compute the output of the network.

        Parameters
        ----------
        parameters : Tensor [M, P]
        x : Tensor [M, R, in] or [1, R, in]
            The rows; with 1 they are shared by all models.
        keep : bool
            Whether `backward` will be called.

        Returns
        -------
        output : Tensor [M, R, out]
        kept : list of Tensor
            With `keep` what `backward` needs, else an empty list.
        """
        if _native_kernels(parameters, x):
            x = x if x.stride(-1) == 1 else x.contiguous()
            tf32 = uses_tf32(parameters.device)
            output, tape = torch.ops.phasevae.mlp_forward(x, parameters, self._offset, self.widths, keep, tf32)
            return output, [tape] if keep else []
        if self._is_lone_and_narrow(parameters):
            output, inner = self.forward(_twice(parameters), x, keep)
            return output[:1], [h[:1] for h in inner]
        h = x.expand(parameters.shape[0], -1, -1)
        inner: list[Tensor] = []
        for layer in self.layers:
            weight, bias = _of(layer, parameters)
            if _is_thin(layer, parameters):
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
        with_input: bool = False,
    ) -> Tensor | None:
        """Write the derivative by the parameters into its place in `gradients`; return the derivative by the input.

        Parameters
        ----------
        parameters, x : Tensor
            As given to `forward`; x with unit stride in its last dimension.
        kept : list of Tensor
            As returned by `forward`.
        grad_output : Tensor [M, R, out]
            The derivative of the parameters' objective by the output.
        gradients : Tensor [M, P]
            Only the entries of this network are written.
        grad_for_input : Tensor [M, R, out], optional
            The derivative of the input's objective by the output, if it is another objective.
        with_input : bool
            Whether to compute the derivative by the input.

        Returns
        -------
        Tensor [M, R, in] or None
            None without `with_input`.
        """
        if _native_kernels(parameters, x):
            network, grads = (self._offset, self.widths, kept[0]), (grad_output, grad_for_input, with_input, gradients)
            tf32 = uses_tf32(parameters.device)
            grad_input = torch.ops.phasevae.mlp_backward(x, parameters, *network, *grads, tf32)
            return grad_input if with_input else None
        if self._is_lone_and_narrow(parameters):
            both = _twice(gradients).clone()
            kept, of_input = [_twice(h) for h in kept], None if grad_for_input is None else _twice(grad_for_input)
            args = _twice(parameters), x, kept, _twice(grad_output), both, of_input, with_input
            grad_input = self.backward(*args)
            gradients.copy_(both[:1])
            return grad_input[:1] if with_input else None
        inputs = [x.expand(parameters.shape[0], -1, -1), *kept]
        grad = grad_output
        for layer, h in zip(reversed(self.layers), reversed(inputs), strict=True):
            weight, bias = _of(layer, gradients)
            torch.sum(grad, 1, keepdim=True, out=bias)
            if _is_thin(layer, parameters):
                weight.copy_((grad.mT @ h).mT)
            else:
                torch.bmm(h.mT, grad, out=weight)
            if layer.offset > self._offset:
                grad = _to_input(layer, parameters, grad, h)
        if not with_input:
            return None
        if grad_for_input is not None:
            grad = grad_for_input
            for layer, h in zip(self.layers[:0:-1], inputs[:0:-1], strict=True):
                grad = _to_input(layer, parameters, grad, h)
        return grad @ _of(self.layers[0], parameters)[0].mT

    def _is_lone_and_narrow(self, parameters: Tensor) -> bool:
        """Whether the libraries would round differently because there is one model: products with a width of 1.

        They then take other functions than for several models. Such a model is computed twice, side by side, so that
        its bits do not depend on its ensemble.
        """
        return parameters.shape[0] == 1 and 1 in self.widths


def uses_tf32(device: torch.device) -> bool:
    """Return whether products of float32 matrices on a device are computed in TF32, here and by torch."""
    return device.type == "cuda" and allows_tf32() and torch.cuda.get_device_capability(device) >= (8, 0)


def _is_thin(layer: Layer, parameters: Tensor) -> bool:
    return layer.fan_out <= _THIN and not parameters.is_cuda


def _twice(rows: Tensor) -> Tensor:
    return rows.expand(2, *rows.shape[1:])


def _of(layer: Layer, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return views [M, in, out] and [M, 1, out] of a layer's weight and bias in rows [M, P]."""
    end = layer.offset + layer.fan_in * layer.fan_out
    weight = rows[:, layer.offset : end].unflatten(1, (layer.fan_in, layer.fan_out))
    return weight, rows[:, None, end : end + layer.fan_out]


def _to_input(layer: Layer, parameters: Tensor, grad: Tensor, h: Tensor) -> Tensor:
    """Return the derivative by the input of the ReLU whose output is h, the input of the layer."""
    grad = grad @ _of(layer, parameters)[0].mT
    return torch.ops.aten.threshold_backward.grad_input(grad, h, 0, grad_input=grad)


def _native_kernels(parameters: Tensor, x: Tensor) -> bool:
    device = parameters.device.type
    return parameters.dtype == x.dtype == torch.float32 and implementation(device).has_network_kernels(device)
