"""Training and measurement with conditions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from phasevae.artifacts.files import read_json
from phasevae.config import completed_settings
from phasevae.datasets.registry import build_dataset
from phasevae.errors import InputError
from phasevae.measurement.measure import measure_model
from phasevae.measurement.tables import dimensions_table, sweep_table
from phasevae.rows import Rows, given_condition
from phasevae.spectrum.measure import spectrum_of
from phasevae.stored import load
from phasevae.sweeps.points import Task
from phasevae.sweeps.settings import Member, Settings, training_keys
from phasevae.theory import conditional
from phasevae.trained import save_model
from phasevae.training.point_files import write_point
from phasevae.training.problem import Problem
from phasevae.training.row_order import balanced_groups, principal_axes
from phasevae.training.trainer import Trainer
from phasevae.training.variance_reduction import rao_blackwell_targets

EIGENVALUES = [[1.0, 0.1, 0.1], [0.4, 0.1, 0.1]]


@pytest.fixture(scope="module")
def data():
    return build_dataset("conditional", condition_eigenvalues=EIGENVALUES, n_samples=3000)


@pytest.fixture(scope="module")
def numbered():
    dose = np.linspace(-1, 1, 3000)
    return build_dataset("conditional", condition_eigenvalues=EIGENVALUES, n_samples=3000, condition=dose)


def settings(**keys):
    chosen = {"n_latent": 1, "hidden": [32, 32], "samples": 40_000, "batch": 128, **keys}
    return Settings.from_keys(training_keys(completed_settings(chosen)))


def trained(data, sigma2=(0.25,), **keys):
    chosen = settings(**keys)
    problem = Problem.of(data.x, chosen, condition=data.condition)
    trainer = Trainer(problem, [Member(value, 1.0, 0) for value in sigma2], chosen)
    trainer.run()
    return problem, trainer


def test_rows_are_centred_in_each_class(data):
    rows = given_condition(Rows.of(np.asarray(data.x)), data.condition)
    x = np.asarray(data.x, dtype=np.float64)
    for number in range(2):
        of_class = data.condition.stored == number
        expected = x[of_class] - x[of_class].mean(0)
        found = rows.gather(torch.from_numpy(np.flatnonzero(of_class))[None]).x[0]
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    batch = rows.gather(torch.tensor([[5, 7]]))
    np.testing.assert_array_equal(batch.inputs[0].numpy()[:, :3], batch.x[0].numpy())
    np.testing.assert_array_equal(batch.inputs[0].numpy()[:, 3:], data.condition.columns(np.array([5, 7])))


def test_an_encoder_that_does_not_see_the_class_sees_no_class_means(data):
    rows = given_condition(Rows.of(np.asarray(data.x)), data.condition, encoder_sees=False)
    batch = rows.gather(torch.arange(4)[None])
    np.testing.assert_allclose(batch.inputs[0].numpy(), data.x[:4] - data.x.mean(0), atol=1e-5)
    _, trainer = trained(data, samples=2000, encoder_sees_condition=False)
    assert trainer.model.encoder.widths[0] == 3
    assert trainer.model.decoder.widths[0] == 1 + 2


def test_targets_are_averaged_over_rows_of_the_same_class():
    generator = torch.Generator().manual_seed(0)
    models, draws, rows, n, dimension, group = 2, 2, 8, 2, 3, 4
    x = torch.randn(1, rows, dimension, generator=generator, dtype=torch.float64)
    mu = torch.randn(models, rows, n, generator=generator, dtype=torch.float64)
    logvar = torch.randn(models, rows, n, generator=generator, dtype=torch.float64)
    z = torch.randn(models, draws, rows, n, generator=generator, dtype=torch.float64)
    number = torch.tensor([0, 1, 0, 1, 1, 1, 0, 2])
    classes = torch.eye(3, dtype=torch.float64)[number][None]
    # Without anything to explain and with the means of the classes, the control variate is zero.
    mean = torch.stack([x[0, number == k].mean(0) if (number == k).any() else torch.zeros(3) for k in range(3)])
    flat = (classes @ mean).expand(models, -1, -1)[:, None].expand(-1, draws, -1, -1)
    found = rao_blackwell_targets(flat[:1, 0], mean, mu, logvar, z, flat, group, classes)
    torch.testing.assert_close(found, flat)
    found = rao_blackwell_targets(x, mean, mu, logvar, z, x[:, None].expand(models, draws, -1, -1), group, classes)
    for m in range(models):
        for a in range(draws):
            for b in range(rows):
                first = b // group * group
                others = [k for k in range(first, first + group) if number[k] == number[b]]
                log = [
                    -0.5 * (((z[m, a, b] - mu[m, k]) ** 2) / logvar[m, k].exp() + logvar[m, k]).sum() for k in others
                ]
                weights = torch.stack(log).softmax(0)
                torch.testing.assert_close(found[m, a, b], weights @ x[0, others])


def test_classes_are_balanced_in_every_group():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4096, 3, generator=generator) * torch.tensor([3.0, 1.0, 1.0])
    classes = (torch.rand(4096, generator=generator) < 0.3).long()
    numbers = torch.arange(4096)
    axes = [principal_axes(lambda rows: x[rows], numbers[classes == number], 1) for number in range(2)]
    groups = balanced_groups(lambda rows: x[rows], numbers, axes, classes)
    assert sorted(groups[groups >= 0].tolist()) == list(range(4096))
    chance = torch.randperm(4096, generator=generator).reshape(groups.shape[0], -1)

    def relative_spread(values):
        of_groups, by_chance = (torch.stack([values[each].mean() for each in rows]) for rows in (groups, chance))
        return of_groups.std() / by_chance.std()

    assert relative_spread(classes.float()) < 0.5
    assert relative_spread(classes * x[:, 0] ** 2) < 0.5
    assert relative_spread((1 - classes) * x[:, 0] ** 2) < 0.5


def test_kl_is_the_mean_over_the_classes(data):
    problem, trainer = trained(data, sigma2=(0.25, 0.7, 1.4))
    modes = spectrum_of(data).modes
    for index, member in enumerate(trainer.members):
        numbers = measure_model(trainer.model.member(index), problem.rows, member, with_likelihood=False)
        expected = float(conditional.kl(modes, member.sigma2, 1))
        assert numbers["kl"] == pytest.approx(expected, abs=0.04)
        assert numbers["collapsed_elbo"] == pytest.approx(float(conditional.collapsed_elbo(modes, member.sigma2)))
        of_classes = numbers["conditions"]
        assert sum(each["share"] * each["kl"] for each in of_classes) == pytest.approx(numbers["kl"])
        assert sum(each["share"] * each["mse"] for each in of_classes) == pytest.approx(numbers["mse"])
        for key in ("kl_per_dim", "latent_variance"):
            np.testing.assert_allclose(sum(each["share"] * each[key] for each in of_classes), numbers[key])
    assert of_classes[0]["kl"] < 0.01


def test_each_class_has_rows_of_its_own_in_the_table():
    point = {"sigma2": 0.5, "beta": 1.0, "seed": 0, "settings": {"n_latent": 2}, **_of_latents(0.3)}
    classes = [{"value": value, "share": 0.5, **_of_latents(kl)} for value, kl in (("a", 0.4), ("b", 0.2))]
    table = dimensions_table([{**point, "conditions": classes}])
    assert table["condition"].tolist() == ["", "", "a", "a", "b", "b"]
    assert table["kl"].tolist() == [0.3, 0.3, 0.4, 0.4, 0.2, 0.2]
    assert "condition" not in dimensions_table([point])


def test_the_tables_tell_whether_the_encoder_sees_the_condition(data, tmp_path):
    for condition, sees in ((data.condition, False), (data.condition, True), (None, True)):
        chosen = settings(samples=1000, encoder_sees_condition=sees)
        problem = Problem.of(data.x, chosen, condition=condition)
        trainer = Trainer(problem, [Member(0.3, 1.0, 0)], chosen)
        trainer.run()
        task = Task(trainer.members[0], tmp_path, "digest")
        origin = {"backend": "torch", "data_sha256": "", "code_hash": ""}
        write_point(trainer, 0, task, problem, chosen, 1, 0.0, origin)
        points = [read_json(tmp_path / "point.json", kind="point")]
        for table in (sweep_table(points), dimensions_table(points)):
            found = table.get("encoder_sees_condition", pd.Series()).unique().tolist()
            assert found == ([] if condition is None else [sees])


def _of_latents(kl):
    return {
        "kl_per_dim": [kl, kl],
        "latent_variance": [1.0, 1.0],
        "mean_variance": [0.1, 0.1],
        "mean_covariance": [[0.1, 0.0], [0.0, 0.1]],
    }


def test_trainings_resume_exactly(data):
    chosen = settings(samples=4000)
    problem = Problem.of(data.x, chosen, condition=data.condition)
    whole, first, second = (Trainer(problem, [Member(0.3, 1.0, 0)], chosen) for _ in range(3))
    whole.run()
    first.run(until=13)
    second.restore(first.state())
    second.run()
    assert torch.equal(whole.model.parameters, second.model.parameters)


@pytest.mark.parametrize("sees", [True, False])
@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_a_stored_model_takes_the_condition(data, numbered, kind, sees, tmp_path):
    chosen = data if kind == "classes" else numbered
    problem, trainer = trained(chosen, samples=2000, encoder_sees_condition=sees)
    rows = problem.rows
    metadata = {"sigma2": 0.25, "beta": 1.0}
    path = tmp_path / "weights.safetensors"
    save_model(path, trainer.model, 0, rows.mean, metadata, conditioning=rows.conditioning)
    model = load(path)
    values = np.linspace(-1, 1, 3000)[:5] if kind == "numbers" else chosen.condition.stored[:5]
    given = values if sees else None
    batch = rows.gather(torch.arange(5)[None])
    mu, logvar = trainer.model.encode(batch.inputs)
    found = model.encode(chosen.x[:5], given)
    torch.testing.assert_close(found[0], mu[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1], logvar[0].exp(), atol=1e-5, rtol=1e-4)
    decoded = trainer.model.decode(mu, batch.condition)[0]
    offset = torch.from_numpy(np.asarray(chosen.x[:5])) - batch.x[0]
    torch.testing.assert_close(model.decode(mu[0], values), decoded + offset, atol=1e-5, rtol=1e-4)
    assert model.sample(4, condition=values[0]).shape == (4, 3)
    with pytest.raises(InputError, match="condition: missing"):
        model.decode(mu[0])
    with pytest.raises(InputError, match="condition: 2 values, must be 5"):
        model.decode(mu[0], values[:2])


def test_a_model_without_a_condition_takes_none(tmp_path):
    plain = build_dataset("synthetic", n_samples=500)
    chosen = settings(samples=1000)
    trainer = Trainer(Problem.of(plain.x, chosen), [Member(0.3, 1.0, 0)], chosen)
    metadata = {"sigma2": 0.3, "beta": 1.0}
    save_model(tmp_path / "weights.safetensors", trainer.model, 0, np.zeros(8, np.float32), metadata)
    with pytest.raises(InputError, match="condition: must be left out"):
        load(tmp_path / "weights.safetensors").encode(plain.x[:2], [0, 1])


def test_numbers_share_no_targets(numbered):
    problem, trainer = trained(numbered, samples=2000)
    assert problem.rows.classes is None
    numbers = measure_model(trainer.model.member(0), problem.rows, trainer.members[0], with_likelihood=False)
    assert "conditions" not in numbers
    assert np.isfinite(numbers["elbo"])
