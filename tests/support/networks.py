"""The networks once more, of torch's own operations and recorded for autograd, to hold phasevae.kernels.mlp against."""

from __future__ import annotations

from torch import Tensor

from phasevae.kernels.mlp import Network


def recorded(network: Network, parameters: Tensor, x: Tensor) -> Tensor:
    """What the network gives for x [M or 1, R, in], differentiable by parameters [M, P] and by x."""
    h = x.expand(parameters.shape[0], -1, -1)
    for layer in network.layers:
        end = layer.offset + layer.fan_in * layer.fan_out
        weight = parameters[:, layer.offset : end].reshape(-1, layer.fan_in, layer.fan_out)
        h = h @ weight + parameters[:, None, end : end + layer.fan_out]
        h = h if layer is network.layers[-1] else h.relu()
    return h
