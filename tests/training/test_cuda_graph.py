"""The step that a CUDA graph captures, on the CPU: everything but the capture itself."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
import pytest
import torch
from fake_cuda import StandIn
from hypothesis import given, settings
from hypothesis import strategies as st
from small import gaussian_rows, recipe

from phasevae.sweeps.settings import Member
from phasevae.training import cuda_graph
from phasevae.training.trainer import Trainer

RECIPE = recipe(hidden=(8,), samples=16 * 300.0, batch=16)
MEMBERS = [Member(sigma2, 1.0, seed) for sigma2 in (0.4, 0.8) for seed in (0, 1)]


def rows() -> torch.Tensor:
    return gaussian_rows(100)


@pytest.fixture(scope="module")
def plain() -> dict[str, np.ndarray]:
    trainer = Trainer(rows(), MEMBERS, RECIPE)
    assert trainer.run()
    return trainer.state()


def assert_equal(arrays: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert arrays.keys() == expected.keys()
    assert [name for name in arrays if not np.array_equal(arrays[name], expected[name])] == []


def test_training_goes_on_with_one_warning_if_nothing_can_be_captured(plain):
    trainer = Trainer(rows(), MEMBERS, RECIPE, use_graph=True)
    if torch.cuda.is_available():
        pytest.skip("a step on the CPU fails to be captured only where there is no CUDA")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert trainer.run()
    # PyTorch may add warnings of its own, on some machines
    (ours,) = [str(one.message) for one in caught if "CUDA graph" in str(one.message)]
    assert ours.startswith("training without a CUDA graph, slower: the capture failed")
    assert "\n" not in ours
    assert_equal(trainer.state(), plain)


class FakeCuda(StandIn):
    """A capture computes, or `fails` after that, and a replay computes."""

    def __init__(self, monkeypatch, fails: bool):
        super().__init__(monkeypatch)
        self.fails = fails
        self.compute = lambda: None

    @contextlib.contextmanager
    def graph(self, captured, stream):
        yield
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors ...")

    def replay(self):
        self.replays += 1
        self.compute()


@pytest.mark.parametrize("interrupted_at", [0, 1, 130, 299])
def test_a_capture_leaves_no_trace_in_what_is_trained(interrupted_at, plain, monkeypatch):
    """Its warm-up steps, and here the captured one too, change parameters, moments, counters and history."""
    first = Trainer(rows(), MEMBERS, RECIPE)
    assert not first.run(until=interrupted_at)
    cuda = FakeCuda(monkeypatch, fails=False)
    captured = cuda_graph._capture

    def capture(compute, restore, device):
        cuda.compute = compute
        replay = captured(compute, restore, device)
        restore()
        return replay

    monkeypatch.setattr(cuda_graph, "_capture", capture)
    second = Trainer(rows(), MEMBERS, RECIPE, use_graph=True)
    second.restore(first.state())
    assert second.run()
    assert cuda.replays == 300 - interrupted_at
    assert_equal(second.state(), plain)


def test_a_failing_capture_gives_one_warning_and_changes_no_number(plain, monkeypatch):
    cuda = FakeCuda(monkeypatch, fails=True)
    trainer = Trainer(rows(), MEMBERS, RECIPE, use_graph=True)
    with pytest.warns(UserWarning) as caught:
        assert not trainer.run(until=100)
        assert trainer.run()
    assert [str(warning.message) for warning in caught] == [
        "training without a CUDA graph, slower: the capture failed (operation not permitted when stream is capturing)"
    ]
    assert cuda.replays == 0
    assert_equal(trainer.state(), plain)


def test_without_a_gpu_no_capture_is_tried():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(rows(), MEMBERS, RECIPE).run(should_stop=lambda: True)
        trainer = Trainer(rows(), MEMBERS, RECIPE)
        trainer.run(until=2)


def numbered(first: int, count: int) -> cuda_graph.Inputs:
    """Inputs that contain the number of their step."""
    steps = torch.arange(first, first + count)
    return cuda_graph.Inputs(steps[:, None, None].expand(-1, 2, 3), steps.double(), -steps.double())


@settings(max_examples=30)
@given(n_steps=st.integers(1, 3 * cuda_graph.BLOCK), jumps=st.lists(st.floats(0, 0.999), max_size=3))
def test_each_step_gets_its_own_inputs(n_steps, jumps):
    """Across the borders of blocks, and after a jump as that to a checkpoint's step."""
    inputs = cuda_graph.StepInputs(numbered, n_steps, (2, 3), torch.device("cpu"))
    places = [tensor.data_ptr() for tensor in inputs.counters]
    for begin in (0, *(int(jump * n_steps) for jump in jumps)):
        for step in range(begin, n_steps):
            inputs.prepare(step)
            rows, factor, rate = inputs.current()
            assert (rows == step).all()
            assert rows.shape == (2, 3)
            assert (int(inputs.step), float(factor), float(rate)) == (step, step, -step)
            inputs.advance()
    assert [tensor.data_ptr() for tensor in inputs.counters] == places
