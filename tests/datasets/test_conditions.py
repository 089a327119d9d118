"""Conditions: their coding, the errors about them, and data sets that have one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from phasevae.datasets.conditions import Coding, make_condition, offsets
from phasevae.datasets.registry import build_dataset
from phasevae.datasets.store import load_dataset, save_dataset, saved_digest
from phasevae.errors import InputError

N = 12
X = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)
TEXTS = ["b", "a", "b", "c"] * 3


@pytest.fixture
def table(tmp_path):
    frame = pd.DataFrame(X, columns=["x", "y", "z"]).assign(batch=TEXTS, dose=np.arange(N) / 4)
    paths = {}
    for ending in ("csv", "parquet"):
        paths[ending] = tmp_path / f"t.{ending}"
    frame.to_csv(paths["csv"], index=False)
    frame.to_parquet(paths["parquet"])
    return paths


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (TEXTS, ("a", "b", "c")),
        ([3, 1, 3, 1] * 3, (1, 3)),
        ([True, False, False] * 4, (False, True)),
        (np.array(TEXTS, dtype=object), ("a", "b", "c")),
    ],
)
def test_classes_become_columns_of_0_and_1(values, classes):
    condition = make_condition(values, N, "c")
    assert condition.coding == Coding("classes", classes)
    expected = np.array([[value == each for each in classes] for value in values], dtype=np.float32)
    np.testing.assert_array_equal(condition.columns(), expected)
    np.testing.assert_allclose(condition.shares, expected.mean(0))
    assert Coding.from_json(condition.coding.to_json()) == condition.coding


def test_numbers_are_standardised():
    values = np.random.default_rng(1).uniform(10, 20, (N, 2))
    condition = make_condition(values, N, "c")
    np.testing.assert_allclose(condition.columns(), (values - values.mean(0)) / values.std(0), rtol=1e-5)
    again = Coding.from_json(condition.coding.to_json()).stored(values)
    np.testing.assert_array_equal(again, condition.stored)


def test_whole_numbers_can_be_numbers():
    assert make_condition(range(N), N, "age", "numbers").coding.kind == "numbers"


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([1, 2], None, f"2 values, must be {N}"),
        (["a"] * N, None, "'a' in all rows, must have two classes"),
        ([*["a"] * (N - 1), "b"], None, "class 'b' has a single row"),
        ([*["a"] * (N - 1), None], None, f"missing in row {N - 1}"),
        ([*["a"] * (N - 1), ""], None, f"missing in row {N - 1}"),
        (pd.Series(["a", None] * (N // 2), dtype="string"), None, "missing in row 1, must be given for each sample"),
        ([*[0.5] * (N - 1), np.nan], None, f"nan in row {N - 1}, must be finite"),
        ([0.5] * N, None, "the same number in all rows, must vary"),
        (np.arange(N) / 3, "classes", "holds fractions"),
        (TEXTS, "numbers", "holds texts such as 'b'"),
        (TEXTS, "sorts", "condition_kind: 'sorts', must be one of"),
        ([[["a"]]] * N, None, "must be one value for each sample"),
    ],
)
def test_bad_values_are_one_line(values, kind, message):
    with pytest.raises(InputError, match=message) as error:
        make_condition(values, N, "c", kind)
    assert "\n" not in str(error.value)


def test_unknown_classes_are_refused():
    coding = make_condition(TEXTS, N, "c").coding
    with pytest.raises(InputError, match="'d' in row 1, must be one of a, b, c"):
        coding.stored(["a", "d"])


@pytest.mark.parametrize("values", [TEXTS, np.random.default_rng(2).standard_normal((N, 2))])
def test_offsets_are_least_squares(values):
    condition = make_condition(values, N, "c")
    centred = X - X.mean(0, dtype=np.float64)
    found = offsets(condition, np.array_split(centred, 3))
    design = np.column_stack([np.ones(N), condition.columns()]).astype(float)
    expected = design @ np.linalg.lstsq(design, centred, rcond=None)[0]
    np.testing.assert_allclose(condition.columns() @ found, expected, atol=1e-6)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(("column", "kind"), [("batch", "classes"), ("dose", "numbers")])
def test_a_column_of_a_table(table, ending, column, kind):
    others = ["batch"] if column == "dose" else []
    made = build_dataset("array", path=table[ending], condition=f"column:{column}", drop=others or None)
    assert made.condition.coding.kind == kind
    assert f"column {column} (the condition)" in str(made.reading)
    assert made.x.shape[1] == 5 - 1 - len(others)


def test_condition_from_a_file_and_of_the_data(tmp_path):
    path = tmp_path / "labels.npy"
    np.save(path, np.arange(1797) % 3)
    assert build_dataset("digits", condition=str(path)).condition.coding.classes == (0, 1, 2)
    assert build_dataset("digits", condition="label").condition.coding.classes == tuple(range(10))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("kind", "condition", "message"),
    [
        ("array", "column:bach", "'bach', did you mean 'batch'"),
        ("digits", "column:batch", "must be of kind array"),
        ("digits", "missing.npy", "missing.npy: no such file"),
        ("digits", "labels.csv", "must be a .npy file, column:NAME"),
        ("synthetic", "label", "these data have no labels"),
    ],
)
def test_bad_conditions_are_one_line(kind, condition, message, table):
    options = {"path": table["csv"]} if kind == "array" else {"n_samples": 10} if kind == "synthetic" else {}
    with pytest.raises(InputError, match=message):
        build_dataset(kind, condition=condition, **options)


def test_saved_with_the_data_and_in_their_digest(tmp_path):
    options = {"n_samples": 200, "condition_eigenvalues": [[1.0, 0.2], [0.5, 0.1]]}
    built = build_dataset("conditional", **options)
    saved = save_dataset(built, tmp_path / "a")
    loaded = load_dataset(tmp_path / "a", verify=True)
    np.testing.assert_array_equal(loaded.condition.stored, built.condition.stored)
    assert built.digest == saved.digest == loaded.digest == saved_digest(tmp_path / "a")
    assert loaded.digest != loaded.sha256
    np.save(tmp_path / "a" / "condition.npy", 1 - built.condition.stored)
    with pytest.raises(InputError, match=r"condition.npy: sha256 .*, must be .* as data.json says"):
        load_dataset(tmp_path / "a")
    save_dataset(build_dataset("synthetic", n_samples=20), tmp_path / "a")
    assert not (tmp_path / "a" / "condition.npy").exists()


def test_kind_conditional_has_the_covariances_of_its_classes():
    eigenvalues = [[1.0, 0.3, 0.1], [0.4, 0.2, 0.2]]
    made = build_dataset("conditional", condition_eigenvalues=eigenvalues, weights=[1, 3], n_samples=40_000)
    np.testing.assert_allclose(made.condition.shares, [0.25, 0.75], atol=0.01)
    for number, expected in enumerate(eigenvalues):
        rows = made.x[made.condition.stored == number]
        np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(rows.T))[::-1], expected, rtol=0.06)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition_eigenvalues": [[1.0]]}, "condition_eigenvalues: .* must be two or more lists of one length"),
        ({"condition_eigenvalues": [[1.0], [1.0, 2.0]]}, "must be two or more lists of one length"),
        ({"weights": [1, 2, 3]}, "weights: 3 numbers, must be 2"),
        ({"spread": -1}, "spread: -1, must be"),
    ],
)
def test_bad_options_of_kind_conditional(options, message):
    with pytest.raises(InputError, match=message):
        build_dataset("conditional", n_samples=10, **options)
