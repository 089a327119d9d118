"""The updates of benchmarks/optimisers.py."""

from __future__ import annotations

import numpy as np
import optimisers
import pytest
import torch
from optimisers import layer_of

from phasevae.sweeps.settings import Member, Settings
from phasevae.training.trainer import Trainer

MEMBERS = [Member(sigma2, 1.0, 0) for sigma2 in (0.3, 0.9)]


@pytest.fixture
def x() -> torch.Tensor:
    rows = np.random.default_rng(0).standard_normal((256, 5)) * (2, 1, 1, 0.5, 0.5)
    return torch.from_numpy((rows - rows.mean(0)).astype(np.float32))


def trainer_on(x: torch.Tensor, steps: int = 40) -> Trainer:
    return Trainer(x, MEMBERS, Settings(n_latent=2, hidden=(12, 7), samples=64 * steps, batch=64))


@pytest.mark.parametrize("name", optimisers.UPDATES)
def test_what_is_not_updated_is_left_to_adam(x, name):
    """One step moves the layers of the update, and the others exactly as the trainer does."""
    plain, trainer = trainer_on(x), trainer_on(x)
    update = optimisers.UPDATES[name](trainer, x)
    plain.run(until=1)
    update.step()
    replaced = update.changes(1)
    assert set(replaced) == ({*update.layers} if name in ("muon", "soap") else set())
    for layer in {*update.encoder, *update.decoder} - set(replaced):
        assert torch.equal(layer_of(trainer.model.parameters, layer), layer_of(plain.model.parameters, layer))


def test_scaled_latents_keep_the_outputs(x):
    trainer = trainer_on(x)
    update = optimisers.UPDATES["scaled"](trainer, x)
    trainer.run(until=20)
    mu, logvar = trainer.model.encode(x[None])
    noise = torch.randn(mu.shape, generator=torch.Generator().manual_seed(0))
    before = trainer.model.decode(mu + (0.5 * logvar).exp() * noise)
    update.after(20)
    mu, logvar = trainer.model.encode(x[None])
    torch.testing.assert_close(trainer.model.decode(mu + (0.5 * logvar).exp() * noise), before, rtol=1e-4, atol=1e-5)
    # Of 256 rows that are drawn from the data.
    assert ((mu.square() + logvar.exp()).mean(1) - 1).abs().max() < 0.3


def test_muon_makes_all_directions_alike(x):
    trainer = trainer_on(x)
    update = optimisers.UPDATES["muon"](trainer, x)
    update.step()
    for change in update.changes(1).values():
        size = 0.2 * max(change.shape[1:]) ** 0.5 * optimisers.Muon.RATE
        values = torch.linalg.svdvals(change) / size
        # The iteration is chosen for speed: it ends between 0.7 and 1.2, but for the smallest values.
        assert values.max() < 1.25 and values[:, :3].min() > 0.6


def test_soap_in_the_axes_of_the_parameters_is_adam(x, monkeypatch):
    monkeypatch.setattr(optimisers.Soap, "_follow", lambda *arguments: None)
    trainer = trainer_on(x)
    update = optimisers.UPDATES["soap"](trainer, x)
    update.bases = {layer: [torch.eye(layer.fan_in + 1), torch.eye(layer.fan_out)] for layer in update.layers}
    (layer, *_) = update.layers
    weight = torch.nn.Parameter(torch.zeros(len(MEMBERS), layer.fan_in + 1, layer.fan_out))
    adam = torch.optim.Adam([weight], trainer.settings.learning_rate, betas=(0.9, 0.99))
    total = torch.zeros_like(weight)
    for step in range(3):
        trainer.run(until=step + 1)
        weight.grad = update.gradient(layer).clone()
        adam.step()
        total += update.changes(step)[layer]
    torch.testing.assert_close(total, weight.detach(), rtol=1e-4, atol=1e-7)


def test_factors_of_kfac_are_the_fisher_information(x):
    """For the last layer of the decoder: E h h^T of its inputs, and 1 / sigma2 for each output."""
    trainer = trainer_on(x)
    update = optimisers.UPDATES["kfac"](trainer, x)
    torch.manual_seed(0)
    update.begin, update.MEMORY = 0, 1.0
    trainer.run(until=20)
    for _ in range(200):
        update.before(20)
    inputs, outputs = update.factors[update.decoder[-1]]
    mu, logvar = trainer.model.encode(x.repeat(40, 1)[None])
    h = mu + (0.5 * logvar).exp() * torch.randn(mu.shape)
    for layer in update.decoder[:-1]:
        weight = layer_of(trainer.model.parameters, layer)
        h = (h @ weight[:, :-1] + weight[:, -1:]).relu()
    assert ((h.mT @ h / h.shape[1] - inputs[:, :-1, :-1]).abs() < 0.05 * inputs.abs().amax((1, 2))[:, None, None]).all()
    assert torch.equal(inputs[:, -1, -1], torch.ones(2))
    sigma2 = torch.tensor([member.sigma2 for member in MEMBERS])[:, None, None]
    assert ((outputs * sigma2 - torch.eye(5)).abs() < 0.05).all()
    for layer in (*update.encoder, *update.decoder):
        (first, second), damping = update.inverses[layer], optimisers.Kfac.DAMPING
        for factor, inverse in zip(update.factors[layer], (first, second), strict=True):
            mean = factor.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
            torch.testing.assert_close(
                torch.linalg.inv(inverse) - damping * mean * torch.eye(len(inverse[0])), factor, rtol=0.02, atol=1e-3
            )
