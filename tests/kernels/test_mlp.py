"""Forward and backward passes of kernels.mlp, by PyTorch and by native kernels, against autograd in float64."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from networks import recorded

from phasevae.kernels import backends, dispatch
from phasevae.kernels.mlp import Network

NATIVE = (
    backends.states()["native_cpu"].available and importlib.import_module("phasevae.kernels.native").HAS_NETWORK_KERNELS
)
BACKENDS = [name for name in ("torch", "native_cpu") if backends.states()[name].available]
# The wide ones have four to nine vectors of AVX-512, which are divided into panels in several ways.
WIDTHS = st.lists(st.integers(1, 40) | st.sampled_from([49, 64, 65, 80, 100, 112, 129]), min_size=2, max_size=5)


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    monkeypatch.setenv("PHASEVAE_BACKEND", request.param)
    monkeypatch.setattr(dispatch, "_chosen", {})


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def distance(values: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference relative to the largest number."""
    return float((values.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def margin(network: Network, parameters: torch.Tensor, x: torch.Tensor) -> float:
    """The smallest magnitude of an input of a ReLU."""
    cuts = [Network(network.widths[: k + 2], network.layers[0].offset) for k in range(len(network.layers) - 1)]
    return min((float(recorded(cut, parameters, x).abs().min()) for cut in cuts), default=1.0)


def passes(network: Network, parameters, x, grad_output, grad_for_input, gradients=None):
    """Output, gradients [M, P] and the derivative by the input."""
    gradients = torch.zeros_like(parameters) if gradients is None else gradients
    output, kept = network.forward(parameters, x, keep=True)
    grad_input = network.backward(parameters, x, kept, grad_output, gradients, grad_for_input, with_input=True)
    return output, gradients, grad_input


@given(
    widths=WIDTHS,
    models=st.integers(1, 5),
    rows=st.sampled_from([1, 7, 63, 64, 65, 130, 200]),
    shared=st.booleans(),
    own=st.booleans(),
    offset=st.sampled_from([0, 5]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def check_against_autograd(widths, models, rows, shared, own, offset):
    network = Network(widths, offset)
    parameters = numbers(models, network.end + 3) * 0.5
    x = numbers(1 if shared else models, rows, widths[0], seed=1)
    grad_output, other = (numbers(models, rows, widths[-1], seed=seed) for seed in (2, 3))
    grad_for_input = other if own else None
    before = numbers(models, network.end + 3, seed=4)
    # For an input that is zero except for rounding, chance decides whether a ReLU lets it pass.
    assume(margin(network, parameters.double(), x.double()) > 1e-5)
    gradients = before.clone()
    output, _, grad_input = passes(network, parameters, x, grad_output, grad_for_input, gradients)

    leaf, of_x = parameters.double().requires_grad_(), x.expand(models, -1, -1).double().requires_grad_()
    expected = recorded(network, leaf, of_x)
    (by_parameters,) = torch.autograd.grad(expected, leaf, grad_output.double(), retain_graph=True)
    (by_x,) = torch.autograd.grad(expected, of_x, (other if own else grad_output).double())
    assert distance(output, expected.detach()) < 1e-5
    inside = slice(offset, network.end)
    assert distance(gradients[:, inside], by_parameters[:, inside]) < 1e-4
    assert distance(grad_input, by_x) < 1e-4
    assert torch.equal(gradients[:, :offset], before[:, :offset])
    assert torch.equal(gradients[:, network.end :], before[:, network.end :])
    assert torch.equal(network.forward(parameters, x)[0], output)


@pytest.mark.usefixtures("backend")
def test_passes_agree_with_autograd():
    check_against_autograd()


@pytest.mark.usefixtures("backend")
def test_the_derivative_by_the_input_is_optional():
    network, x = Network([3, 4, 2], 0), numbers(2, 5, 3)
    parameters, gradients = numbers(2, network.end), torch.empty(2, network.end)
    _, kept = network.forward(parameters, x, keep=True)
    assert network.backward(parameters, x, kept, numbers(2, 5, 2), gradients) is None


@pytest.mark.usefixtures("backend")
def test_not_a_number_stays_visible():
    network = Network([2, 3, 2], 0)
    parameters = numbers(1, network.end)
    x = numbers(1, 4, 2)
    x[0, 1, 0] = float("nan")
    output, gradients, _ = passes(network, parameters, x, numbers(1, 4, 2), None)
    assert output[0, 1].isnan().all()
    assert gradients.isnan().any()
    assert not output[0, [0, 2, 3]].isnan().any()


@pytest.mark.skipif(not NATIVE, reason="needs the networks' native kernels")
@pytest.mark.parametrize("models", [1, 3, 8])
def test_native_bits_depend_neither_on_threads_nor_on_other_models(models, monkeypatch):
    monkeypatch.setenv("PHASEVAE_BACKEND", "native_cpu")
    monkeypatch.setattr(dispatch, "_chosen", {})
    network = Network([8, 33, 20, 6], 0)
    parameters, x = numbers(models, network.end), numbers(1, 200, 8)
    grads = [numbers(models, 200, 6, seed=seed) for seed in (1, 2)]
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(passes(network, parameters, x, *grads))
        for result in results[1:]:
            assert all(map(torch.equal, result, results[0]))
        last = slice(models - 1, models)
        alone = passes(network, parameters[last], x, *(grad[last] for grad in grads))
        assert all(torch.equal(own, together[last]) for own, together in zip(alone, results[0], strict=True))
    finally:
        torch.set_num_threads(threads)


OF_PROCESSOR = """
import torch
from phasevae.kernels import native
from test_mlp import check_against_autograd
assert native.HAS_NETWORK_KERNELS == (torch.backends.cpu.get_cpu_capability() != "DEFAULT")
check_against_autograd()
print(torch.backends.cpu.get_cpu_capability())
"""


@pytest.mark.skipif(not NATIVE, reason="needs the networks' native kernels")
@pytest.mark.parametrize("capability", ["avx2", "default"])
def test_lesser_processors_compute_the_same(capability, monkeypatch, request):
    """By the variable of torch; with 'default' there are no kernels for networks, and PyTorch computes them."""
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", capability)
    monkeypatch.setenv("PHASEVAE_BACKEND", "native_cpu")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(request.path.parent), prepend=os.pathsep)
    ran = subprocess.run([sys.executable, "-c", OF_PROCESSOR], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() in (capability.upper(), "DEFAULT")
