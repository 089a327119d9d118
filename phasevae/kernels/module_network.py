"""A network given as an `nn.Module`, for M models at once: forward by functional_call, backward by autograd.

A row of the buffer [M, P] holds all of a model that training changes: its parameters, and its buffers such as the
running statistics of batch normalisation. Their gradients stay zero, so the optimiser leaves buffers as they are.

The bits of a model must not depend on the ensemble that it trains in. Under `torch.func.vmap` they often do: a
convolution of M models is computed as one grouped convolution, whose kernels sum in another order. So the models are
computed one after another, unless vmap gives the same bits at the shapes of the training. Each size is tried once.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

_log = logging.getLogger("phasevae")


@dataclass(frozen=True)
class Field:
    """Where a parameter or buffer of a module lies in a row of the buffer [M, P].

    `trainable` is false for buffers, and for parameters that the module keeps fixed.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: int
    size: int
    trainable: bool


def fields_of(module: nn.Module, offset: int = 0) -> list[Field]:
    """List the parameters of a module and then its buffers, each in the module's order, from `offset` on."""
    fields = []
    for name, tensor in tensors_of(module).items():
        trainable = isinstance(tensor, nn.Parameter) and tensor.requires_grad
        fields.append(Field(name, tuple(tensor.shape), tensor.dtype, offset, tensor.numel(), trainable))
        offset += tensor.numel()
    return fields


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module by name."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


@dataclass
class _Recorded:
    """What `backward` needs of some models: the graph from the leaves to the output.

    `leaves` are the trainable tensors of the module by field; `x` and `output` have a first axis for the models where
    they were computed by vmap.
    """

    leaves: list[Tensor]
    x: Tensor
    output: Tensor


class ModuleNetwork:
    """A module for each of M models, with the interface of `phasevae.kernels.mlp.Network`.

    With `keep` the module is in training mode, otherwise in evaluation mode. So dropout and batch normalisation act in
    the training alone, and the running statistics of the latter are those of the steps so far.

    Parameters
    ----------
    module : nn.Module
        Maps x [R, in] to a Tensor [R, out]. Its own values are not used.
    offset : int
        Where its parameters begin in each row of a buffer [M, P].
    label : str
        What messages call it.
    is_random : bool
        Whether the module draws random numbers in training mode; `seeds` must then be set before each `forward`.
    changes_buffers : bool
        Whether the module changes its buffers in training mode.

    Attributes
    ----------
    fields : list of Field
    end : int
        Where the parameters end.
    widest : int
        The numbers per row that a pass through the network is taken to hold.
    seeds : sequence of int
        One for each model, of the random numbers of the next `forward` with `keep`.
    """

    def __init__(
        self,
        module: nn.Module,
        offset: int = 0,
        label: str = "network",
        is_random: bool = False,
        changes_buffers: bool = False,
        widest: int = 1024,
    ):
        self.fields = fields_of(module, offset)
        self.end = offset + sum(field.size for field in self.fields)
        self.label = label
        self.widest = widest
        self.is_random = is_random
        self.seeds: Sequence[int] = ()
        self._module = module
        self._changes_buffers = changes_buffers
        self._vmapped: dict[tuple[int, ...], bool] = {}

    def forward(self, parameters: Tensor, x: Tensor, keep: bool = False) -> tuple[Tensor, list[Any]]:
        """Compute the output of the network; shapes as in `phasevae.kernels.mlp.Network.forward`."""
        self._module.train(keep)
        with _exact():
            if not keep:
                with torch.no_grad():
                    outputs = [self._called(self._tensors(row), x_m) for row, x_m in _models(parameters, x)]
                return torch.stack(outputs), []
            if self._is_vmapped(parameters, x):
                kept = [self._recorded_together(parameters, x)]
                return kept[0].output.detach(), kept
            with _forked(self.is_random, x.device):
                kept = [self._recorded(index, row, x_m) for index, (row, x_m) in enumerate(_models(parameters, x))]
        return torch.stack([record.output.detach() for record in kept]), kept

    def backward(
        self,
        parameters: Tensor,
        x: Tensor,
        kept: list[Any],
        grad_output: Tensor,
        gradients: Tensor,
        grad_for_input: Tensor | None = None,
        with_input: bool = False,
    ) -> Tensor | None:
        """Write the derivative by the parameters into its place in `gradients`; return the derivative by the input.

        Parameters and result as in `phasevae.kernels.mlp.Network.backward`. Derivatives by buffers and by fixed
        parameters are not written: they are zero.
        """
        for_input = grad_output if grad_for_input is None else grad_for_input
        together = kept[0].output.ndim == grad_output.ndim
        pairs = [(grad_output, for_input)] if together else zip(grad_output, for_input, strict=True)
        grad_inputs = []
        with _exact():
            for index, (record, (of_parameters, of_input)) in enumerate(zip(kept, pairs, strict=True)):
                rows = gradients if together else gradients[index : index + 1]
                grad_inputs.append(
                    self._differentiated(record, of_parameters.clone(), of_input.clone(), rows, with_input)
                )
        if not with_input:
            return None
        return grad_inputs[0] if together else torch.stack(grad_inputs)

    def _differentiated(
        self, record: _Recorded, of_parameters: Tensor, of_input: Tensor, rows: Tensor, with_input: bool
    ) -> Tensor | None:
        """Write the derivatives of recorded models into their `rows` of gradients; return those by the input."""
        found = torch.autograd.grad(
            record.output, record.leaves, of_parameters, retain_graph=with_input, materialize_grads=True
        )
        trainable = (field for field in self.fields if field.trainable)
        for field, gradient in zip(trainable, found, strict=True):
            rows[:, field.offset : field.offset + field.size] = gradient.reshape(rows.shape[0], field.size)
        if not with_input:
            return None
        return torch.autograd.grad(record.output, record.x, of_input, materialize_grads=True)[0]

    def _called(self, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self._module, tensors, (x,))

    def _tensors(self, row: Tensor) -> dict[str, Tensor]:
        """Return copies of a model's parameters and buffers by name; row [P], or rows [M, P] for all models.

        Copies, because in a fresh allocation each tensor is aligned alike for every model.
        """
        tensors = {}
        for field in self.fields:
            flat = row[..., field.offset : field.offset + field.size]
            dtype = row.dtype if field.dtype.is_floating_point else field.dtype
            tensors[field.name] = flat.detach().reshape((*row.shape[:-1], *field.shape)).to(dtype, copy=True)
        return tensors

    def _leaves(self, tensors: dict[str, Tensor]) -> list[Tensor]:
        return [tensors[field.name].requires_grad_() for field in self.fields if field.trainable]

    def _recorded(self, index: int, row: Tensor, x: Tensor) -> _Recorded:
        """Run one model in training mode and keep its graph. Buffers that changed are written back into the row."""
        tensors, x = self._tensors(row), x.requires_grad_()
        leaves = self._leaves(tensors)
        if self.is_random:
            torch.manual_seed(self.seeds[index])
        with torch.enable_grad():
            output = self._called(tensors, x)
        if self._changes_buffers:
            with torch.no_grad():
                for field in self.fields:
                    if not field.trainable:
                        row[field.offset : field.offset + field.size] = tensors[field.name].flatten()
        return _Recorded(leaves, x, output)

    def _recorded_together(self, parameters: Tensor, x: Tensor) -> _Recorded:
        """Run all models at once by vmap and keep the graph."""
        tensors = self._tensors(parameters)
        leaves = self._leaves(tensors)
        x = x.detach().expand(parameters.shape[0], -1, -1).clone().requires_grad_()
        with torch.enable_grad():
            return _Recorded(leaves, x, vmap(self._called)(tensors, x))

    def _is_vmapped(self, parameters: Tensor, x: Tensor) -> bool:
        """Whether vmap computes models of this number and these rows, with the same bits as one after another."""
        if self.is_random or self._changes_buffers:
            return False
        size = (parameters.shape[0], *x.shape)
        if size not in self._vmapped:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # torch warns where it has no batching rule
                    reason = "" if self._agree(parameters, x) else "vmap gives other bits"
            except Exception as error:  # a module may raise anything where vmap cannot follow it
                reason = f"vmap does not apply ({str(error).strip().splitlines()[0] if str(error) else error!r})"
            way = f"one after another: {reason}" if reason else "together, by vmap"
            _log.info("%s: %s models are computed %s", self.label, parameters.shape[0], way)
            self._vmapped[size] = not reason
        return self._vmapped[size]

    def _agree(self, parameters: Tensor, x: Tensor) -> bool:
        """Whether outputs and derivatives by vmap are bit for bit those of one model after another."""
        together = [self._recorded_together(parameters, x)]
        apart = [self._recorded(index, row, x_m) for index, (row, x_m) in enumerate(_models(parameters, x))]
        output = torch.stack([record.output.detach() for record in apart])
        if not torch.equal(together[0].output, output):
            return False
        results = []
        for kept in (together, apart):
            gradients = torch.zeros_like(parameters)
            grad_input = self.backward(parameters, x, kept, output.cos(), gradients, output.sin(), with_input=True)
            results.append((gradients, grad_input))
        return all(torch.equal(first, second) for first, second in zip(*results, strict=True))


def _models(parameters: Tensor, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the row of each model and its input [R, in]: fresh copies, so that all are aligned alike in memory."""
    x = x.detach().expand(parameters.shape[0], -1, -1)
    for row, x_m in zip(parameters, x, strict=True):
        yield row, x_m.clone()


@contextmanager
def _forked(is_random: bool, device: torch.device) -> Iterator[None]:
    """Leave the state of the random numbers as it was."""
    if not is_random:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


@contextmanager
def _exact() -> Iterator[None]:
    """Let cuDNN use kernels that give the same bits in each call, in full single precision."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
