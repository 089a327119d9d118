"""Components that a few samples carry, by data whose moments are known exactly."""

import numpy as np
import pytest

from phasevae.errors import InputError
from phasevae.prediction.few_rows import few_rows
from phasevae.prediction.predict import predict
from phasevae.prediction.text import summary, threshold_rows


def rows_with(k: int, n: int = 400):
    """k of n rows have +-3 along the first feature and the others 0 there; the second feature is +-1 in all rows."""
    x = np.zeros((n, 2))
    x[:k, 0] = np.where(np.arange(k) % 2, 3.0, -3.0) * (n / 4 / k) ** 0.5
    x[:, 1] = np.where(np.arange(n) // 2 % 2, 1.0, -1.0)
    return x


@pytest.mark.parametrize(("k", "warned"), [(2, True), (4, True), (6, False), (40, False)])
def test_the_samples_that_carry_a_component_are_counted(k, warned):
    prediction = predict(rows_with(k), 2, sigma2=0.1)
    few = few_rows(prediction)
    assert (few is not None) == warned == ("outlier" in {warning.code for warning in prediction.warnings})
    if warned:
        assert few.component == 1 and few.rows == pytest.approx(k)
        carried = f"latent 1 carries about {k} of the 400 samples alone"
        assert f"KL not known, as {carried}" in prediction.headline
        numbers = dict(summary(prediction))
        assert numbers["KL"] == f"not known: {carried}" and "your log will show" not in numbers
        assert threshold_rows(prediction)[0][-1] == "not known"
        record = prediction.to_json()
        assert record["kl"] is None and set(record["log"].values()) == {None} and record["collapsed_log"]["kl"] == 0
        assert record["kl_per_dim"] == [None, prediction.kl_per_dim[1]]
        with pytest.raises(InputError, match=f"target_kl: 0.5 nats, must be left out.* latent 1 .* about {k} of the "):
            prediction.kl_weight_for(0.5)
        assert "rough-kl" not in {warning.code for warning in prediction.warnings}


def test_the_component_of_a_latent_that_is_dead_does_not_count():
    x = rows_with(2)
    x[:, 1] *= 10
    prediction = predict(x, 2, sigma2=50.0)
    assert few_rows(prediction) is None
    assert prediction.to_json()["kl"] == prediction.kl
    assert prediction.at(prediction.kl_weight_for(0.1)).kl == pytest.approx(0.1)
    assert few_rows(predict(x, 2, sigma2=0.1)).component == 2


def test_of_classes_kl_is_not_known_if_it_is_not_of_one():
    x = np.concatenate([rows_with(2), rows_with(40)])
    prediction = predict(x, 2, sigma2=0.1, condition=np.repeat([0, 1], 400))
    record = prediction.to_json()
    assert "KL not known, as a few samples carry a latent." in prediction.headline and record["kl"] is None
    assert [each["kl"] is None for each in record["conditions"]] == [True, False]
    assert str(prediction).count("not known") > 1


@pytest.mark.parametrize("n", [10, 20, 50, 200])
def test_gaussian_data_have_no_outlier(n):
    rng = np.random.default_rng(0)
    assert not any(few_rows(predict(rng.normal(size=(n, 5)), 5, sigma2=0.01)) for _ in range(50))
