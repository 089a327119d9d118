"""Fits and figures of data with classes, from tables that theory makes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from gaussian_sweeps import spectrum_of

from phasevae.analysis.bracketing import compare_bracketing, summarise_bracketing
from phasevae.analysis.pipeline import analyse
from phasevae.analysis.sweep_table import spectrum_of_sweep
from phasevae.artifacts.tables import read_table, write_table
from phasevae.errors import InputError
from phasevae.figures.registry import render_figure
from phasevae.spectrum.spectrum import ConditionSpectrum
from phasevae.theory import conditional, ppca

EIGENVALUES = {"a": [1.0, 0.1], "b": [0.4, 0.1]}
SHARES = {"a": 0.3, "b": 0.7}
X = np.array([0.2, 0.25, 0.3, 0.34, 0.37, 0.43, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.05, 1.2])


@pytest.fixture(scope="module")
def spectrum():
    classes = [ConditionSpectrum(v, SHARES[v], spectrum_of(lam, n_samples=10_000)) for v, lam in EIGENVALUES.items()]
    pooled = spectrum_of([0.55, 0.12], n_samples=20_000)
    return replace(
        pooled, critical_variance=1.0, condition={"kind": "classes", "source": "label"}, conditions=tuple(classes)
    )


@pytest.fixture(scope="module")
def tables(spectrum):
    rows = []
    for x in X:
        for value, lam in EIGENVALUES.items():
            variance = float(ppca.ppca_latent_variance(lam, x, 1)[0])
            rows.append({"sigma2": x, "condition": value, "kl": -0.5 * np.log(variance), "latent_variance": variance})
        mean = {key: sum(SHARES[row["condition"]] * row[key] for row in rows[-2:]) for key in ("kl", "latent_variance")}
        rows.append({"sigma2": x, "condition": "", **mean})
    dimensions = pd.DataFrame(rows).assign(beta=1.0, seed=0, latent=0)
    dimensions["mean_eigenvalue"] = dimensions["mean_variance"] = 1 - dimensions["latent_variance"]
    elbo = conditional.elbo(spectrum.modes, X, 1)
    sweep = pd.DataFrame({"sigma2": X, "beta": 1.0, "seed": 0, "elbo": elbo, "log_likelihood": elbo})
    sweep["kl"] = conditional.kl(spectrum.modes, X, 1)
    sweep["elbo_gap"] = elbo - conditional.collapsed_elbo(spectrum.modes, X)
    sweep["active_dims"] = conditional.active_dims(spectrum.modes, X, 1)
    return sweep, dimensions


def test_without_a_fit_the_advice_is_that_of_a_single_mode(tables, spectrum):
    """The cascade of data with classes is never fitted, so it has none."""
    sweep, _ = tables
    fit = analyse(sweep[sweep["sigma2"].isin([0.25, 0.3, 0.37, 0.9, 1.05])], spectrum, 1)
    assert (fit.model, fit.model_reason) == ("log", "no form can be fitted")
    assert fit.reason == "2 values of sigma2 in the window, needs 4"
    assert fit.advice == ("add points around sigma2 = 0.9 to 1.05; the spectrum predicts the transition at sigma2 = 1")


def test_both_hinges_are_found(tables, spectrum):
    sweep, dimensions = tables
    fit = analyse(sweep, spectrum, 1, dimensions)
    assert fit.model == "log"
    assert fit.critical_variance == pytest.approx(1.0, rel=1e-3)
    assert fit.models["log"].parameters["amplitude"] == pytest.approx(0.5 * SHARES["a"], rel=0.01)
    assert fit.predicted.slope_below == pytest.approx(-0.5 * SHARES["a"])
    found = {each.value: each.thresholds.modes[0].threshold for each in fit.conditions}
    assert found == {"a": pytest.approx(1.0, rel=1e-3), "b": pytest.approx(0.4, rel=1e-3)}
    assert fit.cascade.reason.startswith("the data have classes")
    assert fit.order.value == 2


def test_figures(tables, spectrum):
    sweep, dimensions = tables
    fit = analyse(sweep, spectrum, 1, dimensions)
    inputs = {"sweep": sweep, "dimensions": dimensions, "fit": fit, "spectrum": spectrum}
    for name in ("conditions", "elbo", "latent_variance", "kl", "kl_derivatives", "cascade", "spectrum", "soft_modes"):
        figure = render_figure(name, **inputs)
        if name == "conditions":
            labels = [text.get_text() for text in figure.legends[0].get_texts()]
            assert "class a (30 %)" in labels
            curve = next(line for line in figure.axes[0].lines if line.get_label() == "all: theory")
            np.testing.assert_allclose(curve.get_ydata(), conditional.kl(spectrum.modes, curve.get_xdata(), 1))


def test_table_with_conditions_is_read_back(tables, tmp_path):
    _, dimensions = tables
    write_table(tmp_path / "dimensions.csv", dimensions)
    read = read_table(tmp_path / "dimensions.csv", "dimensions")
    assert read["condition"].tolist() == dimensions["condition"].tolist()
    doubled = pd.concat([dimensions, dimensions[dimensions["condition"] == "a"]])
    write_table(tmp_path / "dimensions.csv", doubled)
    with pytest.raises(InputError, match="condition=a appears twice"):
        read_table(tmp_path / "dimensions.csv", "dimensions")


@pytest.fixture(scope="module")
def unaware(tables, spectrum):
    """Tables of an encoder that does not see the condition: its thresholds, 0.9 and 0.36, lie between the bounds."""
    made = (table.assign(sigma2=0.9 * table["sigma2"], encoder_sees_condition=False) for table in tables)
    return *made, replace(spectrum, unaware_variance=0.8)


def test_an_unaware_encoder_is_fitted_without_the_thresholds_of_an_aware_one(unaware):
    sweep, dimensions, spectrum = unaware
    fit = analyse(sweep, spectrum, 1, dimensions)
    assert (fit.model, fit.critical_variance) == ("log", pytest.approx(0.9, rel=1e-3))
    assert "does not see the condition" in fit.model_reason
    assert fit.models["log"].window[0] >= 0.4  # the second threshold of an aware encoder bounds that of any
    assert fit.predicted.is_upper_bound and fit.predicted.slope_below is None
    modes = {each.value: each.thresholds.modes[0] for each in fit.conditions}
    assert {value: mode.threshold for value, mode in modes.items()} == {
        "a": pytest.approx(0.9, rel=1e-3),
        "b": pytest.approx(0.36, rel=1e-3),
    }
    assert all(mode.predicted is None and mode.relative_error is None for mode in modes.values())
    assert fit.order.value == 2
    assert "does not see" in fit.hysteresis.predicted.reason


def test_the_window_of_an_unaware_encoder_reaches_its_least_critical_point(unaware):
    sweep, _, spectrum = unaware
    x = sweep["sigma2"]
    for lowest, edge in ((0.3, 0.3), (0.6, 0.4)):
        models = analyse(sweep, replace(spectrum, unaware_variance=lowest), 1).models
        assert models["log"].window[0] == pytest.approx(x[x >= edge].min())


def test_an_aware_sweep_keeps_its_spectrum(tables, spectrum):
    for table in (*tables, tables[0].assign(encoder_sees_condition=True)):
        assert spectrum_of_sweep(spectrum, table) is spectrum


def test_bracketing_of_an_unaware_encoder_confirms_no_prediction(unaware):
    sweep, _, spectrum = unaware
    sweep = sweep.assign(elbo_gap_standard_error=1e-4)
    table = compare_bracketing(sweep, sweep, spectrum)
    assert not table["encoder_sees_condition"].any()
    assert summarise_bracketing(table, sweep, sweep, spectrum, 1).holds_prediction is None


@pytest.mark.parametrize("name", ["conditions", "elbo", "latent_variance", "kl", "kl_derivatives", "cascade"])
def test_figures_of_an_unaware_encoder_name_the_bounds(unaware, name):
    sweep, dimensions, spectrum = unaware
    fit = analyse(sweep, spectrum, 1, dimensions)
    figure = render_figure(name, sweep=sweep, dimensions=dimensions, fit=fit, spectrum=spectrum)
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert "encoder that sees $c$" in labels
    assert not any("predicted" in label or "pPCA" in label for label in labels)
    if name in ("kl", "elbo", "kl_derivatives"):
        assert {r"its $\lambda_1$ (upper bound)", "linear encoder (lower bound)"} <= labels
