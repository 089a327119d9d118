from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from phasevae.artifacts.files import read_json
from phasevae.artifacts.tables import read_table
from phasevae.datasets.base import Dataset
from phasevae.datasets.collected import collect_dataset
from phasevae.datasets.samples import read_samples
from phasevae.datasets.store import load_dataset
from phasevae.errors import InputError
from phasevae.measurement import measure
from phasevae.measurement.tables import read_folder, sweep_table
from phasevae.own_sweep import _TemporaryFolder, sweep
from phasevae.provenance.verify import verify_results
from phasevae.stored import load
from phasevae.training import job

SMALL = {"n_latent": 2, "hidden": (4,), "samples": 640, "batch": 32, "threads": 1, "progress": False}
WEIGHTS = [0.3, 0.6, 0.9, 1.4]


@pytest.fixture(scope="module", autouse=True)
def few_draws():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "LIKELIHOOD_DRAWS", 2)
        patch.setattr(measure, "MOST_PAIRS", 1)
        yield


def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(2.0, np.sqrt([1.0, 0.6, 0.2]), size=(300, 3))


@pytest.fixture(scope="module")
def result(few_draws):
    return sweep(None, rows(), "gaussian", weights=WEIGHTS, seeds=[0, 1], **SMALL)


def test_the_tables_are_those_of_the_points(result):
    pd.testing.assert_frame_equal(result.sweep, sweep_table(read_folder(result.folder / "points")))
    assert result.sweep["sigma2"].tolist() == sorted(2 * WEIGHTS)
    assert len(result.dimensions) == 2 * len(result.sweep)
    assert {"learning_time", "current_sigma2"} <= set(result.histories)
    assert (result.timing["train_seconds"] > 0).all()
    assert result.unit == 1 and result.weights == WEIGHTS
    assert result.spectrum.critical_variance == pytest.approx(result.prediction.critical_variance)
    assert repr(result) == "<SweepResult: 8 models, weights 0.3 to 1.4>"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_fit_and_figures_come_from_the_tables(result):
    assert result.fit().n_points == len(result.sweep)
    assert "elbo_gap" not in (result.fit().order.reason or "")
    assert isinstance(result.plot("kl"), Figure)
    with pytest.raises(InputError, match="figure"):
        result.plot("nothing")


def test_a_fit_warns_of_what_it_cannot_be_trusted_with(result):
    bad = replace(result, sweep=result.sweep.assign(converged=[False] + [True] * 7, kl=1.0, elbo_gap=0.1))
    with pytest.warns(UserWarning) as caught:
        fit = bad.fit()
    lines = [str(each.message) for each in caught]
    assert lines == [*fit.warnings, f"critical_variance is None: {fit.reason}; {fit.advice}"]
    assert lines[0].startswith("1 of 8 points has not converged (weight = 0.3), so the result can still change: train")
    predicted = f"{result.spectrum.critical_variance:.4g}"
    assert f"; the spectrum predicts the transition at weight = {predicted}, but points above it" in lines[-1]
    assert "--" not in " ".join(lines)
    assert {each.filename for each in caught} == {__file__}
    with warnings.catch_warnings(action="error"):
        bad.plot("kl")


def test_a_trained_model_has_the_units_of_the_data(result):
    model = result.load(0.3, seed=1)
    assert (model.sigma2, model.beta) == (0.3, 1.0)
    assert model.decode(np.zeros((1, 2), dtype=np.float32)).numpy() == pytest.approx(rows().mean(0)[None], abs=1)
    assert repr(model) == "<TrainedVAE: 3 features, 2 latents, decoder variance 0.3, KL weight 1>"
    with pytest.raises(InputError) as few:
        result.load(0.31)
    assert str(few.value) == f"weight: 0.31, must be one of {', '.join(map(str, result.weights))}"
    with pytest.raises(InputError, match=r"weight: 0\.31, must be one of the attribute `weights`, nearest is 0\.3$"):
        replace(result, weights=[0.3, *range(1, 10)]).load(0.31)
    with pytest.raises(InputError, match=r"seed: 7, must be one of 0, 1$"):
        result.load(0.3, seed=7)
    with pytest.raises(InputError, match="weight: 'first', must be a number"):
        result.load("first")


def test_the_folder_of_a_sweep_is_no_point(result, tmp_path):
    point = sorted((result.folder / "points").iterdir())[0]
    for folder in (result.folder, result.folder / "points"):
        with pytest.raises(InputError) as caught:
            load(folder)
        assert str(caught.value) == (
            f"{folder}: holds no weights.safetensors, must be the folder of a point, such as {point}"
        )
    with pytest.raises(InputError, match=r"must be the folder of a point$"):
        load(tmp_path)


def test_a_saved_sweep_has_the_layout_of_the_workflow(result, tmp_path):
    folder = result.save(tmp_path / "saved")
    assert read_json(folder / "fit.json", kind="fit")["n_points"] == 2 * len(WEIGHTS)
    pd.testing.assert_frame_equal(read_table(folder / "sweep.csv", "sweep"), result.sweep, check_dtype=False)
    np.testing.assert_array_equal(load_dataset(folder, verify=True).x, rows().astype(np.float32))
    findings, checked = verify_results(folder)
    assert findings == [] and checked > 20
    with pytest.raises(InputError, match=r"saved: is not empty, must be a new folder"):
        result.save(folder)


def test_points_in_a_folder_are_kept_and_new_ones_added(tmp_path, result, monkeypatch):
    trained = []
    original = job._train
    monkeypatch.setattr(job, "_train", lambda task, *rest: trained.append(len(rest[1].tasks)) or original(task, *rest))
    for weights in (WEIGHTS[:2], WEIGHTS[:2], WEIGHTS[:3]):
        again = sweep(None, rows(), weights=weights, folder=tmp_path, **SMALL)
    assert trained == [2, 1]
    alone = result.sweep[(result.sweep["seed"] == 0) & (result.sweep["sigma2"] < 1)]
    np.testing.assert_allclose(again.sweep["kl"], alone["kl"], rtol=1e-5)
    assert again.save(tmp_path) == tmp_path and (tmp_path / "fit.json").is_file()


def test_weights_are_in_the_units_of_the_loss():
    made = sweep(None, rows(), "mean-se", weights=[0.2, 0.4], **SMALL)
    # SSE / 3 + w KL has the optimum of beta * sigma2 = 3 w / 2.
    assert made.unit == pytest.approx(1.5)
    assert made.sweep["sigma2"].tolist() == pytest.approx([0.3, 0.6])
    assert made.load(0.4).sigma2 == pytest.approx(0.6)
    with pytest.warns(UserWarning):
        fit = replace(made, sweep=made.sweep.assign(converged=[True, False], kl=1.0, elbo_gap=0.1)).fit()
    critical = f"{made.prediction.critical_kl_weight:.4g}"
    assert fit.advice == (
        f"add points with weight above 0.4; the spectrum predicts the transition at weight = {critical}"
    )
    assert any("has not converged (weight = 0.4), so the result " in line for line in fit.warnings)
    enough = replace(fit.convergence, enough_converged=True)
    known = replace(fit, critical_variance=0.6, ci95=[0.45, None], convergence=enough)
    assert fit.reason == "2 values of weight, needs 4"
    sentence, numbers, *_ = str(known).splitlines()
    assert sentence.startswith(
        "A latent is active up to weight = 0.30 at least (95 % interval above 0.30, best fit weight = 0.40)."
    )
    assert numbers.startswith("critical weight 0.40 [0.30, open], ")
    assert f"The spectrum of the data predicts {critical}: " in str(known)


def test_other_likelihoods_are_swept_over_beta():
    counts = np.random.default_rng(0).poisson(4.0, size=(300, 3))
    made = sweep(None, counts, "poisson", weights=[0.5, 1.0], **SMALL)
    assert made.sweep["beta"].tolist() == [0.5, 1.0]
    assert set(made.sweep["sigma2"]) == {1.0}
    assert made.spectrum.critical_variance == pytest.approx(made.prediction.critical_kl_weight, rel=1e-6)


def test_conditions_and_hierarchies_are_settings_as_in_a_configuration():
    x, classes = rows(), np.arange(300) % 2
    x[classes == 1, 0] += 5
    made = sweep(None, x, weights=[0.5, 1.2], condition=classes, **SMALL)
    assert made.spectrum.critical_variance == pytest.approx(made.prediction.critical_variance)
    assert made.spectrum.critical_variance < 1.5 < np.linalg.eigvalsh(np.cov(x.T))[-1]
    assert len(made.dimensions) > 4
    two = sweep(None, rows(), weights=[0.5], hierarchy={"n_top": 1, "beta_top": [1.0, 2.0]}, **SMALL)
    assert two.sweep["beta_top"].tolist() == [1.0, 2.0]


def test_a_hierarchy_whose_phases_are_the_result_does_not_warn_of_a_critical_variance():
    hierarchy = {"n_top": 1, "beta_top": [1.0, 2.0], "posterior_variance": 0.25}
    made = sweep(None, rows(), weights=[0.5, 1.2], hierarchy=hierarchy, **SMALL)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = made.fit()
    assert fit.hierarchy is not None and fit.critical_variance is None and fit.reason
    assert not any("critical_variance" in str(each.message) for each in caught)


def test_default_weights_go_around_the_predicted_thresholds():
    made = sweep(None, rows(), **{**SMALL, "samples": 32})
    for threshold in made.prediction.thresholds:
        near = [weight / threshold.kl_weight for weight in made.weights if 0.9 < weight / threshold.kl_weight < 1.1]
        assert min(near) < 0.99 and max(near) > 1.01


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_sweep_with_classes_has_default_weights_fit_and_figures(tmp_path):
    classes = np.arange(300) % 2
    x = rows() * np.where(classes[:, None] == 0, [1, 1, 1], [2.0, 0.5, 0.5])
    made = sweep(None, x, condition=classes, **{**SMALL, "samples": 32})
    expected = [threshold for each in made.prediction.classes for threshold in each.prediction.thresholds]
    found = [threshold.kl_weight for threshold in made.prediction.thresholds]
    assert found == sorted((threshold.kl_weight for threshold in expected), reverse=True)
    for value in found:
        near = [weight / value for weight in made.weights if 0.9 < weight / value < 1.1]
        assert min(near) < 0.99 and max(near) > 1.01
    assert made.fit().n_points == len(made.weights)
    assert isinstance(made.plot("kl"), Figure)
    assert (made.save(tmp_path / "saved") / "fit.json").is_file()


def build(input_shape, n_latent):
    return torch.nn.Linear(3, 2 * n_latent), torch.nn.Linear(n_latent, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"build": 3}, "build: of type int, must be a function build(input_shape, n_latent)"),
        ({"build": torch.nn.Linear(3, 2)}, "build: of type Linear, must be a function build(input_shape, n_latent)"),
        ({"build": torch.nn.Linear}, "build: the class Linear, must be a function build(input_shape, n_latent)"),
        ({"loss": "gaussian-nll"}, "loss: gaussian-nll, has a learned variance"),
        ({"loss": len}, "loss: a function, must be the name of a loss; phasevae.predict takes functions"),
        ({"loss": 3}, "loss: 3, must be the name of a loss"),
        ({"loss": "gausian"}, "loss: 'gausian', did you mean 'gaussian'? (must be one of half-sse, "),
        ({"loss": "mse"}, "loss: 'mse', did you mean 'mean-se'?"),
        ({"loss": "cross-entropy"}, "did you mean 'bce' or 'categorical'?"),
        ({"weights": "many"}, "weights: 'many', must be a list of numbers"),
        ({"weights": [0.1, 0.1], "loss": "mean-se"}, "weights: 0.1 is given twice; remove one"),
        ({"weights": [0.5, -1.0], "loss": "mean-se"}, "weights: -1, must be above 0"),
        ({"weights": [float("nan")], "loss": "poisson"}, "weights: nan, must be above 0 and finite"),
        ({"weights": []}, "weights: [], must not be empty"),
        ({"weights": [1e40], "loss": "mean-se"}, "weights: 1e+40, must be 6.67e-31 to 6.67e+29"),
        ({"weights": np.linspace(0.1, 1, 20_001)}, "weights: 20001 points with seeds, must be at most 20000"),
        (
            {"weights": range(1, 6_668), "seeds": [0, 1, 2], "loss": "poisson", "data": rows().clip(0).round()},
            "weights: 20001 points with seeds, must be at most 20000",
        ),
        (
            {"weights": range(1, 10_002), "hierarchy": {"n_top": 1, "beta_top": [1.0, 2.0]}},
            "weights: 20002 points with seeds and beta_top, must be at most 20000",
        ),
        ({"sigma2": [1.0]}, "sigma2: is no setting of phasevae.sweep"),
        ({"network": {"kind": "mlp"}}, "network: is no setting of phasevae.sweep; give it as build"),
        ({"likelihood": "laplace"}, "likelihood: is no setting of phasevae.sweep; give loss="),
        ({"likelihood_options": {}}, "likelihood_options: is no setting of phasevae.sweep; give loss="),
        ({"hierarchy": {"n_top": 1}, "build": build}, "hierarchy: must be left out for networks of your own"),
        (
            {"hierarchy": {"n_top": 1}, "condition": [0, 1] * 150},
            "hierarchy: must be left out for data with a condition",
        ),
        ({"hierarchy": {"n_top": 1}, "loss": "laplace"}, "likelihood: laplace, must be gaussian with hierarchy"),
        ({"sampels": 10}, "sampels"),
        ({"batch": 0}, "batch: 0"),
        ({"n_latent": 0}, "n_latent: 0, must be at least 1"),
        ({"data": "nowhere.npy"}, "nowhere.npy: no such file"),
        ({"device": "abacus"}, "abacus"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_mistakes_are_one_line_and_leave_no_folder(changes, message, tmp_path):
    arguments = {"build": None, "data": rows(), "weights": WEIGHTS, **SMALL, **changes}
    with pytest.raises(InputError) as raised:
        sweep(**arguments)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert not str(raised.value).startswith("options")


def test_losses_that_a_sweep_does_not_take_are_not_suggested():
    for name in ("gausian-nll", "nll", "normal"):
        with pytest.raises(InputError) as raised:
            sweep(None, rows(), name, **SMALL)
        assert "gaussian-nll" not in str(raised.value).replace(repr(name), "")


def test_a_temporary_folder_goes_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        place = _TemporaryFolder()
        assert place.path.is_dir()
        path = place.path
        del place
        gc.collect()
    assert not path.exists()


def test_a_sweep_runs_in_any_thread_and_leaves_the_number_of_threads(result):
    from concurrent.futures import ThreadPoolExecutor

    before = torch.get_num_threads()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(sweep, None, rows(), weights=[0.3], seeds=[0], **SMALL).result()
    assert torch.get_num_threads() == before
    first = result.sweep.iloc[0]
    assert other.sweep["kl"][0] == pytest.approx(first["kl"], rel=1e-5)


def test_the_name_is_there_before_torch_is():
    code = "import sys, phasevae; phasevae.sweep; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("mode", [None, "per-feature"])
def test_any_data_become_a_data_set(mode):
    frame = pd.DataFrame(rows(), columns=["a", "b", "c"])
    loader = torch.utils.data.DataLoader(torch.from_numpy(rows()), batch_size=77)
    for data in (rows(), frame, loader, torch.from_numpy(rows())):
        made = collect_dataset(data, mode)
        expected = np.concatenate(list(read_samples(data, standardize=mode).read()))
        np.testing.assert_array_equal(made.x, expected.astype(np.float32))
        np.testing.assert_allclose(made.x * made.scale + made.mean, rows(), rtol=1e-5)
        assert made.reading.n_samples == 300
    assert collect_dataset(made) is made
    assert isinstance(replace(made, name="other"), Dataset)
    with pytest.raises(InputError, match="standardize: must be left out for a Dataset"):
        collect_dataset(made, "center")
