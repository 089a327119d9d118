"""Fits and figures of data with classes, from tables that theory makes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from gaussian_sweeps import spectrum_of

from phasevae.analysis.pipeline import analyse
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
