"""pythae's BetaVAE with pythae's BaseTrainer, one model after another.

In pythae 0.1.2 the loss of BetaVAE with reconstruction_loss "mse" is the mean over rows of 0.5 SSE + beta KL (its
models/beta_vae/beta_vae_model.py). So beta is the decoder variance, and the loss is sigma2 times the negative ELBO;
Adam does not depend on this factor. A loader that ends early cuts epochs short; the steps are pythae's
`BaseTrainer.train_step`.

With the protocol `ours` a callback sets beta and the learning rate before each step, because pythae's schedulers step
once per epoch. A subclass of BetaVAE matches the moments of the noise, decodes both its signs and gives the decoder
Rao-Blackwellised targets. phasevae computes these targets and the order of the rows. pythae cannot train several models
side by side.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pythae.data.datasets import BaseDataset
from pythae.models import BetaVAE, BetaVAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from contenders.common import Contender, Run, epochs, fastest, single
from contenders.loop import first_batches, loader_options, perceptron, stacked
from phasevae.sweeps.settings import Settings, rows_sharing
from phasevae.training.variance_reduction import moment_matched_noise, rao_blackwell_targets


def prepare(run: Run) -> dict[str, Any]:
    """The fastest number of loader processes and of threads."""
    return fastest(start, single(run), loader_options(run.threads))


def start(run: Run, workers: int, threads: int) -> Contender:
    """Return the models before their training; `workers`: number of loader processes."""
    return Pythae(run, workers, threads)


class Pythae:
    """One trainer per model, which take turns."""

    def __init__(self, run: Run, workers: int, threads: int):
        logging.disable(logging.INFO)
        torch.manual_seed(run.seed)
        torch.set_num_threads(threads)
        self.detail = f"{threads} threads, {workers} workers"
        data = BaseDataset(torch.from_numpy(run.x), torch.zeros(len(run.x)))
        self._folder = tempfile.TemporaryDirectory()
        config = BaseTrainerConfig(
            output_dir=self._folder.name,
            per_device_train_batch_size=run.settings.batch,
            train_dataloader_num_workers=workers,
            learning_rate=run.settings.learning_rate,
            seed=run.seed,
            no_cuda=True,
        )
        self._trainers = [make_trainer(run, sigma2, data, config) for sigma2 in run.sigma2]

    def train(self, steps: int) -> None:
        for trainer in self._trainers:
            loader = trainer.train_loader
            trainer.train_loader = ShortLoader(loader, steps)
            trainer.train_step(epoch=1)
            trainer.train_loader = loader

    def parameters(self) -> NDArray[np.float32]:
        return stacked([(trainer.model.encoder.net, trainer.model.decoder.net) for trainer in self._trainers])


def make_trainer(run: Run, sigma2: float, data: BaseDataset, config: BaseTrainerConfig) -> BaseTrainer:
    """Return a trainer of one model that is ready for `train_step`."""
    shape = {"input_dim": (run.x.shape[1],), "latent_dim": run.settings.n_latent, "reconstruction_loss": "mse"}
    encoder, decoder = run.networks
    parts = BetaVAEConfig(**shape, beta=sigma2), Encoder(encoder), Decoder(decoder)
    plain = (
        not run.settings.antithetic and run.settings.rao_blackwell_group == 1 and not run.settings.moment_matched_noise
    )
    model = BetaVAE(*parts) if plain else VarianceReducedBetaVAE(*parts, run.settings, torch.from_numpy(run.x).mean(0))
    # The trainer seeds torch, with the same seed for each model.
    schedule = Schedule(run, sigma2)
    trainer = BaseTrainer(model, data, training_config=config, callbacks=[schedule])
    trainer.prepare_training()
    if run.settings.balanced_order:
        loader = trainer.train_loader
        options = {"batch_size": loader.batch_size, "num_workers": loader.num_workers}
        trainer.train_loader = DataLoader(loader.dataset, sampler=BalancedRows(run), **options)
    # This removes the progress bar.
    trainer.callback_handler.callbacks = [schedule]
    schedule.begin(trainer)
    return trainer


class BalancedRows(Sampler[int]):
    """phasevae's balanced order of the rows, one epoch per iteration."""

    def __init__(self, run: Run):
        self._size = len(run.x)
        self._epochs = epochs(run, np.random.default_rng(run.seed))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        return iter(next(self._epochs).tolist())


class Encoder(BaseEncoder):
    """The encoder of the loop."""

    def __init__(self, widths: list[int]):
        super().__init__()
        self.net = perceptron(widths)

    def forward(self, x: Tensor) -> ModelOutput:
        mu, logvar = self.net(x).chunk(2, dim=-1)
        return ModelOutput(embedding=mu, log_covariance=logvar)


class Decoder(BaseDecoder):
    """The decoder of the loop."""

    def __init__(self, widths: list[int]):
        super().__init__()
        self.net = perceptron(widths)

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.net(z))


class VarianceReducedBetaVAE(BetaVAE):
    """BetaVAE with the settings' antithetic and moment-matched noise and Rao-Blackwellised targets of the decoder."""

    def __init__(
        self, config: BetaVAEConfig, encoder: Encoder, decoder: Decoder, settings: Settings, data_mean: Tensor
    ):
        super().__init__(config, encoder, decoder)
        self._signs = (1, -1) if settings.antithetic else (1,)
        self._rao_blackwell_group = settings.rao_blackwell_group
        self._moment_matched_noise = settings.moment_matched_noise
        self._data_mean = data_mean

    def forward(self, inputs: BaseDataset, **_: Any) -> ModelOutput:
        x = inputs["data"]
        posterior = self.encoder(x)
        mu, logvar = posterior.embedding, posterior.log_covariance
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        if self._moment_matched_noise:
            z = moment_matched_noise(z[None, None], mu[None], logvar[None])[0, 0]
        z = torch.cat([mu + sign * (z - mu) for sign in self._signs])
        rows = [part.repeat(len(self._signs), 1) for part in (x, mu, logvar)]
        # The last batch of an epoch may be shorter.
        group = rows_sharing(len(x), self._rao_blackwell_group)
        if group > 1:
            return self._with_targets(group, z, *rows)
        recon = self.decoder(z)["reconstruction"]
        return as_output(self.loss_function(recon, *rows, z), recon, z)

    def _with_targets(self, group: int, z: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> ModelOutput:
        """The loss for x, whose derivative by the decoder's parameters is that for the targets; decodes once."""
        leaf = z.detach().requires_grad_()
        recon = self.decoder(leaf)["reconstruction"]
        # x, mu and logvar are the same for both signs of the noise.
        shared = [part.unflatten(0, (len(self._signs), -1))[:1] for part in (x, mu, logvar)]
        drawn = [part.unflatten(0, (1, len(self._signs), -1)) for part in (z, recon)]
        targets = rao_blackwell_targets(shared[0], self._data_mean, *shared[1:], *drawn, group).flatten(0, 2)
        loss, recon_loss, reg_loss = self.loss_function(recon, x, mu, logvar, z)
        (by_z,) = torch.autograd.grad(recon_loss, leaf, retain_graph=True)
        _, of_decoder, _ = self.loss_function(recon, targets, mu, logvar, z)
        derived = of_decoder + (by_z * z).sum() + self.beta * reg_loss
        return as_output((loss.detach() + derived - derived.detach(), recon_loss, reg_loss), recon, z)


def as_output(losses: tuple[Tensor, Tensor, Tensor], recon: Tensor, z: Tensor) -> ModelOutput:
    """The output of a pythae model, from its losses (total, reconstruction, KL)."""
    loss, recon_loss, reg_loss = losses
    return ModelOutput(recon_loss=recon_loss, reg_loss=reg_loss, loss=loss, recon_x=recon, z=z)


class Schedule(TrainingCallback):
    """Sets the decoder variance (pythae's beta) and the learning rate of every step to those of the settings."""

    def __init__(self, run: Run, sigma2: float):
        self._settings = run.settings
        self._sigma2 = sigma2
        self._step = 0

    def begin(self, trainer: BaseTrainer) -> None:
        self._trainer = trainer
        self._set()

    def on_train_step_end(self, training_config: BaseTrainerConfig, **_: Any) -> None:
        """Called by pythae after each step."""
        self._step += 1
        self._set()

    def _set(self) -> None:
        self._trainer.model.beta = self._sigma2 * self._settings.sigma2_factor_at(self._step)
        self._trainer.optimizer.param_groups[0]["lr"] = self._settings.learning_rate_at(self._step)


class ShortLoader:
    """An epoch of `count` batches, taken from as many epochs of a loader as needed."""

    def __init__(self, loader: DataLoader, count: int):
        self.dataset = loader.dataset
        self._loader = loader
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator:
        return first_batches(self._loader, self._count)
