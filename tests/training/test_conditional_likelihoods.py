"""Conditions with other likelihoods: spectra, training, measurement and files, against each class by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from phasevae.config import completed_settings
from phasevae.datasets.base import Dataset
from phasevae.datasets.registry import build_dataset
from phasevae.errors import InputError
from phasevae.measurement.measure import collapsed_energy, measure_model
from phasevae.measurement.residual import measure_residual
from phasevae.own_sweep import sweep
from phasevae.prediction.predict import predict
from phasevae.prediction.score_spectrum import spectrum_of_likelihood
from phasevae.rows import Rows
from phasevae.spectrum.spectrum import looks_gaussian
from phasevae.spectrum.spectrum_files import read_spectrum, write_spectrum
from phasevae.stored import load
from phasevae.sweeps.settings import Member, Settings, training_keys
from phasevae.trained import save_model
from phasevae.training.problem import Problem
from phasevae.training.trainer import Trainer

FAMILIES = {"poisson": {}, "bernoulli": {}, "negative-binomial": {"dispersion": 2.0}}
DIRECTION = np.array([1.0, 1.0, -1.0, 0.0])


def counts(n: int, scale: float, mean: float, seed: int, name: str) -> np.ndarray:
    """Rows whose natural parameters vary along one direction."""
    rng = np.random.default_rng(seed)
    natural = mean + scale * rng.standard_normal((n, 1)) * DIRECTION
    drawn = (
        rng.random(natural.shape) < 1 / (1 + np.exp(-natural)) if name == "bernoulli" else rng.poisson(np.exp(natural))
    )
    return drawn.astype(np.float32)


def data_of(name: str, condition=None) -> Dataset:
    """Two classes: one with latent structure and large means, one with less."""
    x = np.concatenate([counts(1500, 0.9, 0.8, 0, name), counts(500, 0.3, -0.4, 1, name)])
    labels = np.repeat(["a", "b"], [1500, 500]) if condition is None else condition
    mixed = np.random.default_rng(2).permutation(len(x))
    made = build_dataset("synthetic", eigenvalues=[1.0] * 4, n_samples=len(x), condition=labels[mixed])
    return replace(made, x=x[mixed], reading=None)


def settings(name: str, **keys) -> Settings:
    chosen = {"n_latent": 1, "hidden": [16], "samples": 2000, "batch": 128, "likelihood": name}
    chosen |= {"likelihood_options": FAMILIES[name], "beta": 1.0, **keys}
    return Settings.from_keys(training_keys(completed_settings(chosen)))


each_family = pytest.mark.parametrize("name", FAMILIES)


@each_family
def test_the_spectrum_of_a_class_is_that_of_its_rows_alone(name, tmp_path):
    data = data_of(name)
    found = spectrum_of_likelihood(data, name, FAMILIES[name])
    number = data.condition.stored
    total = 0.0
    for k, each in enumerate(found.conditions):
        x = np.asarray(data.x, dtype=np.float64)[number == k]
        mean = x.mean(0)
        unit = {"poisson": mean, "bernoulli": mean * (1 - mean), "negative-binomial": mean + mean**2 / 2}[name]
        # The scores in units of their curvature have the covariance of the rows in units of the family's variance.
        expected = np.linalg.eigvalsh(np.cov(x.T, bias=True) / np.sqrt(np.outer(unit, unit)))[::-1]
        np.testing.assert_allclose(each.spectrum.eigenvalues, expected, rtol=1e-6)
        total += each.share * np.cov(x.T, bias=True)
    assert found.critical_variance == max(each.spectrum.eigenvalues[0] for each in found.conditions)
    assert found.likelihood.name == name and not looks_gaussian(found)
    assert found.data_sha256 == data.digest
    if name == "poisson":  # a decoder that adds its class: the residuals in units of the mean
        unit = np.sqrt(np.asarray(data.x).mean(0))
        np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(total / np.outer(unit, unit))[::-1], rtol=1e-5)
    write_spectrum(tmp_path / "spectrum.json", found)
    read = read_spectrum(tmp_path / "spectrum.json")
    assert read.conditions[1].spectrum.likelihood.name == name
    predicted = predict(np.asarray(data.x), 1, loss="bce" if name == "bernoulli" else name, kl_weight=1.0,
                        loss_options=FAMILIES[name] or None, condition=data.condition.stored)  # fmt: skip
    assert predicted.critical_variance == pytest.approx(found.critical_variance, rel=1e-6)


@each_family
def test_the_collapsed_state_is_the_constant_decoder_of_each_class(name):
    data = data_of(name)
    problem = Problem.of(data.x, settings(name), condition=data.condition)
    spectrum = spectrum_of_likelihood(data, name, FAMILIES[name])
    trainer = Trainer(problem, [Member(1.0, 1.0, 0)], settings(name))
    trainer.model.parameters.zero_()
    found = measure_model(trainer.model, problem.rows, Member(1.0, 1.0, 0), reconstruction=problem.reconstruction)
    assert found["elbo"] == pytest.approx(-spectrum.likelihood.collapsed_loss, rel=1e-5)
    assert found["elbo_gap"] == pytest.approx(0, abs=1e-5) and found["kl"] == pytest.approx(0, abs=1e-6)
    edge = measure_residual(trainer.model, problem.rows, Member(1.0, 1.0, 0), [], problem.reconstruction).edge
    assert edge == pytest.approx(spectrum.critical_variance, rel=0.1)


def test_what_the_networks_see():
    data = data_of("poisson")
    for sees in (True, False):
        problem = Problem.of(data.x, settings("poisson", encoder_sees_condition=sees), condition=data.condition)
        batch = problem.rows.gather(torch.arange(40)[None])
        assert torch.equal(batch.x[0], torch.from_numpy(data.x[:40]))  # counts stay counts
        log = np.log1p(np.asarray(data.x, dtype=np.float64))
        log = (log - log.mean(0)) / np.sqrt(log.var(0).mean())
        number = data.condition.stored
        rest = log - np.stack([log[number == k].mean(0) for k in range(2)])[number]
        np.testing.assert_allclose(batch.inputs[0, :, :4].numpy(), (rest if sees else log)[:40], atol=1e-5)
        np.testing.assert_allclose(problem.rows.seen(torch.arange(40)).numpy(), rest[:40], atol=1e-5)
        assert problem.mean.shape == (2, 4)
        np.testing.assert_allclose(problem.mean[0], data.x[number == 0].mean(0), rtol=1e-5)


@pytest.mark.parametrize("sees", [True, False])
def test_a_trained_model_and_its_file(tmp_path, sees):
    data = data_of("poisson")
    chosen = settings("poisson", encoder_sees_condition=sees, samples=15_000, hidden=[16])
    problem = Problem.of(data.x, chosen, condition=data.condition)
    critical = spectrum_of_likelihood(data, "poisson").critical_variance
    members = [Member(1.0, ratio * critical, 0) for ratio in (0.4, 1.3)]
    trainer = Trainer(problem, members, chosen)
    trainer.run()
    low, high = (
        measure_model(trainer.model.member(k), problem.rows, member, reconstruction=problem.reconstruction)
        for k, member in enumerate(members)
    )
    assert low["kl"] > 0.1 and low["elbo_gap"] > 0 and high["kl"] < 0.01
    of_class = {each["value"]: each["kl"] for each in low["conditions"]}
    assert of_class["a"] > 3 * of_class["b"]
    mean = sum(each["share"] * each["reconstruction"] for each in low["conditions"])
    assert mean == pytest.approx(low["reconstruction"]) and low["conditions"][0]["mse"] is None
    family = ("poisson", problem.reconstruction)
    metadata = {"sigma2": 1.0, "beta": 1.0}
    save_model(
        tmp_path / "weights.safetensors",
        trainer.model,
        0,
        problem.rows.mean,
        metadata,
        family,
        problem.rows.conditioning,
    )
    model = load(tmp_path)
    labels = np.array(["a", "b"])[data.condition.stored[:50]]
    mu, _ = model.encode(data.x[:50], labels if sees else None)
    batch = problem.rows.gather(torch.arange(50)[None])
    torch.testing.assert_close(mu, trainer.model.member(0).encode(batch.inputs)[0][0])
    outputs = problem.reconstruction.with_offset(
        trainer.model.member(0).decode(mu[None], batch.condition), batch.condition
    )
    torch.testing.assert_close(model.decode(mu, labels), outputs[0])
    assert (model.sample(2000, condition="a").mean(0) > model.sample(2000, condition="b").mean(0)).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_sweep_in_python():
    data = data_of("poisson")
    labels = np.array(["a", "b"])[data.condition.stored]
    small = {"n_latent": 1, "weights": [0.5, 9.0], "hidden": [4], "samples": 512, "progress": False}
    result = sweep(None, np.asarray(data.x), "poisson", condition=labels, **small)
    assert sorted(result.dimensions["condition"].unique()) == ["", "a", "b"]
    assert [each.value for each in result.fit().conditions] == ["a", "b"]
    result.plot("conditions")


def test_the_collapsed_energy_takes_the_offset_of_the_class():
    data = data_of("bernoulli")
    problem = Problem.of(data.x, settings("bernoulli"), condition=data.condition)
    batch = problem.rows.gather(torch.arange(30)[None])
    number, x = data.condition.stored[:30], np.asarray(data.x, dtype=np.float64)
    chance = np.stack([x[data.condition.stored == k].mean(0) for k in range(2)])[number]
    expected = -(x[:30] * np.log(chance) + (1 - x[:30]) * np.log(1 - chance)).sum(1)
    np.testing.assert_allclose(collapsed_energy(problem.reconstruction, batch), expected, rtol=1e-5)


def test_rows_from_a_file_are_the_same(tmp_path):
    data = data_of("poisson")
    np.save(tmp_path / "x.npy", data.x)
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    inside = Problem.of(data.x, settings("poisson"), condition=data.condition).rows
    outside = Problem.of(stored, settings("poisson"), condition=data.condition, data_memory=1).rows
    assert isinstance(inside, Rows) and not isinstance(outside, Rows)
    numbers = torch.tensor([[5, 3, 900]])
    for a, b in zip(inside.gather(numbers), outside.gather(numbers), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(inside.seen(numbers[0]), outside.seen(numbers[0]))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("laplace", {}, "likelihood: laplace, must be one of gaussian, bernoulli, poisson, negative-binomial for data"),
        ("negative-binomial", {}, "likelihood_options: must be a number as dispersion"),
        ("negative-binomial", {"dispersion": 2.0, "size_factors": "total"}, "and no size_factors"),
    ],
)
def test_families_that_do_not_go_with_a_condition(name, options, message):
    keys = {"n_latent": 1, "likelihood": name, "likelihood_options": options, "beta": [1.0], "condition": "label"}
    with pytest.raises(InputError, match=message):
        completed_settings(keys | {"kind": "digits"}, needs_grid=True)


def test_a_condition_of_numbers_has_a_gaussian_decoder():
    data = data_of("poisson", condition=np.linspace(0, 1, 2000))
    with pytest.raises(InputError, match="likelihood: poisson, must be gaussian for a condition of numbers"):
        spectrum_of_likelihood(data, "poisson")
    with pytest.raises(InputError, match="must be gaussian for a condition of numbers"):
        Problem.of(data.x, settings("poisson"), condition=data.condition)
