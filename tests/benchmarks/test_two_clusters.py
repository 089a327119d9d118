"""The exact optimum for two clusters, which upward sweeps are compared with."""

from __future__ import annotations

import numpy as np
import pytest
from two_clusters import branch, terms


def test_the_active_state_of_weight_0_1_outlives_its_advantage():
    ratios = np.array([0.7, 1.0, 1.3, 1.36, 1.39, 1.41, 1.44, 1.47])
    points = branch(0.1, ratios)
    assert [ratio for ratio, _, _ in points] == ratios[:-1].tolist()
    gap = {ratio: gap for ratio, gap, _ in points}
    assert gap[1.39] > 0 > gap[1.41]
    assert gap[0.7] == pytest.approx(0.268, abs=2e-3)


def test_equal_clusters_collapse_continuously_at_lambda_1():
    points = branch(0.5, np.array([0.7, 0.9, 0.97, 1.02]))
    assert [ratio for ratio, _, _ in points] == [0.7, 0.9, 0.97]
    assert 0 < points[-1][1] < 2e-3


def test_a_collapsed_encoder_has_neither_gap_nor_kl():
    assert terms(np.zeros(4), 0.1, 1.0) == pytest.approx((0.0, 0.0), abs=1e-9)
