from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from phasevae.artifacts.files import canonical_json
from phasevae.config import validate
from phasevae.errors import InputError
from phasevae.sweeps.digest import training_code_hash
from phasevae.sweeps.plan import Point, make_plan, plan_text, read_plan, write_plan
from phasevae.sweeps.points import Source, make_tasks
from phasevae.sweeps.settings import Member, Settings, plan_keys, training_keys


def settings(**changes):
    given = {"kind": "synthetic", "n_latent": 2, "sigma2": [0.5, 0.9]} | changes
    return validate({"datasets": {"toy": given}}, "test")["datasets"]["toy"]


def test_points_are_the_sorted_product_of_grid_and_seeds():
    points = make_plan(settings(sigma2=[0.9, 0.10], seeds=[1, 0]))
    assert [(point.sigma2, point.seed) for point in points] == [(0.1, 0), (0.1, 1), (0.9, 0), (0.9, 1)]
    assert points[0].path == "points/sigma2=0.1,seed=0"
    assert {(point.ratio, point.beta) for point in points} == {(None, 1.0)}


def test_a_relative_grid_and_a_beta_sweep_have_their_own_paths():
    (point,) = make_plan(settings(sigma2=None, sigma2_ratio=[1]))
    assert (point.sigma2, point.ratio, point.path) == (None, 1.0, "points/ratio=1.0,seed=0")
    points = make_plan(settings(sigma2=[1], beta=[2, 0.5]))
    assert [point.path for point in points] == [f"points/beta={beta},sigma2=1.0,seed=0" for beta in (0.5, 2.0)]


@pytest.mark.parametrize(("key", "column"), [("beta", "beta"), ("beta_ratio", "beta_ratio")])
def test_a_sweep_of_another_likelihood_is_over_beta_at_a_decoder_variance_of_one(key, column, tmp_path):
    points = make_plan(settings(sigma2=None, likelihood="poisson", **{key: [2, 0.5]}, seeds=[1]), {1.0: [0.75]})
    assert [getattr(point, column) for point in points] == [0.5, 0.75, 2.0]
    assert {(point.sigma2, point.ratio) for point in points} == {(1.0, None)}
    assert [point.path for point in points] == [f"points/{column}={value},seed=1" for value in (0.5, 0.75, 2.0)]
    write_plan(tmp_path / "plan.csv", points)
    assert read_plan(tmp_path / "plan.csv") == points
    known = Source("data", 4.0, ("poisson", {}))
    chosen = Settings.from_keys(training_keys(settings(sigma2=None, likelihood="poisson", beta=1.0)))
    members = [task.member for task in make_tasks(points, tmp_path, chosen, known)]
    unit = 4.0 if key == "beta_ratio" else 1.0
    assert members == [Member(1.0, unit * value, 1) for value in (0.5, 0.75, 2.0)]
    if key == "beta_ratio":
        with pytest.raises(
            InputError, match="the spectrum is that of the likelihood gaussian, must be that of poisson"
        ):
            make_tasks(points, tmp_path, chosen, Source("data", 4.0))


def test_the_content_of_an_own_likelihood_counts_in_the_digest(tmp_path):
    module = tmp_path / "my.py"
    keys = training_keys(settings(sigma2=None, likelihood=f"module:{module}:loss", beta=1.0))
    own, hashes = Settings.from_keys(keys), set()
    for text in ("a = 1", "a = 2"):
        module.write_text(text)
        hashes.add(training_code_hash(own))
    assert len(hashes | {training_code_hash()}) == 3
    module.unlink()
    with pytest.raises(InputError, match=r"my\.py: no such file"):
        training_code_hash(own)


@hypothesis_settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=20, unique=True), st.integers(1, 9), st.randoms())
def test_a_new_point_moves_no_other(grid, n_buckets, shuffler: random.Random):
    """The plan does not depend on the order of the grid, and adding a value only adds its point."""
    before = make_plan(settings(sigma2=grid[1:], n_buckets=n_buckets))
    shuffler.shuffle(shuffled := list(grid))
    after = make_plan(settings(sigma2=shuffled, n_buckets=n_buckets))
    assert [point for point in after if point.sigma2 != grid[0]] == before
    assert all(0 <= point.bucket < n_buckets for point in after)


def test_buckets_are_the_same_on_every_machine():
    points = make_plan(settings(sigma2=[0.5, 0.7, 0.9, 1.1], n_buckets=8))
    assert [point.bucket for point in points] == [4, 4, 5, 7]


def test_many_points_fill_all_buckets():
    points = make_plan(settings(sigma2=[i / 100 for i in range(1, 401)], n_buckets=8))
    sizes = [sum(point.bucket == bucket for point in points) for bucket in range(8)]
    assert min(sizes) > 25


def test_a_value_given_twice_is_refused():
    with pytest.raises(InputError, match=r"^sigma2: 0\.1 is given twice"):
        make_plan({"sigma2": [0.1, 0.10], "beta": 1.0, "seeds": [0], "n_buckets": 2})


@hypothesis_settings(deadline=None)
@given(st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=5, unique=True), st.booleans())
def test_written_plans_are_read_back_exactly(tmp_path_factory, grid, relative):
    path = tmp_path_factory.mktemp("plan") / "plan.csv"
    points = make_plan(settings(**({"sigma2": None, "sigma2_ratio": grid} if relative else {"sigma2": grid})))
    write_plan(path, points)
    assert read_plan(path) == points
    assert path.read_text() == plan_text(points)


def test_the_columns_of_a_plan(tmp_path):
    text = plan_text([Point(0.5, None, 1.0, 3, 2, "points/sigma2=0.5,seed=3")])
    assert text == 'sigma2,beta,seed,bucket,path\n0.5,1.0,3,2,"points/sigma2=0.5,seed=3"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("beta,seed,bucket,path\n1,0,0,points/a\n", "column 'sigma2' or 'ratio' is missing"),
        ("sigma2,beta,seed,path\n1,1,0,points/a\n", "column 'bucket' is missing"),
        ("sigma2,beta,seed,bucket,path\n", "has no rows"),
        (
            "sigma2,beta,seed,bucket,path\n1,1,0,0,points/a\n-1,1,0,0,points/b\n",
            "line 3, column 'sigma2': -1, must be a positive",
        ),
        ("sigma2,beta,seed,bucket,path\n1e-110,1,0,0,points/a\n", "1e-110, must be a positive number from 1e-30 to"),
        ("sigma2,beta,seed,bucket,path\nx,1,0,0,points/a\n", "line 2, column 'sigma2': 'x', must be a positive"),
        ("sigma2,beta,seed,bucket,path\n1,1,0.5,0,points/a\n", "line 2, column 'seed': 0.5, must be a whole number"),
        ("sigma2,beta,seed,bucket,path\n1,,0,0,points/a\n", "line 2, column 'beta': is empty, must be a positive"),
        (
            "sigma2,beta,seed,bucket,path\n1,1,0,0,/etc\n",
            "column 'path': '/etc', must be a folder under points/",
        ),
        ("sigma2,beta,seed,bucket,path\n1,1,0,0,points/../..\n", "must be a folder under points/"),
        ("sigma2,beta,seed,bucket,path\n1,1,0,0,points/a\n2,1,0,0,points/a\n", "line 3: path=points/a appears twice"),
    ],
)
def test_a_damaged_plan_is_refused(tmp_path, text, expected):
    path = tmp_path / "plan.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_plan(path)
    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value)


def test_keys_of_a_stage_ignore_the_other_stages():
    one, other = settings(sigma2=[0.5], n_samples=10), settings(sigma2=[0.7], n_samples=20)
    assert training_keys(one) == training_keys(other)
    assert plan_keys(settings(n_samples=10)) == plan_keys(settings(n_samples=20))
    assert canonical_json(plan_keys(settings(sigma2=[2, 1]))) == canonical_json(plan_keys(settings(sigma2=[1.0, 2.0])))
    assert make_plan(plan_keys(one)) == make_plan(one)


def test_a_plan_may_replace_one_that_was_edited(tmp_path):
    points = make_plan(settings(sigma2=[0.5, 0.7]))
    write_plan(tmp_path / "plan.csv", points, {"stage": "plan"})
    (tmp_path / "plan.csv").write_text("edited")
    write_plan(tmp_path / "plan.csv", points[:1], {"stage": "plan"})
    assert read_plan(tmp_path / "plan.csv") == points[:1]
