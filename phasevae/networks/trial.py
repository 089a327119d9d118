"""A trial of the user's networks on a few rows, before any training: mistakes are named, and habits are noticed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import UninitializedTensorMixin

from phasevae.errors import InputError
from phasevae.kernels.module_network import tensors_of
from phasevae.networks.loading import own_code, reproducible
from phasevae.networks.modules import RowDecoder, RowEncoder
from phasevae.sweeps.network_file import NetworkFile

TRIAL_ROWS = 4

_LARGEST_INTEGER = 2**24
"""Whole numbers up to this one are exact in float32, in which a model is stored."""

_TOLERANCE = 1e-3
"""Outputs of a row alone and among others may differ by this part of the outputs: rounding, but no more."""


@dataclass(frozen=True)
class Habits:
    """What a module does in training mode: draw random numbers (dropout), change its buffers (batch normalisation)."""

    is_random: bool
    changes_buffers: bool


def initialise_lazy(
    module: RowEncoder | RowDecoder, width: int, source: NetworkFile, seed: int, sample: tuple[int, ...] = ()
) -> None:
    """Run a module once if it has lazy layers, whose parameters exist after their first input.

    Parameters
    ----------
    module : RowEncoder or RowDecoder
    width : int
        Numbers of a row.
    source : NetworkFile
        The file that defines the module.
    seed : int
        Seed of the initial weights.
    sample : tuple of int
        See `tried`.
    """
    if any(isinstance(tensor, UninitializedTensorMixin) for tensor in tensors_of(module).values()):
        with own_code(source, module.label, sample), reproducible(seed), torch.no_grad():
            module.eval()(torch.zeros(TRIAL_ROWS, width))


def check_tensors(module: nn.Module, label: str) -> None:
    """Check that a module has parameters to train, and that its parameters and buffers can be stored in float32.

    Raises InputError that names the first one that cannot.
    """
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise InputError(f"{label}: has no parameters to train, must have some (nn.Parameter with requires_grad)")
    for name, tensor in tensors_of(module).items():
        if tensor.dtype == torch.float32:
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(f"{label}: '{name}' is not finite, must begin with finite numbers")
        elif isinstance(tensor, nn.Parameter) or tensor.dtype.is_floating_point or tensor.dtype.is_complex:
            raise InputError(f"{label}: '{name}' is {tensor.dtype}, must be torch.float32")
        elif tensor.numel() and int(tensor.long().abs().max()) > _LARGEST_INTEGER:
            raise InputError(f"{label}: buffer '{name}' holds numbers above {_LARGEST_INTEGER}, must be smaller")


def tried(module: nn.Module, rows: Tensor, source: NetworkFile, label: str, sample: tuple[int, ...] = ()) -> Habits:
    """Run a module on a few rows, in both modes and backward.

    Parameters
    ----------
    module : nn.Module
        Maps rows [R, in] to rows [R, out].
    rows : Tensor [R, in]
        Two or more rows, on the device and in the type of the training.
    source : NetworkFile
        The file that defines the module.
    label : str
        What messages call the module.
    sample : tuple of int
        Shape of the samples that the module takes, for messages; () for one that takes latents.

    Returns
    -------
    Habits

    Raises
    ------
    InputError
        If the module raises an exception, returns another shape or type, or numbers that are not finite; changes its
        input; mixes the rows of a batch or draws random numbers in evaluation mode; keeps a state that is no buffer; or
        if its output does not depend on its input or on its parameters.
    """
    runner = _Runner(module, rows, source, label, sample)
    _check_evaluation(runner)
    return _checked_training(runner)


@dataclass
class _Run:
    """A run: the copies of input and tensors that it was made with, as they are afterwards; the output; its habits."""

    x: Tensor
    tensors: dict[str, Tensor]
    output: Tensor
    habits: Habits


@dataclass
class _Runner:
    """Runs a module on copies of its tensors and of the rows."""

    module: nn.Module
    rows: Tensor
    source: NetworkFile
    label: str
    sample: tuple[int, ...]

    def run(self, training: bool, seed: int = 0, rows: Tensor | None = None) -> _Run:
        given = self.rows if rows is None else rows
        x = given.clone().requires_grad_(training)
        tensors = {name: self._copied(tensor) for name, tensor in tensors_of(self.module).items()}
        kept = {name: (tensor, tensor._version) for name, tensor in tensors.items()}
        mode = "training" if training else "evaluation"
        place = f"{self.label}: in {mode} mode on {len(x)} rows"
        with own_code(self.source, place, self.sample), reproducible(seed, x.device):
            self.module.train(training)
            before = _random_state(x.device)
            with torch.set_grad_enabled(training):
                output = functional_call(self.module, tensors, (x,))
            is_random = not torch.equal(before, _random_state(x.device))
        if not torch.equal(x, given):
            raise self.error("changes its input in place, must leave it as it is (inplace=True in its first layer?)")
        if output.dtype != x.dtype:
            raise self.error(f"returns {output.dtype}, must be {x.dtype}")
        if not bool(torch.isfinite(output).all()):
            raise self.error(f"returns NaN or infinite numbers in {mode} mode, must be finite")
        # A write is noticed even where it leaves the values as they are: its next one may not.
        written = [
            tensors[name] is not tensor or tensor._version != version or not torch.equal(tensor, self._copied(original))
            for (name, (tensor, version)), original in zip(kept.items(), tensors_of(self.module).values(), strict=True)
        ]
        return _Run(x, tensors, output, Habits(is_random, any(written)))

    def derivatives(self, run: _Run, sources: list[Tensor]) -> list[Tensor]:
        """Return the derivatives of the output, summed, by those of the sources that it depends on."""
        if not run.output.requires_grad:
            return []
        with own_code(self.source, f"{self.label}: backward"):
            found = torch.autograd.grad(run.output.sum(), sources, retain_graph=True, allow_unused=True)
        return [gradient for gradient in found if gradient is not None]

    def error(self, message: str) -> InputError:
        return InputError(f"{self.label}: {message}")

    def _copied(self, tensor: Tensor) -> Tensor:
        dtype = self.rows.dtype if tensor.dtype.is_floating_point else tensor.dtype
        copy = tensor.detach().to(self.rows.device, dtype, copy=True)
        return copy.requires_grad_() if isinstance(tensor, nn.Parameter) and tensor.requires_grad else copy


def _check_evaluation(runner: _Runner) -> None:
    first, second = (runner.run(False, seed).output for seed in (0, 1))
    if not torch.equal(first, second):
        raise runner.error(
            "draws random numbers in evaluation mode, must be a function of its input "
            "(an encoder returns mu and logvar, not a sample)"
        )
    alone = runner.run(False, rows=runner.rows[:1]).output
    if not bool((first[:1] - alone).abs().max() <= _TOLERANCE * first.abs().max()):
        raise runner.error(
            "mixes the rows of a batch in evaluation mode, must treat each row alone "
            "(is an operation over the first axis, as attention without batch_first=True?)"
        )


def _checked_training(runner: _Runner) -> Habits:
    run, again = runner.run(True), runner.run(True)
    if not torch.equal(run.output, again.output):
        raise runner.error(
            "gives another output when it is called again with the same torch seed: "
            "its random numbers must be torch's, and a state that it changes must be a buffer"
        )
    by_parameters = runner.derivatives(
        run, [tensor for tensor in run.tensors.values() if tensor.is_leaf and tensor.requires_grad]
    )
    if not by_parameters:
        raise runner.error("its output does not depend on its parameters, must be differentiable by them")
    by_input = runner.derivatives(run, [run.x])
    if not by_input:
        raise runner.error("its output does not depend on its input, must be differentiable by it")
    if not all(bool(torch.isfinite(gradient).all()) for gradient in (*by_parameters, *by_input)):
        raise runner.error("its derivatives are not finite, must be finite")
    return run.habits


def _random_state(device: torch.device) -> Tensor:
    """The state of the random numbers of a device."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.random.get_rng_state()
