from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import recorded
from small import gaussian_rows, recipe

from phasevae import InputError
from phasevae.architecture import Architecture
from phasevae.kernels import noise
from phasevae.kernels.elbo import gaussian_nll, reparam_kl
from phasevae.measurement.measure import measure_model
from phasevae.model import initialise
from phasevae.sweeps.settings import Member
from phasevae.theory.ppca import ppca_elbo, ppca_kl
from phasevae.training.chapters import Chapters
from phasevae.training.row_order import RowOrder
from phasevae.training.trainer import Trainer, select_members

MEMBERS = [Member(sigma2, 1.0, seed) for sigma2 in (0.3, 0.6, 0.9, 1.2) for seed in (0, 1)]


@settings(max_examples=10)
@given(
    widths=st.tuples(st.integers(1, 17), st.integers(1, 4), st.lists(st.integers(1, 20), min_size=1, max_size=2)),
    batch=st.sampled_from([32, 64, 75, 100]),
    models=st.integers(2, 5),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    data=st.data(),
)
def test_the_bits_of_a_model_do_not_depend_on_its_ensemble(widths, batch, models, dtype, data):
    dimension, n_latent, hidden = widths
    x = torch.randn(200, dimension, generator=torch.Generator().manual_seed(0), dtype=dtype)
    short = recipe(n_latent=n_latent, hidden=tuple(hidden), batch=batch, samples=20.0 * batch)
    kept = data.draw(st.lists(st.integers(0, models - 1), min_size=1, max_size=models, unique=True))
    together, part = Trainer(x, MEMBERS[:models], short), Trainer(x, [MEMBERS[i] for i in kept], short)
    threads = torch.get_num_threads()
    # With several threads MKL rounds the products of a lone model in double precision, which no workflow trains in, in
    # another way.
    torch.set_num_threads(1 if dtype is torch.float64 else threads)
    try:
        assert together.run() and part.run()
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(together.model.parameters[kept], part.model.parameters)
    assert np.array_equal(np.stack(together.history)[:, kept], np.stack(part.history))


EIGHTY_STEPS = recipe(samples=80 * 32.0)
"""Five epochs."""


@functools.cache
def undisturbed() -> Trainer:
    whole = Trainer(gaussian_rows(), MEMBERS[:3], EIGHTY_STEPS)
    assert whole.run()
    return whole


@settings(max_examples=4)
@given(st.integers(1, 79))
def test_resumed_training_is_bit_equal(interrupted_at):
    x, whole = gaussian_rows(), undisturbed()
    first = Trainer(x, MEMBERS[:3], EIGHTY_STEPS)
    assert not first.run(until=interrupted_at)
    second = Trainer(x, MEMBERS[:3], EIGHTY_STEPS)
    second.restore(first.state())
    assert second.run()
    assert torch.equal(whole.model.parameters, second.model.parameters)
    assert np.array_equal(np.stack(whole.history), np.stack(second.history))


def test_part_of_a_state_continues_by_itself():
    x = gaussian_rows(dtype=torch.float64)
    whole = Trainer(x, MEMBERS[:3], recipe())
    assert not whole.run(until=50)
    part = Trainer(x, [MEMBERS[0], MEMBERS[2]], recipe())
    part.restore(select_members(whole.state(), [0, 2]))
    assert whole.run()
    assert part.run()
    assert torch.allclose(whole.model.parameters[[0, 2]], part.model.parameters, atol=1e-9)


def test_state_of_other_models_is_refused():
    x = gaussian_rows()
    with pytest.raises(InputError, match="checkpoint"):
        Trainer(x, MEMBERS[:2], recipe()).restore(Trainer(x, MEMBERS[:3], recipe()).state())


def test_a_step_is_adam_on_the_objective():
    x, member = gaussian_rows(), Member(0.5, 2.0, 3)
    setting = recipe(
        schedule="scratch", samples=32.0, rao_blackwell_group=1, balanced_order=False, moment_matched_noise=False
    )
    trainer = Trainer(x, [member], setting)
    trainer.run()
    ensemble = initialise(Architecture(4, 2, (16, 8)), [3])
    parameters = ensemble.parameters.clone().requires_grad_()
    rows = x[noise.permutation(noise.key("order", 3), 0, 500)[:32]]
    mu, logvar = recorded(ensemble.encoder, parameters, rows[None]).chunk(2, -1)
    key = torch.tensor([noise.point_key("noise", 3, 0.5, 2.0)])
    z, kl = reparam_kl(mu, logvar, key, 0, antithetic=True)
    decoded = [recorded(ensemble.decoder, parameters, z[:, a])[:, None] for a in (0, 1)]
    nll = torch.stack([gaussian_nll(rows[None], xhat, torch.tensor([0.5])) for xhat in decoded])
    (gradients,) = torch.autograd.grad(nll.mean() + 2.0 * kl.sum() / 32, parameters)
    # Adam's first step is the learning rate times the sign of the gradient, where that is not tiny.
    large = gradients.abs() > 1e-4
    moved = (trainer.model.parameters - ensemble.parameters)[large]
    assert torch.allclose(moved, -2e-3 * gradients[large].sign(), rtol=1e-2)
    assert trainer.history[-1][0, 4] == pytest.approx(kl.sum().item() / 32, rel=1e-5)
    assert trainer.history[-1][0, 5] == pytest.approx(nll.mean().item() * 2 * 0.5, rel=1e-5)


def test_schedules():
    anneal, scratch = recipe(), recipe(schedule="scratch")
    assert anneal.n_steps == 200
    assert [anneal.sigma2_factor_at(step) for step in (0, 50, 100, 199)] == pytest.approx([0.4, 0.7, 1.0, 1.0])
    assert scratch.sigma2_factor_at(0) == 1.0
    assert [anneal.learning_rate_at(step) for step in (0, 4, 100, 200)] == pytest.approx(
        [2e-4, 0.999013e-3, 1e-3, 0], rel=1e-5, abs=1e-12
    )
    assert max(anneal.learning_rate_at(step) for step in range(200)) == pytest.approx(2e-3, rel=0.02)


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 90))
def test_every_epoch_shows_every_row_once(n, batch):
    order = RowOrder([0, 5], Chapters(n), batch)
    steps = -(-3 * n // batch)
    shown = torch.cat([order.rows(step) for step in range(steps)], dim=1)
    for epoch in range(3):
        for seed in (0, 1):
            assert shown[seed, epoch * n : (epoch + 1) * n].sort().values.tolist() == list(range(n))
    assert torch.equal(RowOrder([0, 5], Chapters(n), batch).rows(steps - 1), shown[:, -batch:])


def test_balanced_epochs_show_every_row_of_the_pool_once_from_any_step_on():
    x, pool = gaussian_rows(), torch.arange(0, 500, 2)
    order, again = (RowOrder([0, 5], Chapters(500, pool + 1), 32, "cpu", x.__getitem__, 2) for _ in range(2))
    shown = torch.cat([order.rows(step) for step in range(16)], dim=1)
    for epoch in range(2):
        for seed in (0, 1):
            assert torch.equal(shown[seed, epoch * 250 : (epoch + 1) * 250].sort().values, pool)
    assert torch.equal(again.rows(15), shown[:, -32:])
    assert not torch.equal(shown[0, :250], shown[0, 250:500])


def test_the_error_of_a_divergence_names_the_point():
    with pytest.raises(InputError, match=r"diverged at sigma2=1e-30, beta=1\.0, seed=0"):
        Trainer(1e10 * gaussian_rows(), [Member(1e-30, 1.0, 0)], recipe(schedule="scratch")).run()


@pytest.mark.parametrize(
    ("scale", "sigma2", "settings", "remedy"),
    [
        (1e10, 1e-30, {}, r"a larger sigma2, it is \S+e-5\d times the mean variance of the features$"),
        (1.0, 1e-90, {}, r"a larger sigma2, it is \S+e-9\d times the mean variance of the features$"),
        (1.0, 1.0, {"learning_rate": 1e30}, r"a learning rate below 1e\+30$"),
    ],
)
def test_the_error_of_a_divergence_names_the_remedy(scale, sigma2, settings, remedy):
    trainer = Trainer(scale * gaussian_rows(), [Member(sigma2, 1.0, 0)], recipe(schedule="scratch", **settings))
    with pytest.raises(InputError, match=f"diverged .*: choose {remedy}"):
        trainer.run()


def test_training_finds_the_exact_curve_of_gaussian_data_and_beta_moves_the_transition():
    x = gaussian_rows(4000)
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T.numpy(), bias=True))[::-1]
    members = [Member(0.3, 1.0, 0), Member(0.65, 1.0, 0), Member(1.3, 1.0, 0), Member(0.65, 2.0, 0)]
    trainer = Trainer(x, members, recipe(hidden=(32,), samples=1e5, batch=128, learning_rate=5e-3))
    trainer.run()
    measured = [measure_model(trainer.model.member(index), x, member) for index, member in enumerate(members)]
    for numbers, member in zip(measured[:3], members, strict=False):
        assert numbers["kl"] == pytest.approx(ppca_kl(eigenvalues, member.sigma2, 2), abs=0.03)
        assert numbers["elbo"] == pytest.approx(ppca_elbo(eigenvalues, member.sigma2, 2), abs=0.02)
    active, collapsed = measured[1], measured[3]
    assert active["active_dims"] == 2
    assert active["kl"] > 0.2
    assert collapsed["kl"] < 0.01


def test_shared_targets_change_the_decoders_gradient_alone():
    x = gaussian_rows()
    first, second = (Trainer(x, MEMBERS[:2], recipe(samples=32.0, rao_blackwell_group=group)) for group in (1, 8))
    assert first.run()
    assert second.run()
    decoder = first.model.encoder.end
    assert torch.allclose(first.gradients[:, :decoder], second.gradients[:, :decoder])
    assert not torch.allclose(first.gradients[:, decoder:], second.gradients[:, decoder:], rtol=0.1)


def test_a_group_is_the_largest_divisor_of_the_batch_that_fits():
    trainer = Trainer(gaussian_rows(), MEMBERS[:1], recipe(samples=24.0, batch=12, rao_blackwell_group=5))
    assert trainer.run()
    same = Trainer(gaussian_rows(), MEMBERS[:1], recipe(samples=24.0, batch=12, rao_blackwell_group=4))
    assert same.run()
    assert torch.equal(trainer.model.parameters, same.model.parameters)
