"""Predictions for data with a condition: those of the classes by themselves."""

from __future__ import annotations

import numpy as np
import pytest

from phasevae.datasets.registry import build_dataset
from phasevae.datasets.store import save_dataset
from phasevae.errors import InputError
from phasevae.prediction.predict import predict
from phasevae.spectrum.measure import spectrum_of
from phasevae.spectrum.spectrum_files import write_spectrum

RNG = np.random.default_rng(0)
LABELS = np.array(["a", "b"])[RNG.integers(0, 2, 2000)]
X = RNG.standard_normal((2000, 4)) * np.where(LABELS[:, None] == "a", [1.0, 0.2, 0.2, 0.2], [0.2, 0.6, 0.2, 0.2])
X += 3 * (LABELS[:, None] == "a")


@pytest.mark.parametrize("loss", [{"sigma2": 0.2}, {"beta": 0.5}, {"loss": "sse", "kl_weight": 0.3}])
def test_classes_are_predicted_by_themselves(loss):
    found = predict(X, 2, **loss, condition=LABELS)
    assert [each.value for each in found.classes] == ["a", "b"]
    expected = {value: predict(X[value == LABELS], 2, **loss) for value in ("a", "b")}
    for each in found.classes:
        assert each.prediction.kl == pytest.approx(expected[each.value].kl)
        assert each.prediction.critical_kl_weight == pytest.approx(expected[each.value].critical_kl_weight)
    assert found.kl == pytest.approx(sum(each.share * expected[each.value].kl for each in found.classes))
    assert found.critical_variance == max(each.critical_variance for each in expected.values())
    assert found.headline in str(found)


def test_another_weight_is_predicted_without_the_data():
    found, other = predict(X, 2, beta=0.5, condition=LABELS), predict(X, 2, beta=0.2, condition=LABELS)
    assert str(found.at(0.2)) == str(other) and found.at(0.2).kl == other.kl
    assert found.at(0.2).kl > found.kl
    with pytest.raises(InputError, match=r"^kl_weight: -1, must be a positive number$"):
        found.at(-1)
    with pytest.raises(InputError, match=r"^target_kl: 1, must be left out for data with classes"):
        found.kl_weight_for(1)


def test_where_all_classes_are_collapsed_the_headline_says_where_the_strongest_lives():
    found = predict(X, 2, beta=3.0, condition=LABELS)
    weight = found.leading.prediction.critical_kl_weight
    start, _, rest = found.headline.partition(f"{weight:.2f}")
    assert start == "Every class is collapsed: below the KL weight " and rest.endswith(" a latent lives, in class a.")


def test_all_sources_agree(tmp_path):
    data = build_dataset("conditional", n_samples=2000)
    saved = save_dataset(data, tmp_path / "data")
    write_spectrum(tmp_path / "spectrum.json", spectrum_of(saved))
    expected = predict(np.asarray(data.x), 1, sigma2=0.3, condition=data.condition.stored).kl
    for source in (data, tmp_path / "data", tmp_path / "spectrum.json"):
        found = predict(source, 1, sigma2=0.3)
        assert found.kl == pytest.approx(expected)
        assert found.to_json()["conditions"][1]["value"] == 1


def test_numbers_are_regressed_out():
    dose = RNG.standard_normal(2000)
    x = X[:, 1:] + np.outer(dose, [5.0, 0.0, 1.0])
    found = predict(x, 1, sigma2=0.01, condition=dose)
    design = np.column_stack([np.ones(2000), dose])
    left = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
    assert found.critical_variance == pytest.approx(np.linalg.eigvalsh(np.cov(left.T, bias=True))[-1], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma2": 0.2, "condition": LABELS[:7]}, "7 values, must be 2000"),
        ({"loss": "gaussian-nll", "condition": LABELS}, "variance is learned"),
        ({"sigma2": 0.2, "condition": "column:x"}, "these data have no labels"),
        ({"sigma2": 0.2, "condition": LABELS, "condition_kind": "numbers"}, "holds texts such as"),
    ],
)
def test_bad_conditions_are_one_line(options, message):
    with pytest.raises(InputError, match=message):
        predict(X, 1, **options)
