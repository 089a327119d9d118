from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phasevae.measurement import row_means
from phasevae.measurement.row_means import RowMeans


@given(
    n=st.integers(1, 60), page=st.integers(1, 25), block=st.integers(1, 30), offset=st.sampled_from([0.0, 1e6, -1e9])
)
def test_means_and_standard_errors_are_those_of_all_rows(n, page, block, offset):
    values = offset + np.random.default_rng(0).normal(size=(2, n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_means, "_PAGE", page)
        means = RowMeans(("first", "second"), n)
        for start in range(0, n, block):
            first, second = (torch.from_numpy(row[start : start + block]) for row in values)
            means.add(second=second, first=first)
    for name, row in zip(("first", "second"), values, strict=True):
        assert means.mean(name) == pytest.approx(row.mean(), rel=1e-12)
        if n > 1:
            expected = row.std(ddof=1) / math.sqrt(n)
            assert means.standard_error(name) == pytest.approx(expected, rel=1e-6 if offset else 1e-9)
        else:
            assert math.isnan(means.standard_error(name))
