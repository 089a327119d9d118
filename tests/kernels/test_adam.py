"""Adam by each backend of this build."""

from __future__ import annotations

import pytest
import torch

from phasevae.kernels import backends, dispatch
from phasevae.kernels.adam import Adam

HAS_GPU = torch.cuda.is_available()
BACKENDS = [("torch", "cpu")] + [("torch", "cuda")] * HAS_GPU
BACKENDS += [
    (f"native_{device}", device)
    for device in ["cpu"] + ["cuda"] * HAS_GPU
    if backends.states()[f"native_{device}"].available
]


def numbers(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("name", "device"), BACKENDS)
def test_moments_without_a_gradient_end_at_zero_and_the_parameters_are_those_of_torchs_adam(name, device, monkeypatch):
    """They would become denormal numbers, which are slow."""
    monkeypatch.setenv("PHASEVAE_BACKEND", name)
    monkeypatch.setattr(dispatch, "_chosen", {})
    parameters, gradient = numbers(0, 2, 64).to(device), numbers(1, 2, 64).to(device)
    leaf = parameters.clone().requires_grad_()
    expected, adam = torch.optim.Adam([leaf], lr=1e-2), Adam(parameters)
    rate = torch.tensor(1e-2, dtype=torch.float64, device=device)
    smallest = torch.finfo(torch.float32).smallest_normal
    adam.moments[1][1, :8] = 1.2e-36  # what a second moment is after some 70,000 steps
    gradient[1, :8] = 0
    for step in range(1000):
        leaf.grad = gradient if step == 0 else torch.zeros_like(gradient)
        leaf.grad[0] = gradient[0]
        expected.step()
        adam.step(parameters, leaf.grad, rate, torch.tensor(step, device=device))
        assert not any(((moment != 0) & (moment.abs() < smallest)).any() for moment in adam.moments)
    of_torch = expected.state[leaf]["exp_avg"]
    assert ((of_torch[1] != 0) & (of_torch[1].abs() < smallest)).any()
    assert (adam.moments[0][1] == 0).all() and (adam.moments[0][0] != 0).all()
    assert (adam.moments[1][1, :8] == 0).all() and (adam.moments[1][1, 8:] != 0).all()
    assert torch.allclose(parameters, leaf.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "device"), BACKENDS)
def test_all_backends_have_the_same_least_moments(name, device, monkeypatch):
    monkeypatch.setenv("PHASEVAE_BACKEND", name)
    monkeypatch.setattr(dispatch, "_chosen", {})
    adam = Adam(torch.zeros(1, 16, device=device))
    above, below = 1 + 1e-3, 1 - 1e-3
    for moment, least, share in zip(adam.moments, (1e-30, 1e-36), (0.9, 0.999), strict=True):
        moment[0, 0], moment[0, 1] = above * least / share, below * least / share
    zeros, rate = torch.zeros(1, 16, device=device), torch.tensor(1e-3, dtype=torch.float64, device=device)
    adam.step(zeros.clone(), zeros, rate, torch.tensor(0, device=device))
    for moment in adam.moments:
        assert moment[0, 0] != 0 and moment[0, 1] == 0
