"""The updates of benchmarks/optimisers.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import optimisers
import pytest
import torch
from optimisers import layer_of

from phasevae.kernels.mlp import Layer
from phasevae.sweeps.settings import Member, Settings
from phasevae.training.trainer import Trainer

MEMBERS = [Member(sigma2, 1.0, 0) for sigma2 in (0.3, 0.9)]


@pytest.fixture
def x() -> torch.Tensor:
    rows = np.random.default_rng(0).standard_normal((256, 5)) * (2, 1, 1, 0.5, 0.5)
    return torch.from_numpy((rows - rows.mean(0)).astype(np.float32))


def trainer_on(x: torch.Tensor, steps: int = 40) -> Trainer:
    return Trainer(x, MEMBERS, Settings(n_latent=2, hidden=(12, 7), samples=64 * steps, batch=64))


def layers_of(trainer: Trainer, layers: Iterable[Layer]) -> dict[Layer, torch.Tensor]:
    """Copies of layers [M, in + 1, out]."""
    return {layer: layer_of(trainer.model.parameters, layer).clone() for layer in layers}


@pytest.mark.parametrize("name", optimisers.UPDATES)
def test_one_step_changes_the_layers_of_the_update_and_leaves_the_others_to_adam(x, name, monkeypatch):
    """Late in the training, where the learning rate has fallen; K-FAC has not begun to act then."""
    plain, trainer = trainer_on(x), trainer_on(x)
    plain.run(until=31)
    trainer.run(until=30)
    update = optimisers.UPDATES[name](trainer, x)
    changes, recorded = update.changes, {}
    monkeypatch.setattr(update, "changes", lambda step: recorded.setdefault(step, changes(step)))
    every = [*update.encoder, *update.decoder]
    old = layers_of(trainer, every)
    update.step()
    new, by_adam = layers_of(trainer, every), layers_of(plain, every)
    ((step, replaced),) = recorded.items()
    assert step == 30
    assert set(replaced) == (set() if name in ("adam", "scaled") or name.startswith("kfac") else {*update.layers})
    share = trainer.settings.learning_rate_at(30) / trainer.settings.learning_rate
    assert share < 0.5
    for layer, change in replaced.items():
        torch.testing.assert_close(new[layer] - old[layer], share * change, rtol=1e-3, atol=1e-6)
        assert (share * change).abs().max() > 1e-4
    scaled = {update.encoder[-1], update.decoder[0]} if name == "scaled" else set()
    for layer in set(every) - set(replaced):
        assert torch.equal(new[layer], by_adam[layer]) == (layer not in scaled)


@pytest.mark.parametrize("name, factor", [("fast-latent", 3), ("slow-latent", 1 / 3)])
def test_the_layers_at_the_latents_go_further_or_less_far_than_by_adam(x, name, factor):
    plain, trainer = trainer_on(x), trainer_on(x)
    update = optimisers.UPDATES[name](trainer, x)
    at_latents = [update.encoder[-1], update.decoder[0]]
    old = layers_of(trainer, at_latents)
    plain.run(until=1)
    update.step()
    new, by_adam = layers_of(trainer, at_latents), layers_of(plain, at_latents)
    for layer in at_latents:
        expected = factor * (by_adam[layer] - old[layer])
        torch.testing.assert_close(new[layer] - old[layer], expected, rtol=1e-3, atol=1e-7)
        assert not torch.equal(by_adam[layer], old[layer])


@pytest.mark.parametrize("name", ["kfac-last", "kfac-latent", "kfac"])
def test_a_step_of_kfac_solves_with_the_kronecker_product_of_its_factors(x, name):
    """In float64, for its first step: until then Adam has trained."""
    plain, trainer = trainer_on(x), trainer_on(x)
    update = optimisers.UPDATES[name](trainer, x)
    update.begin, first = 0, update.ESTIMATES - 1
    torch.manual_seed(0)
    for _ in range(first):
        update.step()
    plain.run(until=first)
    assert torch.equal(trainer.model.parameters, plain.model.parameters)
    every = [*update.encoder, *update.decoder]
    old = layers_of(trainer, every)
    update.step()
    plain.run(until=first + 1)
    new, by_adam = layers_of(trainer, every), layers_of(plain, every)
    of_decoder = {"kfac-last": update.decoder[-1], "kfac-latent": update.decoder[0]}
    assert set(update.layers) == (set(every) if name == "kfac" else {update.encoder[-1], of_decoder[name]})

    def damped(factor: torch.Tensor) -> np.ndarray:
        matrix = factor.double().numpy()
        return matrix + update.DAMPING * np.trace(matrix) / len(matrix) * np.eye(len(matrix))

    share = trainer.settings.learning_rate_at(first) / trainer.settings.learning_rate
    for model in range(len(MEMBERS)):
        gradients = {layer: update.gradient(layer)[model].double().numpy().ravel() for layer in update.layers}
        natural = {}
        for layer, gradient in gradients.items():
            inputs, outputs = (damped(factor[model]) for factor in update.factors[layer])
            natural[layer] = np.linalg.solve(np.kron(inputs, outputs), gradient)
        gain = sum(gradients[layer] @ natural[layer] for layer in update.layers)
        rate = min(update.RATE, (update.LARGEST / gain) ** 0.5)
        for layer in update.layers:
            actual = (new[layer] - old[layer])[model].numpy().ravel()
            expected = -share * rate * natural[layer]
            np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-3 * np.abs(expected).max())
    for layer in set(every) - set(update.layers):
        assert torch.equal(new[layer], by_adam[layer])


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


@pytest.mark.parametrize("schedule", optimisers.SCHEDULES)
def test_a_training_follows_the_learning_rates_of_a_schedule(x, schedule):
    keys = {"n_latent": 2, "hidden": (12, 7), "samples": 64 * 40, "batch": 64}
    default, settings = Settings(**keys), optimisers.settings_with(schedule, **keys)
    rates, of_default = ([each.learning_rate_at(step) for step in range(40)] for each in (settings, default))
    trainer, plain = (Trainer(x, MEMBERS, each) for each in (settings, default))
    trainer.run(until=40)
    plain.run(until=40)
    if schedule == "cosine":
        assert rates == of_default
        assert torch.equal(trainer.model.parameters, plain.model.parameters)
        return
    assert max(rates) <= settings.learning_rate and 0 <= rates[-1] < 0.1 * settings.learning_rate
    assert not torch.allclose(trainer.model.parameters, plain.model.parameters, atol=1e-3)
    held = {"held-half": 20, "held-anneal": 12, "root-anneal": 12}.get(schedule)
    assert held is None or rates[held] == pytest.approx(settings.learning_rate)
