"""On a GPU the host must not wait for the device between two records. Here the operations that would make it wait are
errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captured import Recorder
from small import gaussian_rows, recipe

from phasevae.datasets.conditions import make_condition
from phasevae.kernels import noise
from phasevae.sweeps.settings import Member
from phasevae.training.problem import Problem
from phasevae.training.row_order import balanced_groups, principal_axes, shuffled_groups
from phasevae.training.trainer import Trainer

PLAIN = {"antithetic": False, "balanced_order": False, "moment_matched_noise": False, "rao_blackwell_group": 1}
MEMBERS = [Member(sigma2, 1.0, seed) for sigma2 in (0.3, 0.9) for seed in (0, 1)]


@pytest.mark.parametrize(
    ("changes", "has_condition"),
    [({}, False), (PLAIN, False), ({"batch": 64}, True), ({"likelihood": "bernoulli", "schedule": "scratch"}, False)],
)
def test_a_step_makes_nothing_wait(changes, has_condition):
    settings = recipe(**changes)
    x = gaussian_rows() if "likelihood" not in changes else gaussian_rows().sigmoid().numpy()
    condition = make_condition(np.arange(len(x)) % 3, len(x), "classes") if has_condition else None
    problem = Problem.of(x, settings, condition=condition)
    trainer = Trainer(problem, MEMBERS, settings)
    trainer._inputs.prepare(0)
    with Recorder() as recorder:
        trainer._compute()
    assert len(recorder.calls) > 50


@pytest.mark.parametrize("n", [1, 63, 100, 517])
def test_the_order_of_an_epoch_is_drawn_without_waiting(n):
    x, rows = gaussian_rows(n), torch.arange(n)
    grouped = balanced_groups(x.__getitem__, rows, principal_axes(x.__getitem__, rows, 3))
    streams, epoch = torch.tensor([noise.key("order", seed) for seed in (0, 1)]), torch.tensor(2)
    with Recorder():
        drawn = shuffled_groups(grouped, n, streams, epoch)
    assert drawn.shape == (2, n)
    assert (drawn.sort(1).values == rows).all()


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x[x > 0],
        lambda x: float(x[0]),
        lambda x: x.nonzero(),
        lambda x: torch.tensor(3.0) + x,
        torch.Tensor.tolist,
    ],
)
def test_operations_that_wait_are_seen(wait):
    with Recorder(), pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        wait(gaussian_rows(8)[:, 0])
