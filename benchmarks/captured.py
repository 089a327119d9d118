"""What a CUDA graph would capture, recorded on the CPU: the operations of torch that reach a device, in their order.

A capture forbids what makes the host wait for the device, and data that the host sends. Both raise an error here, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FORBIDDEN = {
    "aten::_local_scalar_dense": "reads a number on the host",
    "aten::equal": "reads a number on the host",
    "aten::nonzero": "has a result whose shape depends on numbers of the device",
    "aten::masked_select": "has a result whose shape depends on numbers of the device",
    "aten::_unique2": "has a result whose shape depends on numbers of the device",
    "aten::lift_fresh": "sends data from the host",
    "aten::_pin_memory": "allocates on the host",
}


class Call(NamedTuple):
    """One operation.

    Attributes
    ----------
    operation : OpOverload
    args, kwargs
        What it was given.
    made : list of Tensor
        Its results, without views of its arguments and arguments that it changed.
    written : list of Tensor
        Arguments that it changed.
    """

    operation: Any
    args: tuple
    kwargs: dict
    made: list[Tensor]
    written: list[Tensor]

    @property
    def name(self) -> str:
        return self.operation._schema.name

    @property
    def is_view(self) -> bool:
        """Whether it launches nothing."""
        return not self.made and not self.written


class Recorder(TorchDispatchMode):
    """Records the operations of a computation, which are done as usual.

    Raises RuntimeError at an operation that a capture forbids.

    Attributes
    ----------
    calls : list of Call
    """

    def __init__(self):
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name
        if name in FORBIDDEN:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name} {FORBIDDEN[name]}")
        if name.startswith("aten::index") and any(t.dtype == torch.bool for t in tensors_of(args[1:])):
            raise RuntimeError(f"operation not permitted when stream is capturing: {name} by a mask")
        result = func(*args, **kwargs)
        returns = func._schema.returns
        outputs = (result,) if len(returns) == 1 else result or ()
        made = [t for out, of in zip(outputs, returns, strict=True) if not of.alias_info for t in tensors_of(out)]
        self.calls.append(Call(func, args, kwargs, made, list(_written(func, args, kwargs))))
        return result


def tensors_of(values: object) -> list[Tensor]:
    """Return the tensors in nested values."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _written(func: Any, args: tuple, kwargs: dict) -> Iterator[Tensor]:
    given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    for argument in func._schema.arguments:
        if argument.alias_info and argument.alias_info.is_write:
            yield from tensors_of(given.get(argument.name))
