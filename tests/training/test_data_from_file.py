"""Data that stay in their file give the numbers of data in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from job_runs import files_of, job_in, relative
from small import recipe

from phasevae.datasets.conditions import Condition, make_condition
from phasevae.datasets.row_file import RowFile
from phasevae.errors import InputError
from phasevae.file_rows import FileRows, load_rows
from phasevae.rows import Rows
from phasevae.sweeps.settings import Member
from phasevae.training import chapters
from phasevae.training.hysteresis import hysteresis_sweep
from phasevae.training.job import run_job
from phasevae.training.problem import Problem
from phasevae.training.step_rows import rows_of_steps
from phasevae.training.trainer import Trainer

MEMBERS = [Member(sigma2, 1.0, seed) for sigma2 in (0.4, 0.8) for seed in (0, 1)]
SMALL = 10_000  # bytes: windows of a few steps


@pytest.fixture
def x(tmp_path) -> np.memmap:
    drawn = np.random.default_rng(0).normal(3.0, np.sqrt([1.0, 0.7, 0.3, 0.2]), size=(800, 4))
    np.save(tmp_path / "x.npy", drawn.astype(np.float32))
    return np.load(tmp_path / "x.npy", mmap_mode="r")


def test_data_stay_in_their_file_only_if_they_do_not_fit(x):
    assert isinstance(load_rows(x, memory=x.nbytes), Rows)
    assert isinstance(load_rows(x, memory=x.nbytes - 1), FileRows)
    assert isinstance(load_rows(x), Rows)
    assert isinstance(load_rows(np.array(x), memory=1), Rows)


def test_rows_of_a_file_are_those_in_memory(x):
    numbers = torch.from_numpy(np.random.default_rng(1).integers(0, len(x), (2, 50)))
    held, read = Rows.of(x), load_rows(x, memory=SMALL)
    assert torch.equal(held.seen(numbers[0]), read.seen(numbers[0]))
    for one, other in zip(held.gather(numbers), read.gather(numbers), strict=True):
        assert one is other is None or torch.equal(one, other)
    for (first, one), (start, other) in zip(held.blocks(700), read.blocks(700), strict=True):
        assert first == start and torch.equal(one.x, other.x)
    np.testing.assert_array_equal(held.mean, read.mean)
    assert held.mean == pytest.approx(x.mean(0, dtype=np.float64), rel=1e-6)


def assert_same_bytes(folder, x: np.memmap, changes: dict[str, object], condition: Condition | None = None) -> None:
    files = []
    for name, memory in (("memory", None), ("file", SMALL)):
        settings = recipe(hidden=(8,), samples=1600.0, **changes)
        job = job_in(folder / name, x=x, sigma2=[0.5], settings=settings)
        run_job(replace(job, data_memory=memory, condition=condition))
        files.append(relative(job, files_of(job)))
    assert files[0] == files[1]


def counts(folder) -> np.memmap:
    drawn = np.random.default_rng(0).poisson(3.0, size=(800, 4))
    np.save(folder / "counts.npy", drawn.astype(np.float32))
    return np.load(folder / "counts.npy", mmap_mode="r")


@pytest.mark.parametrize("sees", [True, False])
def test_conditions_have_the_bytes_of_memory_too(tmp_path, x, sees):
    condition = make_condition(np.arange(len(x)) % 3, len(x), "")
    assert_same_bytes(tmp_path, x, {"encoder_sees_condition": sees, "holdout": 0.1}, condition)


def test_likelihoods_of_counts_have_the_bytes_of_memory_too(tmp_path):
    assert_same_bytes(tmp_path, counts(tmp_path), {"likelihood": "negative-binomial"})


@pytest.mark.parametrize("changes", [{}, {"holdout": 0.2, "balanced_order": False}], ids=str)
@pytest.mark.parametrize("rows_of_a_chapter", [None, 128])
def test_points_from_a_file_have_the_bytes_of_points_from_memory(tmp_path, x, monkeypatch, changes, rows_of_a_chapter):
    if rows_of_a_chapter:
        monkeypatch.setattr(chapters, "MOST_ROWS", 512)
        monkeypatch.setattr(chapters, "CHAPTER_ROWS", rows_of_a_chapter)
    assert_same_bytes(tmp_path, x, changes)


def test_a_training_resumes_within_a_window(x):
    settings = recipe(hidden=(8,))
    whole, first, second = (Trainer(Problem.of(x, settings, data_memory=SMALL), MEMBERS, settings) for _ in range(3))
    whole.run()
    first.run(until=87)
    second.restore(first.state())
    second.run()
    for name, array in whole.state().items():
        np.testing.assert_array_equal(array, second.state()[name], err_msg=name)


def test_an_upward_sweep_from_a_file_is_that_from_memory(x):
    settings = recipe(hidden=(8,), samples=1600.0)
    from_memory, from_file = (hysteresis_sweep(x, settings, [0.3, 0.6], [0], data_memory=m) for m in (None, SMALL))
    assert from_memory.equals(from_file)


def test_memory_that_does_not_hold_two_steps_is_named(x):
    settings = recipe(hidden=(8,))
    with pytest.raises(InputError, match=r"data_memory_mb: 0, must be at least 1, twice the rows of one step"):
        Trainer(Problem.of(x, settings, data_memory=1000), MEMBERS, settings)


def test_an_error_while_reading_ahead_ends_the_training(tmp_path, x):
    settings = recipe(hidden=(8,))
    trainer = Trainer(Problem.of(x, settings, data_memory=SMALL), MEMBERS, settings)
    path = tmp_path / "x.npy"
    with path.open("r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(InputError, match=r"x\.npy: ends before row"):
        trainer.run()


def test_conditions_and_other_inputs_come_with_their_rows(x):
    condition = torch.from_numpy(np.random.default_rng(2).normal(size=(len(x), 3)).astype(np.float32))

    def inputs(rows: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return torch.cat((2 * rows, condition), -1)

    mean = np.zeros(4, dtype=np.float32)
    raw = torch.from_numpy(np.array(x))
    held = Rows(raw, mean, inputs(raw, condition), condition)
    read = FileRows(RowFile.of(x), "cpu", SMALL, mean, inputs, condition)
    assert (read.n_inputs, read.n_condition) == (held.n_inputs, held.n_condition) == (7, 3)
    numbers = torch.from_numpy(np.random.default_rng(1).integers(0, len(x), (12, 2, 50)))
    windows = rows_of_steps(read, lambda first, count: numbers[first : first + count], 12, (2, 50))
    assert windows.block < 12
    for first in range(0, 12, windows.block):
        local = windows.load(first, min(windows.block, 12 - first))
        for step, places in enumerate(local, first):
            for one, other in zip(held.gather(numbers[step]), windows.gather(places), strict=True):
                assert torch.equal(one, other)
    assert torch.equal(held.seen(numbers[0, 0]), read.seen(numbers[0, 0]))
    for (_, one), (_, other) in zip(held.blocks(300), read.blocks(300), strict=True):
        assert all(map(torch.equal, one, other))
