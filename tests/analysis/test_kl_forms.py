"""The forms of KL: their derivatives, and the profiles that fit them."""

import numpy as np
import pytest

from phasevae.analysis.kl_fit.forms import WIDTHS, form_curve, form_profile
from phasevae.analysis.sweep_table import Points


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("cascade", {"eigenvalues": [1.0, 0.7], "floor": 0.01}),
        ("log", {"critical_variance": 1.0, "amplitude": 0.4, "floor": 0.0}),
        ("piecewise_quadratic", {"critical_variance": 1.0, "linear": 0.4, "quadratic": 0.9, "floor": 0.02}),
        ("log_quadratic", {"critical_variance": 1.0, "linear": 0.4, "quadratic": -0.2, "floor": 0.02}),
        ("power", {"critical_variance": 1.0, "amplitude": 0.4, "exponent": 1.4, "floor": 0.02}),
    ],
)
def test_derivatives_of_the_forms(name, parameters):
    x, h = np.array([0.5, 0.65, 0.8, 0.95, 1.2]), 1e-4
    values = [form_curve(name, parameters, x + step) for step in (-h, 0, h)]
    assert form_curve(name, parameters, x, 1) == pytest.approx((values[2] - values[0]) / (2 * h), abs=1e-6)
    second = (values[2] - 2 * values[1] + values[0]) / h**2
    assert form_curve(name, parameters, x, 2) == pytest.approx(second, abs=1e-5)
    assert values[1][-1] == parameters["floor"]


def test_derivatives_of_the_rounded_hinge():
    parameters = {"critical_variance": 1.0, "amplitude": 0.4, "width": 0.05, "floor": 0.01}
    x, h = np.array([0.8, 0.97, 1.0, 1.04]), 1e-4
    values = [form_curve("rounded", parameters, x + step) for step in (-h, 0, h)]
    assert form_curve("rounded", parameters, x, 1) == pytest.approx((values[2] - values[0]) / (2 * h), abs=1e-5)
    second = (values[2] - 2 * values[1] + values[0]) / h**2
    assert form_curve("rounded", parameters, x, 2) == pytest.approx(second, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("log", {"critical_variance": 1.0, "amplitude": 0.4, "floor": 0.01}),
        ("log_quadratic", {"critical_variance": 1.0, "linear": 0.4, "quadratic": 0.3, "floor": 0.01}),
        ("piecewise_quadratic", {"critical_variance": 1.0, "linear": 0.4, "quadratic": -0.3, "floor": 0.01}),
        ("power", {"critical_variance": 1.0, "amplitude": 0.4, "exponent": 1.5, "floor": 0.01}),
        ("rounded", {"critical_variance": 1.0, "amplitude": 0.4, "width": WIDTHS[35], "floor": 0.01}),
    ],
)
def test_profiles_find_the_parameters_of_their_own_curve(name, parameters):
    x = np.linspace(0.7, 1.2, 26)
    points = Points(x, form_curve(name, parameters, x), np.full(26, 500.0), np.ones(26, int))
    fits = form_profile(name, points)(np.array([0.95, 1.0, 1.05]))
    c, fitted = fits.best()
    assert c == 1.0 and fits.chi2[1] < 1e-9
    assert min(fits.chi2[0], fits.chi2[2]) > 1e-2
    assert fitted == pytest.approx(parameters, rel=1e-5)
