"""The training loop: one ensemble in one flat buffer, with one Adam and schedules that depend on the point alone.

All random numbers are functions of (point, step). So a checkpoint needs only the parameters, the two moments of Adam,
the step and the history; see `Trainer.state`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from phasevae.errors import InputError
from phasevae.kernels.adam import Adam
from phasevae.model import VAEEnsemble
from phasevae.rows import mean_over, part_of
from phasevae.sweeps.settings import GAUSSIAN, Member, Settings
from phasevae.theory.ppca import collapsed_elbo
from phasevae.training import cuda_graph
from phasevae.training.faster_way import FasterWay
from phasevae.training.fused_step import FusedBounds, FusedStep
from phasevae.training.hierarchy_step import HierarchyStep
from phasevae.training.malloc import keep_pages
from phasevae.training.native_steps import NativeSteps
from phasevae.training.problem import Problem
from phasevae.training.row_order import RowOrder
from phasevae.training.step_rows import rows_of_steps
from phasevae.training.vae_step import VAEStep

HISTORY_COLUMNS = ("step", "samples", "sigma2", "elbo", "kl", "mse")
_HISTORY_ROWS = 100
_BLOCK = 8192

TINY_SIGMA2 = 1e-12
"""A decoder variance below this part of the data's is less than the rounding of the outputs in single precision."""


class Trainer:
    """Trains an ensemble on the rows of a problem, which are in memory or read from their file.

    Parameters
    ----------
    problem : Problem, or Tensor [N, D]
        What to fit. A tensor is taken as centred rows on the device to train on, for a Gaussian decoder.
    members : sequence of Member
        Decoder variance, beta and seed of each model.
    settings : Settings
        Shared by all models.
    use_graph : bool, optional
        Whether to replay each step as a CUDA graph; by default if the data are on a CUDA device.

    Attributes
    ----------
    model : VAEEnsemble
    gradients : Tensor [M, P]
        Those of the last step.
    step : int
        Steps done so far.
    history : list of array [M, len(HISTORY_COLUMNS)]
        Means over the steps since the record before.
    """

    def __init__(
        self, problem: Problem | Tensor, members: Sequence[Member], settings: Settings, use_graph: bool | None = None
    ):
        keep_pages()
        self.settings = settings
        self.members = list(members)
        self.step = 0
        self.history: list[np.ndarray] = []
        problem = problem if isinstance(problem, Problem) else Problem.of(problem, settings)
        self._rows = rows = problem.rows
        device = rows.device
        seeds = sorted({member.seed for member in members})
        seen = None if not settings.balanced_order else rows.seen
        self._order = RowOrder(
            seeds, problem.chapters, settings.batch, rows.order_device, seen, settings.n_latent, rows.classes
        )
        self._seed_of_member = torch.tensor([seeds.index(member.seed) for member in members], device=device)
        self._sigma2 = torch.tensor([member.sigma2 for member in members], dtype=rows.dtype, device=device)
        self._reconstruction = problem.reconstruction
        self._held_out = problem.held_out
        is_fused = FusedStep.can_train(problem, settings)
        of_kind = FusedStep if is_fused else VAEStep if settings.hierarchy is None else HierarchyStep
        self._vae = of_kind(problem, members, settings)
        self._adam = Adam(self._vae.model.parameters)
        self._window = torch.zeros(3, len(members), dtype=torch.float64, device=device)
        self._window_steps = 0
        shape = (len(seeds), settings.batch)
        self._shown = rows_of_steps(rows, self._numbers, settings.n_steps, shape)
        self._inputs = cuda_graph.StepInputs(self._upcoming, settings.n_steps, shape, device, self._shown.block)
        bounds = self._inputs, self._sigma2, self._seed_of_member, self._window
        self._bounds = FusedBounds(*bounds) if is_fused else None
        # A captured step cannot seed the random numbers of the networks.
        self._use_graph = (device.type == "cuda" if use_graph is None else use_graph) and not self._vae.is_random
        self._launch: Callable[[], object] | None = None
        self._native_steps = self._native(problem)
        self._native_or_single = FasterWay()

    def _native(self, problem: Problem) -> NativeSteps | None:
        """The steps as native calls, where they are known to the kernels."""
        of_step = problem, self.settings, self._vae, self._shown
        if self._use_graph or not NativeSteps.can_train(*of_step):
            return None
        streams = self._seed_of_member
        return NativeSteps(*of_step, self._sigma2, streams, self._adam.moments, self._window)

    @property
    def model(self) -> VAEEnsemble:
        self._finish_native_steps()
        return self._vae.model

    @property
    def gradients(self) -> Tensor:
        self._finish_native_steps()
        return self._vae.gradients

    def _finish_native_steps(self) -> None:
        """Put all tensors in order: native steps leave them as their kernels like them from one call to the next."""
        if self._native_steps is not None:
            self._native_steps.finish()

    def run(
        self,
        on_record: Callable[[Trainer], None] = lambda trainer: None,
        should_stop: Callable[[], bool] = lambda: False,
        until: int | None = None,
    ) -> bool:
        """Train to the end of the budget.

        Parameters
        ----------
        on_record : callable
            Called with the trainer about a hundred times, after each new record of the history.
        should_stop : callable
            Called after a quarter of a second, or after a step that takes longer; training pauses if it returns True.
        until : int, optional
            The number of steps to pause after.

        Returns
        -------
        bool
            Whether the end was reached.

        Raises
        ------
        InputError
            If the loss of a model is no longer finite.
        """
        total = self.settings.n_steps
        end = total if until is None else min(until, total)
        every = max(1, total // _HISTORY_ROWS)
        try:
            while self.step < end:
                if should_stop():
                    return False
                self._train(min(end, self.step - self.step % every + every) - self.step)
                if self.step % every == 0 or self.step == total:
                    self._record()
                    on_record(self)
        finally:
            self._finish_native_steps()
        return self.step == total

    def _train(self, most: int) -> None:
        """Do one step, or up to `most` of them in one native call."""
        native = self._native_steps
        if native is None or not (native.has_work_for_all() or self._native_or_single.is_first):
            self._train_step()
            return
        inputs = self._inputs.take(self.step, min(most, native.at_once))
        with self._native_or_single.timed(True, len(inputs.rows)):
            native.train(self.step, inputs)
        self.step += len(inputs.rows)
        self._window_steps += len(inputs.rows)

    def _train_step(self) -> None:
        self._finish_native_steps()
        self._inputs.prepare(self.step)
        if self._launch is None:
            changed = (*self._buffers().values(), *self._inputs.counters)
            self._launch = cuda_graph.captured(self._compute, changed) if self._use_graph else self._compute
        if self._vae.is_random:
            self._vae.seed_noise(self.step)
        with self._native_or_single.timed(False, 1):
            self._launch()
        self.step += 1
        self._window_steps += 1

    def _compute(self) -> None:
        """Do a step with the tensors of `_inputs` alone, because a captured step gets nothing from the host."""
        bounds = self._bounds
        x = None if bounds is None else bounds.rows_of(self._shown)
        if x is not None:
            batch, sigma2, factor, learning_rate = bounds.begin(x)
        else:
            rows, factor, learning_rate = self._inputs.current()
            batch, sigma2 = self._shown.gather(rows), self._sigma2 * factor
            if rows.shape[0] > 1:
                batch = batch.each(self._seed_of_member)
        energy, kl, penalty = self._vae.differentiate(batch, sigma2, self._inputs.step)
        self._adam.step(self._vae.model.parameters, self._vae.gradients, learning_rate, self._inputs.step)
        if bounds is None:
            self._add(energy, kl, penalty, factor)
        else:
            bounds.end(energy, kl, penalty, factor)

    def _add(self, energy: Tensor, kl: Tensor, penalty: Tensor, factor: Tensor) -> None:
        """Add a step to the sums for the history, and advance the counters."""
        # Twice the energy at sigma2 = 1. The energy leaves out the constant, so for a Gaussian decoder this is the
        # squared error.
        of_energy, of_kl, of_penalty = self._window
        of_energy += energy * (2 * factor) * self._sigma2
        of_kl += kl
        of_penalty += penalty
        self._inputs.advance()

    def _upcoming(self, first: int, count: int) -> cuda_graph.Inputs:
        """Return the inputs of `count` steps from `first` on."""
        rows = self._shown.load(first, count)
        schedules = (self.settings.sigma2_factor_at, self.settings.learning_rate_at)
        steps = range(first, first + count)
        return cuda_graph.Inputs(
            rows, *(torch.tensor([at(step) for step in steps], dtype=torch.float64) for at in schedules)
        )

    def _numbers(self, first: int, count: int) -> Tensor:
        """Return the row numbers [count, S, B] of `count` steps from `first` on."""
        return self._order.rows(first, count).unflatten(1, (count, -1)).transpose(0, 1)

    def _record(self) -> None:
        """Append one record to the history: a row per model with means over the steps since the last record."""
        mse, kl, penalty = (self._window / self._window_steps).cpu().numpy()
        self._window.zero_()
        self._window_steps = 0
        factor = self.settings.sigma2_factor_at(self.step - 1)
        gaussian = self.settings.likelihood == GAUSSIAN
        rows = np.empty((len(self.members), len(HISTORY_COLUMNS)))
        for row, member, mse_m, kl_m, penalty_m in zip(rows, self.members, mse, kl, penalty, strict=True):
            if not math.isfinite(mse_m + kl_m):
                raise InputError(
                    f"training diverged at sigma2={member.sigma2!r}, beta={member.beta!r}, seed={member.seed} "
                    f"before step {self.step}: choose {self._remedy(member)}"
                )
            sigma2 = member.sigma2 * factor
            if gaussian:
                elbo, error = collapsed_elbo(mse_m, self._rows.n_features, sigma2) - penalty_m, mse_m
            else:
                elbo, error = -0.5 * mse_m - self._mean_constant - penalty_m, math.nan
            row[:] = self.step, self.step * self.settings.batch, sigma2, elbo, kl_m, error
        self.history.append(rows)

    @functools.cached_property
    def _mean_constant(self) -> float:
        """The mean over the rows to train with of what the energy leaves out, in nats, for families of sigma2 = 1."""
        total = 0.0
        for start, batch in self._rows.blocks(_BLOCK):
            constant = self._reconstruction.constant(batch.x[0], 1.0)
            held = part_of(self._held_out, start, len(constant)).to(constant.device)
            total += float(constant.sum()) - float(constant[held].sum())
        return total / (len(self._rows) - self._held_out.numel())

    def _remedy(self, member: Member) -> str:
        """What to choose instead where the training of a model diverges."""
        if self.settings.likelihood != GAUSSIAN:
            return f"a learning rate below {self.settings.learning_rate!r}"
        variance = float(mean_over(self._rows, torch.square, torch.empty(0, dtype=torch.int64)).mean())
        if member.sigma2 < TINY_SIGMA2 * variance:
            return f"a larger sigma2, it is {member.sigma2 / variance:.2g} times the mean variance of the features"
        return f"a learning rate below {self.settings.learning_rate!r}"

    def _buffers(self) -> dict[str, Tensor]:
        """Return the tensors that a step changes, by their names in a checkpoint."""
        self._finish_native_steps()
        first, second = self._adam.moments
        return {
            "parameters": self._vae.model.parameters,
            "exp_avg": first,
            "exp_avg_sq": second,
            "window": self._window,
        }

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that `restore` needs to continue bit for bit, as arrays."""
        arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in self._buffers().items()}
        empty = np.empty((0, len(self.members), len(HISTORY_COLUMNS)))
        arrays["history"] = np.stack(self.history) if self.history else empty
        arrays["progress"] = np.array([self.step, self._window_steps])
        return arrays

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Continue from the `state` of a trainer with the same members and settings.

        Raises InputError if the arrays are those of another ensemble.
        """
        expected = tuple(self.model.parameters.shape)
        shape = arrays["parameters"].shape
        if shape != expected or arrays["window"].shape != tuple(self._window.shape):
            raise InputError(f"checkpoint: parameters of shape {shape}, must be {expected}")
        for name, tensor in self._buffers().items():
            tensor.copy_(torch.from_numpy(arrays[name]))
        self.step, self._window_steps = (int(count) for count in arrays["progress"])
        self.history = list(arrays["history"])


def select_members(arrays: dict[str, np.ndarray], kept: Sequence[int]) -> dict[str, np.ndarray]:
    """Select some members from the arrays of `Trainer.state`.

    Parameters
    ----------
    arrays : dict of str to array
        The state of an ensemble.
    kept : sequence of int
        Numbers of the members to keep.

    Returns
    -------
    dict of str to array
        The state of an ensemble of these members.
    """
    model_axis = {"parameters": 0, "exp_avg": 0, "exp_avg_sq": 0, "window": 1, "history": 1}
    return {
        name: np.take(array, kept, axis=model_axis[name]) if name in model_axis else array
        for name, array in arrays.items()
    }
