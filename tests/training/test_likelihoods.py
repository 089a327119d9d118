"""Trainings with likelihoods other than the Gaussian one: their collapsed state, gradients, files and own functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import recipe

from phasevae.datasets.registry import build_dataset
from phasevae.datasets.streams import sample_stream
from phasevae.errors import InputError
from phasevae.likelihoods.registry import find_likelihood
from phasevae.measurement.measure import measure_model
from phasevae.measurement.residual import measure_residual
from phasevae.prediction.own_likelihood import own_likelihood
from phasevae.prediction.predict import predict
from phasevae.prediction.score_spectrum import spectrum_of_likelihood
from phasevae.rows import Batch
from phasevae.stored import load
from phasevae.sweeps.settings import Member, Settings
from phasevae.trained import _unusable, save_model
from phasevae.training.problem import Problem
from phasevae.training.trainer import Trainer
from phasevae.training.vae_step import VAEStep

RNG = np.random.default_rng(0)
N, D = 256, 4
SIGNAL = RNG.normal(size=(N, 1)) * RNG.normal(size=D)
COUNTS = RNG.poisson(np.exp(0.4 * SIGNAL + 1)).astype(np.float32)
VALUES = (SIGNAL + RNG.normal(size=(N, D)) + 3).astype(np.float32)
ROWS = {
    "bernoulli": (SIGNAL + RNG.normal(size=(N, D)) > 0).astype(np.float32),
    "categorical": (SIGNAL + RNG.normal(size=(N, D)) > 0).astype(np.float32) + (SIGNAL > 1),
    "poisson": COUNTS,
    "negative-binomial": COUNTS,
    "zinb": COUNTS * (RNG.random((N, D)) > 0.2),
    "multinomial": COUNTS,
    "gaussian-variance": VALUES,
    "laplace": VALUES,
    "student-t": VALUES,
}
each_family = pytest.mark.parametrize("name", ROWS)


def settings(name: str, **changes) -> Settings:
    keys = {"n_latent": 2, "hidden": (8,), "samples": 512, "batch": 64, "likelihood": name}
    return Settings(**(keys | changes))


def test_the_history_does_not_depend_on_held_out_rows():
    chosen = settings("poisson", holdout=0.2, balanced_order=False)
    histories = []
    for added in (0.0, 50.0):
        problem = Problem.of(ROWS["poisson"], chosen)
        problem.rows.x[problem.held_out] += added
        trainer = Trainer(problem, [Member(1.0, 2.0, 0)], chosen)
        trainer.run()
        histories.append(np.stack(trainer.history))
    np.testing.assert_allclose(*histories, rtol=1e-6)


@each_family
def test_the_collapsed_value_is_minus_the_loss_of_the_fit(name):
    x = ROWS[name]
    problem = Problem.of(x, settings(name))
    rows, term = problem.rows, problem.reconstruction
    trainer = Trainer(problem, [Member(1.0, 2.0, 0), Member(1.0, 3.0, 0)], settings(name))
    trainer.run()
    history = trainer.history[-1]
    assert np.isfinite(history[:, :5]).all() and np.isnan(history[:, 5]).all()
    model = trainer.model.member(0)
    numbers = measure_model(model, rows, trainer.members[0], torch.arange(9), reconstruction=term)
    fitted = find_likelihood(name).fit(sample_stream(x))
    assert numbers["collapsed_elbo"] == pytest.approx(-fitted.loss, rel=1e-6)
    assert numbers["mse"] is None
    assert numbers["elbo"] == pytest.approx(-numbers["reconstruction"] - 2 * numbers["kl"])
    assert numbers["elbo"] == pytest.approx(numbers["collapsed_elbo"] + numbers["elbo_gap"], rel=1e-5)
    # At beta = 1 the importance-weighted bound is at least the ELBO; these 512 samples are hardly a training.
    assert numbers["log_likelihood"] > -numbers["reconstruction"] - numbers["kl"] - 0.1
    assert numbers["holdout"]["reconstruction"] > 0
    # The history's ELBO is that of nearly the same networks, on batches.
    assert history[0, 3] == pytest.approx(numbers["elbo"], rel=0.2)


@each_family
def test_a_stored_model_decodes_and_draws_rows_of_its_kind(name, tmp_path):
    x = ROWS[name]
    problem = Problem.of(x, settings(name))
    rows, term = problem.rows, problem.reconstruction
    trainer = Trainer(problem, [Member(1.0, 2.0, 0)], settings(name))
    save_model(
        tmp_path / "weights.safetensors", trainer.model, 0, rows.mean, {"sigma2": 1.0, "beta": 2.0}, (name, term)
    )
    model = load(tmp_path)
    assert repr(model).endswith(f" features, {model.n_latent} latents, likelihood {name}, KL weight 2>")
    mu, variance = model.encode(x[:5])
    expected, _ = trainer.model.encode(rows.gather(torch.arange(5)[None]).inputs)
    torch.testing.assert_close(mu, expected[0])
    assert (variance > 0).all()
    outputs = model.decode(np.zeros((3, 2)))
    assert outputs.shape == (3, term.n_outputs)
    energy = model.family.energy(
        model.family.statistics(torch.from_numpy(x[None, :3])), outputs[None, None], torch.ones(1)
    )
    assert torch.isfinite(energy).all()
    drawn = model.sample(2000).numpy()
    assert drawn.shape == (2000, D)
    if name in ("laplace", "student-t", "gaussian-variance"):
        assert np.abs(np.median(drawn, 0) - np.median(x, 0)).max() < 1
    else:
        assert (drawn == np.rint(drawn)).all() and drawn.min() >= 0
        assert np.abs(drawn.mean(0) - x.mean(0)).max() < 0.5 * (1 + x.mean())


@pytest.mark.parametrize("name", ["bernoulli", "zinb"])
def test_shared_targets_change_no_mean_of_the_decoders_gradient(name):
    """Over many draws for the same rows; the targets are averages of sufficient statistics."""
    problem = Problem.of(ROWS[name][:64], settings(name))
    rows, term = problem.rows, problem.reconstruction
    batch = rows.gather(torch.arange(64)[None])
    mean = term.statistics(batch.x[0]).mean(0)
    found = {}
    for group in (1, 64):
        step = VAEStep(problem, [Member(1.0, 1.0, 3)], settings(name, rao_blackwell_group=group))
        # Without the control variate, whose halves are the same rows in every draw.
        assert torch.allclose(step._mean, mean)
        encoder = step.model.encoder.end
        gradients = []
        for number in range(200):
            step.differentiate(batch, torch.ones(1), torch.tensor(number))
            gradients.append(step.gradients[0, encoder : step.model.decoder.end].double().clone())
        found[group] = torch.stack(gradients)
    difference = found[1] - found[64]
    assert (difference.mean(0).abs() <= 5 * difference.std(0) / 200**0.5 + 1e-6).all()
    assert found[64].var(0).sum() < 0.5 * found[1].var(0).sum()


SQUARES = "import torch\ndef loss(outputs, x):\n    return 0.5 * (outputs - x).square().sum(1)\n"


def own(tmp_path, text: str = SQUARES) -> str:
    (tmp_path / "my_loss.py").write_text(text)
    return f"module:{tmp_path}/my_loss.py:loss"


def test_an_own_squared_error_has_the_spectrum_of_the_data(tmp_path):
    name = own(tmp_path)
    spectrum = spectrum_of_likelihood(_dataset(tmp_path), name)
    np.testing.assert_allclose(spectrum.eigenvalues, np.linalg.eigvalsh(np.cov(VALUES.T, bias=True))[::-1], rtol=1e-5)
    assert spectrum.likelihood.name == name
    assert spectrum.likelihood.collapsed_loss == pytest.approx(0.5 * VALUES.var(0).sum(), rel=1e-5)
    term = own_likelihood(name, {}, VALUES).term
    np.testing.assert_allclose(term.offset.numpy(), VALUES.mean(0), rtol=1e-5)
    problem = Problem.of(VALUES, settings(name), own_likelihood=term)
    trainer = Trainer(problem, [Member(1.0, 1.0, 0)], settings(name))
    trainer.run()
    numbers = measure_model(trainer.model, problem.rows, trainer.members[0], reconstruction=problem.reconstruction)
    assert numbers["collapsed_elbo"] == pytest.approx(-0.5 * VALUES.var(0).sum(), rel=1e-5)


def _dataset(tmp_path):
    np.save(tmp_path / "x.npy", VALUES)
    return build_dataset("array", path=tmp_path / "x.npy", standardize="none")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "def loss(outputs, x):\n    return (outputs - x).sum()\n",
            r"returns shape \(\), must be a tensor of shape \[rows\]",
        ),
        ("def loss(outputs, x):\n    return 1.0\n", "returns float, must be"),
        (
            "def loss(outputs, x):\n    return outputs @ x\n",
            r"fails for outputs \(8, 4\) and x \(8, 4\) \(RuntimeError",
        ),
        ("def loss(outputs, x):\n    x -= 1\n    return (outputs - x).sum(1)\n", "changes its arguments"),
        (
            "import torch\ndef loss(outputs, x):\n    return (outputs - x).square().sum(1) * torch.rand(1)\n",
            "two values for the same arguments, must not be random",
        ),
        (
            "import torch\ndef loss(outputs, x):\n    return torch.log(-1 - outputs.square()).sum(1)\n",
            r"likelihood .*my_loss.py:loss: is nan for every constant output tried",
        ),
        ("def other(outputs, x):\n    return 0\n", "has no function 'loss'"),
        ("import nothing_of_this_name\n", "cannot be run"),
    ],
)
def test_an_own_function_that_cannot_be_used_gives_one_line_with_its_name(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        own_likelihood(own(tmp_path, text), {}, VALUES)
    assert "my_loss.py" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["laplace", "multinomial", "module:mine.py:loss"])
def test_some_families_do_not_go_with_a_condition(name):
    data = build_dataset("conditional", condition_eigenvalues=[[1.0, 0.1], [0.4, 0.1]], n_samples=200)
    with pytest.raises(InputError, match=f"likelihood: {name}, must be one of gaussian, bernoulli, poisson"):
        spectrum_of_likelihood(data, name)


def test_wrong_values_are_an_error_of_the_family():
    with pytest.raises(InputError, match="must be within 0 and 1"):
        Problem.of(COUNTS, settings("bernoulli"))


def test_gaussian_rows_are_centred_and_others_are_not():
    rows = Problem.of(VALUES, settings("gaussian")).rows
    assert rows.inputs is None and abs(float(rows.x.mean())) < 1e-5
    rows = Problem.of(COUNTS, settings("poisson")).rows
    assert torch.equal(rows.x, torch.from_numpy(COUNTS))
    assert abs(float(rows.inputs.mean())) < 1e-5
    assert float(rows.inputs.square().mean()) == pytest.approx(1, rel=1e-5)
    assert isinstance(rows.gather(torch.zeros(1, 2, dtype=torch.int64)), Batch)


@each_family
def test_the_residual_edge_of_a_collapsed_model_is_the_critical_weight(name):
    """The scores and curvatures of the kernels against those of the likelihoods' own fits."""
    x = np.concatenate([ROWS[name]] * 8)
    problem = Problem.of(x, settings(name))
    trainer = Trainer(problem, [Member(1.0, 1.0, 0)], settings(name))
    trainer.model.parameters.zero_()
    found = measure_residual(trainer.model, problem.rows, Member(1.0, 1.0, 0), [], problem.reconstruction)
    expected = predict(x, 2, loss="bce" if name == "bernoulli" else name).critical_variance
    assert found.edge == pytest.approx(expected, rel=0.3 if name == "laplace" else 0.03)


def stored_model(x, likelihood, folder):
    """A model of a likelihood as it is before its training."""
    problem = Problem.of(x, recipe(likelihood=likelihood))
    trainer = Trainer(problem, [Member(1.0, 1.0, 0)], recipe(likelihood=likelihood))
    save_model(
        folder / "weights.safetensors",
        trainer.model,
        0,
        problem.rows.mean,
        {"sigma2": 1.0, "beta": 1.0},
        (likelihood, problem.reconstruction),
    )
    return load(folder)


@pytest.mark.parametrize("wrong", [3, -1, 1.5, np.nan, np.inf])
def test_a_class_that_the_model_does_not_know_is_named(tmp_path, wrong):
    x = np.random.default_rng(0).integers(0, 3, (200, 4)).astype(np.float32)
    model = stored_model(x, "categorical", tmp_path)
    assert model.encode(x)[0].shape == (200, 2)
    place = rf"^x: value {wrong:g} at row 1, column 2 \(counted from 0\), must be a class number from 0 to 2$"
    with pytest.raises(InputError, match=place):
        model.encode(np.array([[0, 1, 2, 0], [1, 2, wrong, 1]], np.float32))


def test_rows_that_the_likelihood_cannot_have_are_named(tmp_path):
    x = np.random.default_rng(0).poisson(3.0, (200, 4)).astype(np.float32)
    model = stored_model(x, "poisson", tmp_path)
    for wrong, shown in ((-2, "-2"), (np.nan, "nan"), (np.inf, "inf")):
        place = rf"^x: value {shown} at row 1, column 2 \(counted from 0\), must be a finite number that the likelihood"
        with pytest.raises(InputError, match=place):
            model.encode(np.array([[1, 2, 3, 4], [1, 2, wrong, 1]], np.float32))


def test_a_row_without_a_known_column_is_no_number():
    words = "x: row 1 (counted from 0), must have values that the likelihood can have"
    assert _unusable(torch.zeros(2, 4), 1, 9, same_columns=False) == words
