"""The training loop: one ensemble, one flat buffer, one Adam, schedules that depend on the point alone.

Everything random is a function of (point, step), so the state that a checkpoint must hold is the parameters,
Adam's two moments, the step and the history; see `Trainer.state`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from phasevae import balance, elbo, graph, memory, noise
from phasevae.errors import InputError
from phasevae.model import Architecture, initialise, posterior
from phasevae.plan import rows_sharing
from phasevae.points import Member, Settings
from phasevae.targets import decoder_targets
from phasevae.theory import collapsed_elbo

HISTORY_COLUMNS = ("step", "samples", "sigma2", "elbo", "kl", "mse")
_HISTORY_ROWS = 100


class RowOrder:
    """Which rows of the data each step shows: a stream of permutations, one stream a seed.

    Models of one seed see the same rows; a batch may straddle two epochs, so no row is left out. Permutations are
    drawn on the device of `pool`, the rows to choose from; by chance alone nothing waits for it. balanced: gives
    `phasevae.balance.groups` of the pool's rows when it is first needed, None where any order will do.
    """

    def __init__(self, seeds: Sequence[int], pool: Tensor, batch: int, balanced: Callable[[], Tensor] | None = None):
        streams = [noise.key("order", int(seed)) for seed in seeds]
        self._streams = torch.tensor(streams, dtype=torch.int64, device=pool.device)
        self._pool = pool
        self._batch = batch
        self._balanced = balanced
        self._grouped: Tensor | None = None
        self._epochs: dict[int, Tensor] = {}

    def rows(self, step: int, count: int = 1) -> Tensor:
        """Row numbers [seeds, count * batch] of `count` steps from `step` on."""
        n = self._pool.numel()
        begin, end = step * self._batch, (step + count) * self._batch
        epochs = range(begin // n, (end - 1) // n + 1)
        self._epochs = {epoch: self._epochs[epoch] if epoch in self._epochs else self._draw(epoch) for epoch in epochs}
        parts = [self._epochs[epoch][:, max(begin - epoch * n, 0) : end - epoch * n] for epoch in epochs]
        return torch.cat(parts, dim=1)

    def _draw(self, epoch: int) -> Tensor:
        """One permutation of the pool a stream, [seeds, n]: those of `phasevae.noise.permutation`, or balanced."""
        counter = torch.full((), epoch, dtype=torch.int64, device=self._pool.device)
        if self._balanced:
            # What it holds of the data is needed once.
            self._grouped, self._balanced = self._balanced(), None
        if self._grouped is not None:
            return self._pool[balance.shuffled(self._grouped, self._streams, counter)]
        row = torch.zeros(1, dtype=torch.int64, device=self._pool.device)
        drawn = noise.words(self._streams, row, self._pool.numel(), counter)[:, 0]
        return self._pool[drawn.argsort(dim=1, stable=True)]


class Adam:
    """Adam (Kingma & Ba, 2015) over the flat buffer [M, P] of an ensemble: one launch of ours on CUDA with the native
    kernels, torch's fused one elsewhere. `moments`: the running means of gradients and of their squares, [M, P]."""

    def __init__(self, parameters: Tensor):
        self.moments = (torch.zeros_like(parameters), torch.zeros_like(parameters))
        self._steps = torch.zeros((), dtype=torch.float32, device=parameters.device)
        self._native = parameters.device.type == "cuda" and elbo.backend("cuda") == "native_cuda"
        self._rates = parameters.new_zeros(parameters.shape[0])
        self._active = torch.ones_like(self._rates, dtype=torch.bool)

    @torch.no_grad()
    def step(self, parameters: Tensor, gradients: Tensor, learning_rate: Tensor, steps_done: Tensor) -> None:
        """Update `parameters` in place; learning_rate and steps_done: scalar tensors on their device."""
        if self._native:
            from phasevae import _native

            self._rates.copy_(learning_rate)
            _native.adam_step(parameters, gradients, self.moments, self._rates, self._active, steps_done)
            return
        self._steps.copy_(steps_done)
        # On CUDA the learning rate is read as float32, on the CPU it is read in full.
        rate = learning_rate.float() if learning_rate.is_cuda else learning_rate
        first, second = self.moments
        buffers = ([parameters], [gradients], [first], [second], [], [self._steps])
        constants = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
        adam(*buffers, fused=True, capturable=True, lr=rate, amsgrad=False, maximize=False, **constants)


def split_rows(n_samples: int, holdout: float) -> tuple[Tensor, Tensor]:
    """Row numbers for training and held out, each ascending; the split depends on the data's size alone.

    Raises InputError when no row is left on a side that must have one.
    """
    n_held = round(holdout * n_samples)
    if holdout > 0 and not 0 < n_held < n_samples:
        raise InputError(f"holdout: {holdout} of {n_samples} samples is {n_held} rows, must leave rows on both sides")
    shuffled = noise.permutation(noise.key("order", "holdout"), 0, n_samples)
    return shuffled[n_held:].sort().values, shuffled[:n_held].sort().values


class Trainer:
    """Trains an ensemble on data resident in memory.

    x: float [N, D] on the device to train on; its dtype is the dtype of training. Members share all settings.
    use_graph: replay each step as a CUDA graph; by default where the data are on a CUDA device.
    """

    def __init__(self, x: Tensor, members: Sequence[Member], settings: Settings, use_graph: bool | None = None):
        memory.keep_pages()
        self.settings = settings
        self.members = list(members)
        self.step = 0
        self.history: list[np.ndarray] = []
        self._x = x
        seeds = sorted({member.seed for member in members})
        train_rows, _ = split_rows(x.shape[0], settings.holdout)
        pool = train_rows.to(x.device)
        balanced = (lambda: balance.groups(x[pool], settings.n_latent)) if settings.balanced_rows else None
        self._order = RowOrder(seeds, pool, settings.batch, balanced)
        self._mean = x[pool].mean(0, dtype=torch.float64).to(x.dtype)
        self._seed_of_member = torch.tensor([seeds.index(member.seed) for member in members], device=x.device)
        as_row = {"dtype": x.dtype, "device": x.device}
        self._sigma2 = torch.tensor([member.sigma2 for member in members], **as_row)
        self._beta = torch.tensor([member.beta for member in members], **as_row)
        keys = [noise.point_key("noise", m.seed, m.sigma2, m.beta) for m in members]
        self._keys = torch.tensor(keys, dtype=torch.int64, device=x.device)
        architecture = Architecture(x.shape[1], settings.n_latent, settings.hidden)
        self.model = initialise(architecture, [member.seed for member in members], x.device, x.dtype)
        self.gradients = torch.zeros_like(self.model.parameters)
        self._adam = Adam(self.model.parameters)
        self._group = rows_sharing(settings.batch, settings.decoder_group)
        self._window = torch.zeros(2, len(members), dtype=torch.float64, device=x.device)
        self._window_steps = 0
        shape = (len(seeds), settings.batch)
        self._inputs = graph.StepInputs(self._upcoming, settings.n_steps, shape, x.device)
        self._use_graph = x.is_cuda if use_graph is None else use_graph
        self._launch: Callable[[], object] | None = None

    def run(
        self,
        on_record: Callable[[Trainer], None] = lambda trainer: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the end of the budget; True when it was reached, False when `should_stop` said so.

        `on_record` is called about a hundred times, after a row was added to the history; `should_stop`
        is asked between any two steps. Raises InputError when a model's loss is no longer finite.
        """
        total = self.settings.n_steps
        every = max(1, total // _HISTORY_ROWS)
        while self.step < total:
            if should_stop():
                return False
            self._train_step()
            if self.step % every == 0 or self.step == total:
                self._record()
                on_record(self)
        return True

    def _train_step(self) -> None:
        self._inputs.prepare(self.step)
        if self._launch is None:
            changed = (*self._buffers().values(), *self._inputs.counters)
            self._launch = graph.captured(self._compute, changed) if self._use_graph else self._compute
        self._launch()
        self.step += 1
        self._window_steps += 1

    def _compute(self) -> None:
        """A step from the tensors of `_inputs` alone: a captured one must not ask the host for anything."""
        rows, factor, learning_rate = self._inputs.current()
        x = self._x[rows] if rows.shape[0] == 1 else self._x[rows][self._seed_of_member]
        nll, kl = self._differentiate(x, self._sigma2 * factor)
        self._adam.step(self.model.parameters, self.gradients, learning_rate, self._inputs.step)
        self._window[0] += nll * (2 * factor) * self._sigma2
        self._window[1] += kl
        self._inputs.advance()

    def _differentiate(self, x: Tensor, sigma2: Tensor) -> tuple[Tensor, Tensor]:
        """Fill `gradients` for rows x [M or 1, B, D] at sigma2 [M]. Returns the mean reconstruction errors and KL
        divergences [M]. Autograd goes through the operations of the ELBO, the networks know their derivatives."""
        model = self.model
        encoded, of_encoder = model.encoder.forward(model.parameters, x, keep=True)
        mu, logvar = posterior(encoded.requires_grad_())
        z, kl = elbo.reparam_kl(mu, logvar, self._keys, self._inputs.step, self.settings.antithetic)
        if self.settings.unit_noise:
            z = balance.unit_noise(z, mu, logvar)
        drawn = z.detach().flatten(1, 2)
        decoded, of_decoder = model.decoder.forward(model.parameters, drawn, keep=True)
        xhat = decoded.unflatten(1, z.shape[1:3]).requires_grad_()
        nll = elbo.gaussian_nll(x, xhat, sigma2).mean((1, 2))
        (grad_xhat,) = torch.autograd.grad(nll.sum(), xhat)
        grad_shared = grad_xhat
        if self._group > 1:
            targets = decoder_targets(x, self._mean, mu, logvar, z, xhat, self._group).flatten(1, 2)
            shared = elbo.gaussian_nll(targets, xhat.flatten(1, 2)[:, None], sigma2).mean((1, 2))
            (grad_shared,) = torch.autograd.grad(shared.sum(), xhat)
        grad_z = model.decoder.backward(
            model.parameters,
            drawn,
            of_decoder,
            grad_shared.flatten(1, 2),
            self.gradients,
            grad_for_input=grad_xhat.flatten(1, 2) if self._group > 1 else None,
            input_wanted=True,
        )
        kl = kl.sum(-1).mean(-1)
        objective = (self._beta * kl).sum()
        (grad_encoded,) = torch.autograd.grad((z, objective), encoded, (grad_z.view_as(z), torch.ones_like(objective)))
        model.encoder.backward(model.parameters, x, of_encoder, grad_encoded, self.gradients)
        return nll.detach(), kl.detach()

    def _upcoming(self, first: int, count: int) -> graph.Inputs:
        """Inputs of `count` steps from `first` on."""
        rows = self._order.rows(first, count).unflatten(1, (count, -1)).transpose(0, 1)
        schedules = (self.settings.sigma2_factor_at, self.settings.learning_rate_at)
        steps = range(first, first + count)
        return graph.Inputs(
            rows, *(torch.tensor([at(step) for step in steps], dtype=torch.float64) for at in schedules)
        )

    def _record(self) -> None:
        """Append one history row a model: means over the steps since the last one."""
        mse, kl = (self._window / self._window_steps).cpu().numpy()
        self._window.zero_()
        self._window_steps = 0
        factor = self.settings.sigma2_factor_at(self.step - 1)
        rows = np.empty((len(self.members), len(HISTORY_COLUMNS)))
        for row, member, mse_m, kl_m in zip(rows, self.members, mse, kl, strict=True):
            if not math.isfinite(mse_m + kl_m):
                raise InputError(
                    f"training diverged at sigma2={member.sigma2!r}, beta={member.beta!r}, seed={member.seed} "
                    f"before step {self.step}: choose a learning rate below {self.settings.learning_rate!r}"
                )
            sigma2 = member.sigma2 * factor
            elbo = collapsed_elbo(mse_m, self._x.shape[1], sigma2) - member.beta * kl_m
            row[:] = self.step, self.step * self.settings.batch, sigma2, elbo, kl_m, mse_m
        self.history.append(rows)

    def _buffers(self) -> dict[str, Tensor]:
        """What a step changes, by the names in a checkpoint."""
        first, second = self._adam.moments
        return {
            "parameters": self.model.parameters,
            "exp_avg": first,
            "exp_avg_sq": second,
            "window": self._window,
        }

    def state(self) -> dict[str, np.ndarray]:
        """Everything `restore` needs to continue bit for bit, as arrays."""
        arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in self._buffers().items()}
        empty = np.empty((0, len(self.members), len(HISTORY_COLUMNS)))
        arrays["history"] = np.stack(self.history) if self.history else empty
        arrays["progress"] = np.array([self.step, self._window_steps])
        return arrays

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Continue from what `state` gave for the same members and settings. Raises InputError when it does not fit."""
        expected = tuple(self.model.parameters.shape)
        found = arrays["parameters"].shape
        if found != expected or arrays["window"].shape != tuple(self._window.shape):
            raise InputError(f"checkpoint: parameters of shape {found}, this ensemble has {expected}")
        for name, tensor in self._buffers().items():
            tensor.copy_(torch.from_numpy(arrays[name]))
        self.step, self._window_steps = (int(count) for count in arrays["progress"])
        self.history = list(arrays["history"])


def select_members(arrays: dict[str, np.ndarray], kept: Sequence[int]) -> dict[str, np.ndarray]:
    """The part of a `Trainer.state` that belongs to the members numbered `kept`."""
    model_axis = {"parameters": 0, "exp_avg": 0, "exp_avg_sq": 0, "window": 1, "history": 1}
    return {
        name: np.take(array, kept, axis=model_axis[name]) if name in model_axis else array
        for name, array in arrays.items()
    }
