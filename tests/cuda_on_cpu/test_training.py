"""Trainings with the emulated CUDA kernels against those with the CPU kernels: as single launches, and replayed.

EMULATED_KERNELS names the library that tests/cuda_on_cpu/build makes.
"""

from __future__ import annotations

import functools
import os
import warnings

import numpy as np
import pytest
import torch
from fake_cuda import FakeCuda
from small import gaussian_rows, recipe

from phasevae.kernels import dispatch, mlp
from phasevae.sweeps.settings import Member
from phasevae.training.native_steps import NativeSteps
from phasevae.training.problem import Problem
from phasevae.training.trainer import Trainer

if "EMULATED_KERNELS" not in os.environ:
    pytest.skip("needs the emulated kernels: .ci/native", allow_module_level=True)

from phasevae.kernels import native

MEMBERS = [Member(sigma2, 1.0, seed) for sigma2 in (0.3, 0.9) for seed in (0, 1)]
STEPS = 100
PLAIN = {"antithetic": False, "balanced_order": False, "moment_matched_noise": False, "rao_blackwell_group": 1}
VARIANTS = {
    "default": {"n_latent": 3, "hidden": (33, 17), "batch": 64, "rao_blackwell_group": 32},
    "plain": {"n_latent": 2, "hidden": (9,), "batch": 20, **PLAIN},
    "one seed": {"n_latent": 4, "hidden": (16, 8), "batch": 64, "rao_blackwell_group": 32},
    "bernoulli": {"n_latent": 2, "hidden": (16, 8), "batch": 32, "likelihood": "bernoulli", "schedule": "scratch"},
}


@pytest.fixture
def on_a_gpu(expected, monkeypatch):
    """The steps are those of a GPU, and its kernels are in the place of the CPU's."""
    monkeypatch.setattr(native, "has_step_kernels", lambda device: True)
    monkeypatch.setattr(NativeSteps, "can_train", lambda *_: False)


def trained(variant: str, use_graph: bool = False) -> dict[str, np.ndarray]:
    """The state after all steps; every warning is an error, so a graph was captured where one was asked for."""
    settings = recipe(**VARIANTS[variant], samples=VARIANTS[variant]["batch"] * float(STEPS))
    x = gaussian_rows().sigmoid().numpy() if variant == "bernoulli" else gaussian_rows()
    members = MEMBERS[::2] if variant == "one seed" else MEMBERS
    trainer = Trainer(Problem.of(x, settings), members, settings, use_graph)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trainer.run()
    assert dispatch.backend("cpu") == "native_cpu"
    return trainer.state()


trained_singly = functools.cache(trained)


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, np.ndarray]]:
    """The states with the CPU kernels. From here on this process has the emulated kernels in their place."""
    states = {variant: trained(variant) for variant in VARIANTS}
    torch.ops.load_library(os.environ["EMULATED_KERNELS"])
    return states


def unequal(state: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> list[str]:
    """The arrays whose bits differ. The values of the ELBO are sums of another order, but the gradients have equal
    bits, and with them the parameters."""
    assert np.allclose(state["history"], expected["history"], rtol=1e-5, atol=1e-6, equal_nan=True)
    names = ("parameters", "exp_avg", "exp_avg_sq")
    return [name for name in names if not np.array_equal(state[name], expected[name])]


def distance(state: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Of the parameters, relative to their norm."""
    return np.linalg.norm(state["parameters"] - expected["parameters"]) / np.linalg.norm(expected["parameters"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_single_launches_give_the_parameters_of_the_cpu_kernels_bit_for_bit(variant, expected, on_a_gpu):
    assert unequal(trained_singly(variant), expected[variant]) == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_replayed_steps_are_the_single_launches(variant, on_a_gpu, monkeypatch):
    single = trained_singly(variant)
    cuda = FakeCuda(monkeypatch)
    assert unequal(trained(variant, True), single) == []
    assert cuda.replays == STEPS


def test_tf32_changes_a_training_by_roundings(expected, on_a_gpu, monkeypatch):
    monkeypatch.setattr(mlp, "uses_tf32", lambda device: True)
    assert 1e-6 < distance(trained("plain"), expected["plain"]) < 1e-2


def test_a_step_that_reads_a_number_is_not_captured(on_a_gpu, monkeypatch):
    FakeCuda(monkeypatch)
    compute = Trainer._compute
    monkeypatch.setattr(Trainer, "_compute", lambda self: (compute(self), float(self._window[0, 0])))
    with pytest.raises(UserWarning, match="reads a number on the host"):
        trained("one seed", True)


def test_a_step_that_python_numbers_is_seen(expected, on_a_gpu, monkeypatch):
    """What Python knows of a step is frozen when it is captured."""
    FakeCuda(monkeypatch)
    original, calls = native.sample_posterior, []

    def numbered(encoded, keys, step, *others):
        calls.append(None)
        return original(encoded, keys, step.new_full((), len(calls) - 1), *others)

    monkeypatch.setattr(native, "sample_posterior", numbered)
    assert distance(trained("one seed", True), expected["one seed"]) > 0
