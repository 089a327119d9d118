from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from phasevae.sweeps.weights import AROUND, MOST_THRESHOLDS, default_weights

THRESHOLDS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8).map(lambda values: sorted(values, reverse=True))


@given(THRESHOLDS)
def test_weights_ascend_without_gaps_and_repeats(thresholds):
    weights = default_weights(thresholds)
    for low, high in itertools.pairwise(weights):
        assert 1.01 < high / low < 1.21


@given(THRESHOLDS)
def test_every_threshold_of_the_largest_has_a_weight_near_each_of_its_multiples(thresholds):
    weights = default_weights(thresholds)
    chosen = thresholds[:MOST_THRESHOLDS]
    for threshold, factor in itertools.product(chosen, AROUND):
        assert min(abs(weight / (factor * threshold) - 1) for weight in weights) < 0.016
    assert weights[0] < 0.7 * chosen[-1]
    assert weights[-1] > 1.1 * thresholds[0]
