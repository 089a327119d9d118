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

from phasevae import noise
from phasevae.elbo import gaussian_nll, reparam_kl
from phasevae.errors import InputError
from phasevae.model import Architecture, initialise
from phasevae.points import Member, Settings
from phasevae.theory import collapsed_elbo

HISTORY_COLUMNS = ("step", "samples", "sigma2", "elbo", "kl", "mse")
_HISTORY_ROWS = 100


class RowOrder:
    """Which rows of the data each step shows: a stream of permutations, one stream a seed.

    Models of one seed see the same rows; a batch may straddle two epochs, so no row is left out.
    """

    def __init__(self, seeds: Sequence[int], pool: Tensor, batch: int):
        self._streams = [noise.key("order", int(seed)) for seed in seeds]
        self._pool = pool
        self._batch = batch
        self._epochs: dict[int, Tensor] = {}

    def rows(self, step: int) -> Tensor:
        """Row numbers [seeds, batch] of one step."""
        n = self._pool.numel()
        positions = torch.arange(step * self._batch, (step + 1) * self._batch)
        epochs = range(int(positions[0]) // n, int(positions[-1]) // n + 1)
        self._epochs = {epoch: self._epochs.get(epoch, None) for epoch in epochs}
        for epoch in epochs:
            if self._epochs[epoch] is None:
                shuffled = [self._pool[noise.permutation(stream, epoch, n)] for stream in self._streams]
                self._epochs[epoch] = torch.stack(shuffled)
        return torch.cat([self._epochs[epoch][:, positions[positions // n == epoch] % n] for epoch in epochs], dim=1)


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
    """

    def __init__(self, x: Tensor, members: Sequence[Member], settings: Settings):
        self.settings = settings
        self.members = list(members)
        self.step = 0
        self.history: list[np.ndarray] = []
        self._x = x
        seeds = sorted({member.seed for member in members})
        train_rows, _ = split_rows(x.shape[0], settings.holdout)
        self._order = RowOrder(seeds, train_rows, settings.batch)
        self._seed_of_member = torch.tensor([seeds.index(member.seed) for member in members])
        as_row = {"dtype": x.dtype, "device": x.device}
        self._sigma2 = torch.tensor([member.sigma2 for member in members], **as_row)
        self._beta = torch.tensor([member.beta for member in members], **as_row)
        keys = [noise.point_key("noise", m.seed, m.sigma2, m.beta) for m in members]
        self._keys = torch.tensor(keys, dtype=torch.int64, device=x.device)
        architecture = Architecture(x.shape[1], settings.n_latent, settings.hidden)
        self.model = initialise(architecture, [member.seed for member in members], x.device, x.dtype)
        self.model.parameters.grad = self.model.gradients
        self._adam = torch.optim.Adam([self.model.parameters], lr=settings.learning_rate, fused=True)
        self._window = torch.zeros(2, len(members), dtype=torch.float64, device=x.device)
        self._window_steps = 0

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
        factor = self.settings.sigma2_factor_at(self.step)
        x = self._batch_rows()
        mu, logvar = self.model.encode(x)
        z, kl = reparam_kl(mu, logvar, self._keys, self.step, self.settings.antithetic)
        xhat = self.model.decode(z.flatten(1, 2)).unflatten(1, z.shape[1:3])
        nll = gaussian_nll(x, xhat, self._sigma2 * factor).mean((1, 2))
        kl = kl.sum(-1).mean(-1)
        self.model.backward((nll + self._beta * kl).sum())
        self._adam.param_groups[0]["lr"] = self.settings.learning_rate_at(self.step)
        self._adam.step()
        self.step += 1
        self._window[0] += nll.detach() * (2 * factor) * self._sigma2
        self._window[1] += kl.detach()
        self._window_steps += 1

    def _batch_rows(self) -> Tensor:
        rows = self._x[self._order.rows(self.step).to(self._x.device)]
        return rows if rows.shape[0] == 1 else rows[self._seed_of_member]

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

    def state(self) -> dict[str, np.ndarray]:
        """Everything `restore` needs to continue bit for bit, as arrays."""
        moments = self._adam.state.get(self.model.parameters, {})
        zeros = torch.zeros_like(self.model.parameters)
        tensors = {
            "parameters": self.model.parameters,
            "exp_avg": moments.get("exp_avg", zeros),
            "exp_avg_sq": moments.get("exp_avg_sq", zeros),
            "window": self._window,
        }
        arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}
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

        def tensor(name: str) -> Tensor:
            return torch.from_numpy(arrays[name]).to(self._x.device)

        self.model.parameters.copy_(tensor("parameters"))
        self._window.copy_(tensor("window"))
        self.step, self._window_steps = (int(count) for count in arrays["progress"])
        self.history = list(arrays["history"])
        self._adam.state[self.model.parameters] = {
            "step": torch.tensor(float(self.step), device=self._x.device),
            "exp_avg": tensor("exp_avg").to(self._x.dtype),
            "exp_avg_sq": tensor("exp_avg_sq").to(self._x.dtype),
        }


def select_members(arrays: dict[str, np.ndarray], kept: Sequence[int]) -> dict[str, np.ndarray]:
    """The part of a `Trainer.state` that belongs to the members numbered `kept`."""
    model_axis = {"parameters": 0, "exp_avg": 0, "exp_avg_sq": 0, "window": 1, "history": 1}
    return {
        name: np.take(array, kept, axis=model_axis[name]) if name in model_axis else array
        for name, array in arrays.items()
    }
