"""Training on a GPU: the captured step against the eager step, and against itself.

Single operations on the GPU are compared with float64 in test_native.py.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from small import gaussian_rows, recipe

from phasevae.kernels import backends, dispatch
from phasevae.kernels.mlp import Network, uses_tf32
from phasevae.sweeps.settings import Member
from phasevae.training.trainer import Trainer

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

NAMES = ["torch"] + (["native_cuda"] if backends.states()["native_cuda"].available else [])
MEMBERS = [Member(sigma2, 1.0, seed) for sigma2 in (0.3, 0.6, 0.9, 1.2) for seed in (0, 1)]
CHANGES = {"n_latent": 3, "hidden": (33, 17), "samples": 32 * 700.0}


@pytest.fixture(params=NAMES)
def backend(request, monkeypatch) -> str:
    monkeypatch.setenv("PHASEVAE_BACKEND", request.param)
    monkeypatch.setattr(dispatch, "_chosen", {})
    return request.param


def trained(x: torch.Tensor, use_graph: bool | None = None, members: list[Member] = MEMBERS, **changes) -> Trainer:
    """Trained with every warning an error: so a graph was captured where one was asked for."""
    trainer = Trainer(x, members, recipe(**{**CHANGES, **changes}), use_graph)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trainer.run()
    return trainer


def distance(values: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative to the norm."""
    return float((values.double().cpu() - expected.double().cpu()).norm() / expected.double().norm().cpu())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("members", [MEMBERS, MEMBERS[:1]])
def test_the_graph_trains_what_single_launches_train(backend, dtype, members):
    x = gaussian_rows(device="cuda", dtype=dtype)
    captured, eager = trained(x, members=members), trained(x, use_graph=False, members=members)
    assert dispatch.backend("cuda") == backend
    assert distance(captured.model.parameters, eager.model.parameters) < 1e-5
    assert np.allclose(np.stack(captured.history), np.stack(eager.history), rtol=1e-4, atol=1e-5)


def network_pass(given: list[torch.Tensor], widths: list[int], device: str, tf32: bool) -> list[torch.Tensor]:
    """Output, derivative by the input and gradients of a network whose parameters begin with the third."""
    parameters, x, grad, own = (tensor.to(device) for tensor in given)
    gradients = torch.zeros_like(parameters)
    output, tape = torch.ops.phasevae.mlp_forward(x, parameters, 3, widths, True, tf32)
    arguments = (x, parameters, 3, widths, tape, grad, own, True, gradients, tf32)
    return [values.cpu() for values in (output, torch.ops.phasevae.mlp_backward(*arguments), gradients)]


def network_arguments(models: int, rows: int, widths: list[int]) -> list[torch.Tensor]:
    """Parameters, rows, and the derivatives of two objectives by the output."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((models, Network(widths, 3).end), (models, rows, widths[0]), *[(models, rows, widths[-1])] * 2)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


def rounded(values: torch.Tensor) -> torch.Tensor:
    """The nearest numbers of 11 significant bits, in float64; half of the last bit away from zero."""
    fraction, exponent = torch.frexp(values.double())
    return torch.ldexp((fraction.abs() * 2**11 + 0.5).floor() * fraction.sign(), exponent - 11)


@pytest.fixture
def native_cuda(monkeypatch):
    if "native_cuda" not in NAMES:
        pytest.skip("needs the CUDA kernels")
    monkeypatch.setenv("PHASEVAE_BACKEND", "native_cuda")
    monkeypatch.setattr(dispatch, "_chosen", {})
    dispatch.implementation("cuda")


@pytest.mark.parametrize(("models", "rows", "widths"), [(1, 1, [1, 1]), (3, 70, [5, 33, 17, 6]), (2, 300, [8, 256, 8])])
def test_networks_have_the_bits_of_the_cpu_kernels(models, rows, widths, native_cuda):
    given = network_arguments(models, rows, widths)
    on_cpu, on_gpu = (network_pass(given, widths, device, False) for device in ("cpu", "cuda"))
    assert all(map(torch.equal, on_cpu, on_gpu))


@pytest.mark.skipif("torch.cuda.get_device_capability() < (8, 0)", reason="needs tensor cores that know TF32")
@pytest.mark.parametrize(("rows", "fan_in", "fan_out"), [(1, 1, 1), (70, 5, 33), (129, 130, 17), (300, 140, 70)])
def test_products_in_tf32_are_those_of_rounded_numbers(rows, fan_in, fan_out, native_cuda):
    given = network_arguments(2, rows, [fan_in, fan_out])
    parameters, x, grad, own = given
    weight = rounded(parameters[:, 3 : 3 + fan_in * fan_out]).unflatten(1, (fan_in, fan_out))
    of_weight, of_bias = rounded(x).mT @ rounded(grad), grad.double().sum(1)
    expected = (
        rounded(x) @ weight + parameters[:, None, -fan_out:].double(),
        rounded(own) @ weight.mT,
        torch.cat([torch.zeros(2, 3), of_weight.flatten(1), of_bias], 1),
    )
    for values, exact in zip(network_pass(given, [fan_in, fan_out], "cuda", True), expected, strict=True):
        assert distance(values, exact) < 1e-6  # TF32 itself: 1e-4


def test_tf32_is_torchs_setting(native_cuda, monkeypatch):
    given = network_arguments(2, 70, [33, 17])
    parameters, x = (tensor.cuda() for tensor in given[:2])
    network = Network([33, 17], 3)
    before = network.forward(parameters, x)[0]
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    expected = torch.ops.phasevae.mlp_forward(x, parameters, 3, [33, 17], False, uses_tf32(x.device))[0]
    assert torch.equal(network.forward(parameters, x)[0], expected)
    assert torch.equal(before, expected) != uses_tf32(x.device)


def test_two_runs_are_bit_equal(backend):
    first, second = trained(gaussian_rows(device="cuda")), trained(gaussian_rows(device="cuda"))
    assert torch.equal(first.model.parameters, second.model.parameters)
    assert np.array_equal(np.stack(first.history), np.stack(second.history))


@pytest.mark.parametrize("interrupted_at", [1, 255, 256, 257, 650])
def test_resumed_training_is_bit_equal(backend, interrupted_at):
    whole = trained(gaussian_rows(device="cuda"))
    first = Trainer(gaussian_rows(device="cuda"), MEMBERS, recipe(**CHANGES))
    assert not first.run(until=interrupted_at)
    second = Trainer(gaussian_rows(device="cuda"), MEMBERS, recipe(**CHANGES))
    second.restore(first.state())
    assert second.run()
    assert torch.equal(whole.model.parameters, second.model.parameters)
    assert np.array_equal(np.stack(whole.history), np.stack(second.history))


def test_gpu_and_cpu_train_the_same(backend, monkeypatch):
    on_gpu = trained(gaussian_rows(device="cuda", dtype=torch.float64), samples=32 * 200.0)
    monkeypatch.setenv("PHASEVAE_BACKEND", "torch")
    monkeypatch.setattr(dispatch, "_chosen", {})
    on_cpu = trained(gaussian_rows(dtype=torch.float64), samples=32 * 200.0)
    # The learning rate is rounded to float32 by torch's Adam on the GPU.
    assert distance(on_gpu.model.parameters, on_cpu.model.parameters) < 1e-5


def test_a_step_waits_for_nothing(backend):
    """Between two records no operation makes the host wait for the device."""
    trainer = Trainer(gaussian_rows(device="cuda"), MEMBERS, recipe(**{**CHANGES, "samples": 32 * 70_000.0}))
    assert not trainer.run(until=10)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert not trainer.run(until=600)
    finally:
        torch.cuda.set_sync_debug_mode("default")
