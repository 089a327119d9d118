"""The parts of benchmarks/hierarchies.py that compute."""

from __future__ import annotations

import hierarchies
import numpy as np
import pytest


@pytest.mark.parametrize("edge", [0.93, 1.0, 1.06])
def test_a_hinge_is_found_with_its_error(edge):
    ratio = np.array(hierarchies.RATIOS)
    noise = 1e-3 * np.random.default_rng(0).normal(size=ratio.size)
    found, error = hierarchies.hinge(ratio, 0.5 * np.maximum(0, np.log(edge / ratio)) + noise)
    assert found == pytest.approx(edge, abs=4 * error)
    assert error < 0.01


def test_the_boundaries_are_crossed_at_weights_around_the_critical_ones():
    for boundary in hierarchies.BOUNDARIES:
        ratios, members = zip(*boundary.members([0]), strict=True)
        own = [member.beta if boundary.level == 1 else member.beta_top for member in members]
        assert own == pytest.approx(boundary.critical * np.array(ratios))


def test_the_gaussian_rows_have_exactly_the_eigenvalues():
    x = hierarchies.gaussian()
    assert np.cov(x.T, bias=True) == pytest.approx(np.diag(hierarchies.EIGENVALUES))
