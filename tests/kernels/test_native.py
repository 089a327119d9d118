"""The native kernels against the PyTorch twin in float64, on the devices of this build."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import gaussian_rows, recipe
from torch.autograd import gradcheck

from phasevae.kernels import backends, dispatch, elbo, noise, reference
from phasevae.kernels.adam import Adam
from phasevae.sweeps import memory
from phasevae.sweeps.settings import Member
from phasevae.training.trainer import Trainer
from phasevae.training.variance_reduction import moment_matched_noise, rao_blackwell_targets

STATE = backends.states()["native_cpu"]
if not STATE.available:
    pytest.skip(f"native kernels: {STATE.reason}", allow_module_level=True)

from phasevae.kernels import native  # noqa: E402

ops = torch.ops.phasevae
HAS_CUDA = backends.states()["native_cuda"].available and torch.cuda.is_available()
DEVICES = ["cpu", "cuda"] if HAS_CUDA else ["cpu"]
KEYS = torch.zeros(2, dtype=torch.int64)
EXTREME = (-12.0, 8.0, 0.0, 1e-3, -1e-3, 1.0, -1.0)
on_devices = pytest.mark.parametrize("device", DEVICES)
needs_gpu = pytest.mark.skipif(not HAS_CUDA, reason="needs a GPU and the CUDA kernels")


def numbers(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def log_variances(seed: int, *shape: int) -> torch.Tensor:
    """Over the whole clamped range, with the extremes and values close to the collapsed state."""
    spread = torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 20 - 12
    at = spread.flatten()[: len(EXTREME)]
    at.copy_(torch.tensor(EXTREME[: at.numel()]))
    return spread


def key_tensor(models: int) -> torch.Tensor:
    return torch.tensor([noise.key("noise", model) for model in range(models)], dtype=torch.int64)


def distance(values: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative to the norm."""
    return float((values.double().cpu() - expected).norm() / expected.norm())


shapes = st.tuples(st.integers(1, 5), st.integers(1, 70), st.integers(1, 21))


@on_devices
@settings(max_examples=40)
@given(shape=shapes, step=st.integers(0, 2**63 - 1), antithetic=st.booleans(), seed=st.integers(0, 99))
def test_reparam_kl_and_its_gradients_agree_with_float64(device, shape, step, antithetic, seed):
    mu, logvar, keys = numbers(seed, *shape), log_variances(seed, *shape), key_tensor(shape[0])
    grad_z = numbers(seed + 1, shape[0], 2 if antithetic else 1, *shape[1:])
    grad_kl = numbers(seed + 2, *shape)

    def evaluate(module, dtype, device):
        leaves = [t.to(device, dtype).requires_grad_() for t in (mu, logvar)]
        outputs = module.reparam_kl(*leaves, keys.to(device), step, antithetic)
        gradients = torch.autograd.grad(outputs, leaves, [t.to(device, dtype) for t in (grad_z, grad_kl)])
        return *outputs, *gradients

    z, kl, *gradients = (t.detach() for t in evaluate(native, torch.float32, device))
    exact_z, exact_kl, *exact = (t.detach() for t in evaluate(reference, torch.float64, "cpu"))
    assert distance(z, exact_z) < 1e-5
    assert torch.allclose(kl.double().cpu(), exact_kl, rtol=1e-5, atol=0)
    assert max(map(distance, gradients, exact)) < 1e-4


@settings(max_examples=40)
@given(shape=shapes, step=st.integers(0, 2**63 - 1), antithetic=st.booleans(), seed=st.integers(0, 99))
def test_on_the_cpu_float32_agrees_with_the_twin_bit_for_bit(shape, step, antithetic, seed):
    mu, logvar, keys = numbers(seed, *shape), log_variances(seed, *shape), key_tensor(shape[0])
    x, sigma2 = numbers(seed + 1, 1, *shape[1:]), torch.rand(shape[0]) + 0.1

    def evaluate(module):
        leaves = [t.detach().requires_grad_() for t in (mu, logvar)]
        z, kl = module.reparam_kl(*leaves, keys, step, antithetic)
        return z, kl, *torch.autograd.grad(module.gaussian_nll(x, z, sigma2).sum() + kl.sin().sum(), leaves)

    assert all(map(torch.equal, evaluate(native), evaluate(reference)))


@on_devices
@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 2), st.integers(1, 40), st.integers(1, 70)),
    shared=st.booleans(),
    exponent=st.integers(-6, 6),
)
def test_gaussian_nll_and_its_gradient_agree_with_float64(device, shape, shared, exponent):
    models, draws, rows, features = shape
    x = numbers(0, 1 if shared else models, rows, features)
    xhat, grad = numbers(1, *shape), numbers(2, models, draws, rows)
    sigma2 = 10.0**exponent * (1 + torch.arange(models) / models)

    def evaluate(module, dtype, device):
        leaf = xhat.to(device, dtype).requires_grad_()
        nll = module.gaussian_nll(x.to(device, dtype), leaf, sigma2.to(device, dtype))
        return nll, torch.autograd.grad(nll, leaf, grad.to(device, dtype))[0]

    nll, gradient = (t.detach() for t in evaluate(native, torch.float32, device))
    exact_nll, exact_gradient = (t.detach() for t in evaluate(reference, torch.float64, "cpu"))
    assert torch.allclose(nll.double().cpu(), exact_nll, rtol=1e-5, atol=0)
    assert distance(gradient, exact_gradient) < 1e-5


@on_devices
@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 2), st.integers(1, 40), st.integers(1, 70)),
    shared=st.booleans(),
    exponent=st.integers(-2, 2),
)
def test_bernoulli_nll_and_its_gradient_agree_with_float64_and_the_twin(device, shape, shared, exponent):
    models, draws, rows, features = shape
    x = numbers(0, 1 if shared else models, rows, features).sigmoid()
    logits, grad = 10.0**exponent * numbers(1, *shape), numbers(2, models, draws, rows)
    sigma2 = 0.5 + torch.arange(models) / models

    def evaluate(module, dtype, device):
        leaf = logits.to(device, dtype).requires_grad_()
        nll = module.bernoulli_nll(x.to(device, dtype), leaf, sigma2.to(device, dtype))
        return nll, torch.autograd.grad(nll, leaf, grad.to(device, dtype))[0]

    nll, gradient = (t.detach() for t in evaluate(native, torch.float32, device))
    exact_nll, exact_gradient = (t.detach() for t in evaluate(reference, torch.float64, "cpu"))
    assert torch.allclose(nll.double().cpu(), exact_nll, rtol=1e-5, atol=1e-5)
    assert distance(gradient, exact_gradient) < 1e-5
    if device == "cpu":
        assert torch.equal(gradient, evaluate(reference, torch.float32, "cpu")[1].detach())


def test_the_estimate_of_memory_knows_how_many_latents_are_matched():
    assert memory.MOST_MATCHED == native.MOST_MATCHED


@on_devices
@settings(max_examples=20)
@given(
    models=st.integers(1, 4),
    n=st.integers(1, native.MOST_MATCHED),
    more_rows=st.integers(0, 200),
    antithetic=st.booleans(),
    halves=st.booleans(),
)
def test_matched_noise_and_its_gradients_agree_with_float64(device, models, n, more_rows, antithetic, halves):
    rows = max(64, 16 * n) + more_rows
    posterior = numbers(0, models, rows, 2 * n)
    mu, logvar = posterior.chunk(2, -1) if halves else (posterior[..., :n].clone(), posterior[..., n:].clone())
    z, _ = native.reparam_kl(mu, logvar, key_tensor(models), 5, antithetic)
    grad = numbers(1, *z.shape)

    def evaluate(match, dtype, device):
        leaves = [t.to(device, dtype).requires_grad_() for t in (mu, logvar)]
        matched = match(z.to(device, dtype), *leaves)
        return matched, *torch.autograd.grad(matched, leaves, grad.to(device, dtype))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "MOST_MATCHED", 0)
        expected = [t.detach() for t in evaluate(moment_matched_noise, torch.float64, "cpu")]
    found = [t.detach() for t in evaluate(native.match_moments, torch.float32, device)]
    assert max(map(distance, found, expected)) < 1e-5


@st.composite
def grouped_batches(draw) -> tuple[list[torch.Tensor | None], int]:
    """The arguments of `rao_blackwell_targets`, and a group that leaves vectors incomplete."""
    group, groups, models = draw(st.integers(1, 37)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    n, features, draws = draw(st.integers(1, 6)), draw(st.integers(1, 45)), draw(st.integers(1, 2))
    rows = group * groups
    x = numbers(0, draw(st.sampled_from([1, models])), rows, features)
    mean = draw(st.sampled_from([None, numbers(1, features)]))
    mu, logvar = numbers(2, models, rows, 2 * n).chunk(2, -1)
    z = mu[:, None] + numbers(3, models, draws, rows, n)
    return [x, mean, mu, logvar - 1, z, 0.5 * x[:, None] + numbers(4, models, draws, rows, features)], group


@settings(max_examples=60)
@given(batch=grouped_batches())
def test_targets_agree_with_the_twin_in_float64_and_do_not_depend_on_the_ensemble(batch):
    arguments, group = batch
    exact = [None if t is None else t.double() for t in arguments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "TARGET_DEVICES", ())
        expected = rao_blackwell_targets(*exact, group)
    found = native.rao_blackwell_targets(*arguments, group)
    assert distance(found, expected) < 1e-5
    assert distance(native.rao_blackwell_targets(*exact, group), expected) < 1e-13
    last = [t if t is None or t.ndim == 1 else t[-1:] for t in arguments]
    assert torch.equal(native.rao_blackwell_targets(*last, group), found[-1:])


def test_targets_of_numbers_that_are_not_finite_are_not_finite():
    x, z = numbers(0, 1, 8, 3), numbers(1, 1, 1, 8, 2)
    z[0, 0, 5, 1] = torch.nan
    logvar = torch.zeros(1, 8, 2)
    logvar[0, 2, 0] = torch.nan
    decoded = torch.zeros(1, 1, 8, 3)
    targets = native.rao_blackwell_targets(x, None, torch.zeros(1, 8, 2), logvar, z, decoded, 4)
    assert targets.isfinite().all(-1).flatten().tolist() == [False] * 4 + [True, False, True, True]


@on_devices
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 3, 4, 6, 16, 515, 1030])
def test_the_noise_is_that_of_the_twin_with_a_step_for_each_stream(device, dtype, n):
    keys, steps = key_tensor(3), torch.tensor([0, 7, (5 << 32) + 7])
    expected = reference.normals(keys, steps, 40, n, torch.float64)
    drawn = native.normals(keys.to(device), steps.to(device), 40, n, dtype)
    assert distance(drawn, expected) < (1e-6 if dtype == torch.float32 else 1e-14)
    if device == "cpu" and dtype == torch.float32:
        assert torch.equal(drawn, reference.normals(keys, steps, 40, n, dtype))


@on_devices
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_step_may_be_on_the_device(device, dtype):
    mu, logvar, keys = numbers(0, 2, 5, 3).to(device, dtype), numbers(1, 2, 5, 3).to(device, dtype), key_tensor(2)
    step = torch.tensor((1 << 32) + 9, device=device)
    for module in (native, reference):
        for of_number, of_tensor in zip(
            module.reparam_kl(mu, logvar, keys.to(device), int(step), True),
            module.reparam_kl(mu, logvar, keys.to(device), step, True),
            strict=True,
        ):
            assert torch.equal(of_number, of_tensor)


@on_devices
def test_the_numbers_of_a_model_do_not_depend_on_the_others(device):
    mu, logvar, keys = numbers(0, 5, 70, 6).to(device), numbers(1, 5, 70, 6).to(device), key_tensor(5).to(device)
    together = native.reparam_kl(mu, logvar, keys, 3, True)
    alone = native.reparam_kl(mu[2:3], logvar[2:3], keys[2:3], 3, True)
    for of_all, of_model in zip(together, alone, strict=True):
        assert torch.allclose(of_all[2:3], of_model, rtol=1e-6, atol=1e-7)


@on_devices
@pytest.mark.parametrize("n", [2, 600])
def test_views_need_no_copy(device, n):
    """The encoder's output is split in two, and a mean's gradient is one number spread over all: views."""
    both = numbers(0, 3, 10, 2 * n).to(device).double()
    transposed = numbers(1, 10, 3, n).to(device).double().transpose(0, 1)
    keys = key_tensor(3).to(device)
    for mu, logvar in (both.chunk(2, -1), (transposed, both[..., ::2])):
        of_views, of_copies = (
            torch.autograd.grad([t.mean() for t in native.reparam_kl(*leaves, keys, 0, True)], leaves)
            for leaves in (
                [t.detach().requires_grad_() for t in (mu, logvar)],
                [t.detach().contiguous().requires_grad_() for t in (mu, logvar)],
            )
        )
        assert all(map(torch.equal, of_views, of_copies))
        assert torch.equal(
            native.reparam_kl(mu, logvar, keys, 0, True)[0],
            native.reparam_kl(mu.contiguous(), logvar.contiguous(), keys, 0, True)[0],
        )
    x, sigma2 = both[:, :, ::2], torch.ones(6, device=device).double()[::2]
    xhat = both[:, None, :, 1::2]
    grad = numbers(2, 10, 1, 3).to(device).double().transpose(0, 2)
    results = [
        (nll := native.gaussian_nll(*arguments), torch.autograd.grad(nll, arguments[1], grad_nll)[0])
        for arguments, grad_nll in (
            ((x, xhat.detach().requires_grad_(), sigma2), grad),
            ((x.contiguous(), xhat.detach().contiguous().requires_grad_(), sigma2.contiguous()), grad.contiguous()),
        )
    ]
    assert all(map(torch.equal, *results))


@on_devices
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_that_are_not_finite_stay_visible(device, bad, dtype):
    mu = torch.zeros(1, 3, 5, dtype=dtype, device=device)
    logvar = mu.clone()
    logvar[0, 1, 2] = bad
    leaf = logvar.requires_grad_()
    z, kl = native.reparam_kl(mu, leaf, key_tensor(1).to(device), 0, False)
    (gradient,) = torch.autograd.grad((z.sum() + kl.sum()), leaf)
    for part in (z[0, 0], kl[0], gradient[0]):
        assert not part[1, 2].isfinite()
        assert part.isfinite().sum() == 14
    xhat = torch.zeros(1, 1, 3, 5, dtype=dtype, device=device)
    xhat[0, 0, 1, 2] = bad
    for operation in (native.gaussian_nll, native.bernoulli_nll):
        nll = operation(mu, xhat, mu.new_ones(1))
        assert nll.isfinite().flatten().tolist() == [True, False, True]


@on_devices
@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 2), (2, 3, 0)])
def test_empty_tensors_give_empty_tensors(device, shape):
    mu = torch.zeros(shape, device=device)
    z, kl = native.reparam_kl(mu, mu, key_tensor(shape[0]).to(device), 0, True)
    assert z.shape == (shape[0], 2, *shape[1:])
    assert kl.shape == shape
    nll = native.gaussian_nll(mu, z, torch.ones(shape[0], device=device))
    assert nll.shape == z.shape[:3]
    assert (nll == 0).all()
    assert native.bernoulli_nll(mu, z, torch.ones(shape[0], device=device)).shape == z.shape[:3]


@on_devices
@pytest.mark.parametrize("antithetic", [False, True])
def test_gradcheck(device, antithetic):
    keys, step = key_tensor(2).to(device), torch.tensor(3, device=device)
    mu, logvar = (numbers(seed, 2, 3, 2).to(device, torch.float64).requires_grad_() for seed in (0, 1))
    assert gradcheck(lambda m, v: native.reparam_kl(m, v, keys, step, antithetic), (mu, logvar))
    x, sigma2 = torch.zeros(1, 3, 2).to(mu), torch.tensor([0.3, 4.0]).to(mu)
    for operation in (native.gaussian_nll, native.bernoulli_nll):
        assert gradcheck(partial(operation, x, sigma2=sigma2), (mu[:, None].detach().requires_grad_(),))


@on_devices
def test_opcheck(device):
    mu, logvar = (numbers(seed, 2, 3, 2).to(device).requires_grad_() for seed in (0, 1))
    keys, step = key_tensor(2).to(device), torch.tensor(3, device=device)
    xhat = numbers(3, 2, 1, 3, 2).to(device).requires_grad_()
    sigma2 = torch.ones(2, device=device)
    many = [numbers(seed, 2, 64, 2).to(device).requires_grad_() for seed in (4, 5)]
    drawn = native.reparam_kl(*many, keys, 3, True)[0].detach()
    calls = [
        (ops.reparam_kl, (mu, logvar, keys, 3, None, True)),
        (ops.reparam_kl, (mu, logvar, keys, 0, step, False)),
        (ops.reparam_kl_backward, (xhat.detach(), mu.detach(), mu.detach(), logvar.detach(), xhat.detach())),
        (ops.normals, (keys, keys, 3, 2, torch.float32)),
        (ops.match_moments, (drawn, *many)),
        (ops.gaussian_nll, (mu.detach(), xhat, sigma2)),
        (ops.gaussian_nll_backward, (mu.detach()[:, None, :, 0], mu.detach(), xhat.detach(), sigma2)),
        (ops.bernoulli_nll, (mu.detach(), xhat, sigma2)),
        (ops.bernoulli_nll_backward, (mu.detach()[:, None, :, 0], mu.detach(), xhat.detach(), sigma2)),
    ]
    if device in native.TARGET_DEVICES:
        several = [t.detach() for t in many]
        calls.append((ops.rao_blackwell_targets, (several[0], None, *several, drawn, drawn, 16)))
    calls.append((ops.adam_step, steps(device)))
    for op, arguments in calls:
        torch.library.opcheck(op.default, arguments)


@on_devices
def test_compiles_without_a_graph_break(device, monkeypatch):
    monkeypatch.setattr(dispatch, "_chosen", {})
    torch.compiler.reset()

    def objective(mu, logvar, x, keys, step):
        z, kl = elbo.reparam_kl(mu, logvar, keys, step, antithetic=True)
        return elbo.gaussian_nll(x, z, torch.ones_like(mu[:, 0, 0])).mean() + kl.sum(-1).mean()

    x, keys = numbers(2, 1, 5, 3).to(device), key_tensor(2).to(device)
    leaves = [numbers(seed, 2, 5, 3).to(device).requires_grad_() for seed in (0, 1)]
    compiled = torch.compile(objective, fullgraph=True, backend="aot_eager")
    for step in (3, 4, 5):
        gradients = torch.autograd.grad(compiled(*leaves, x, keys, step), leaves)
        expected = torch.autograd.grad(objective(*leaves, x, keys, step), leaves)
        assert all(map(torch.equal, gradients, expected))


@on_devices
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-7)])
def test_adam_is_torchs(device, dtype, tolerance, monkeypatch):
    monkeypatch.setenv("PHASEVAE_BACKEND", f"native_{device}")
    monkeypatch.setattr(dispatch, "_chosen", {})
    parameters, gradients = (numbers(seed, 3, 141).to(device, dtype) for seed in range(2))
    leaf = parameters.clone().requires_grad_()
    expected, adam = torch.optim.Adam([leaf], lr=1e-2), Adam(parameters)
    rate = torch.tensor(1e-2, dtype=torch.float64, device=device)
    for step in range(5):
        leaf.grad = gradients * (step - 1.5)
        expected.step()
        adam.step(parameters, leaf.grad, rate, torch.tensor(step, device=device))
    assert torch.allclose(parameters, leaf.detach(), rtol=tolerance, atol=tolerance)


@on_devices
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_200_steps_lead_to_the_same_parameters(device, dtype, tolerance, monkeypatch):
    """With 64 rows their noise is matched. Single precision has other roundings, which grow."""
    x = gaussian_rows(device=device, dtype=dtype)
    members = [Member(sigma2, 1.0, 0) for sigma2 in (0.3, 0.6, 0.9, 1.2)]
    trained = {}
    for name in ("torch", f"native_{device}"):
        monkeypatch.setenv("PHASEVAE_BACKEND", name)
        monkeypatch.setattr(dispatch, "_chosen", {})
        trainer = Trainer(x, members, recipe(batch=64, samples=64 * 200.0))
        assert trainer.run()
        assert dispatch.backend(device) == name
        trained[name] = trainer.model.parameters.double().cpu()
    expected, native = trained.values()
    assert distance(native, expected) < tolerance


@pytest.mark.skipif(not native.HAS_NETWORK_KERNELS, reason="needs AVX2 or NEON")
def test_networks_change_the_arguments_that_their_schema_marks():
    widths, parameters, x = [3, 5, 2], numbers(0, 2, 40), numbers(1, 1, 4, 3)
    for keep in (False, True):
        torch.library.opcheck(ops.mlp_forward.default, (x, parameters, 1, widths, keep), test_utils="test_schema")
    _, tape = ops.mlp_forward(x, parameters, 1, widths, True)
    grad = numbers(2, 2, 4, 2)
    for own, with_input in ((None, False), (None, True), (grad, True)):
        arguments = (x, parameters, 1, widths, tape, grad, own, with_input, torch.zeros(2, 40))
        torch.library.opcheck(ops.mlp_backward.default, arguments, test_utils="test_schema")


def test_the_build_reports_how_it_was_made():
    info = native.build_info()
    assert torch.__version__.startswith(info["torch"])
    assert info["cuda"] == bool(backends.build_record()["cuda"])
    assert info["parallel"]


def posterior(**changes):
    """Arguments of reparam_kl, right except for the changes."""
    right = {"mu": torch.zeros(2, 3, 4), "logvar": torch.zeros(2, 3, 4), "keys": torch.zeros(2, dtype=torch.int64)}
    return (*(right | changes).values(), 0, changes.get("device_step"), False)[:6]


def errors(**changes):
    """Arguments of gaussian_nll, right except for the changes."""
    right = {"x": torch.zeros(2, 3, 4), "xhat": torch.zeros(2, 1, 3, 4), "sigma2": torch.ones(2)}
    return tuple((right | changes).values())


def steps(device: str, **changes):
    """Arguments of adam_step, right except for the changes."""
    right = {name: torch.zeros(2, 5) for name in ("parameters", "gradients", "first", "second")}
    right |= {"rate": torch.tensor(1e-3, dtype=torch.float64), "steps_done": torch.tensor(0)}
    return (*(value.to(device) for value in (right | changes).values()), 0.9, 0.999, 1e-8)


def pass_of(**changes):
    """Arguments of mlp_forward, right except for the changes."""
    right = {"x": torch.zeros(1, 4, 3), "parameters": torch.zeros(2, 40), "offset": 0, "widths": [3, 2, 2, 2]}
    return (*(right | changes).values(), True)


def pass_back(**changes):
    """Arguments of mlp_backward, right except for the changes."""
    x, parameters, offset, widths, _ = pass_of()
    tape = ops.mlp_forward(*pass_of())[1] if native.HAS_NETWORK_KERNELS else torch.zeros(0)
    right = {"tape": tape, "grad": torch.zeros(2, 4, 2), "own": None, "with_input": False}
    right |= {"gradients": torch.zeros(2, 40)}
    return (x, parameters, offset, widths, *(right | changes).values())


@pytest.mark.parametrize(
    ("op", "arguments", "message"),
    [
        (ops.reparam_kl, posterior(mu=torch.zeros(2, 3, 4).half()), "mu must be float32 or float64, got Half"),
        (ops.reparam_kl, posterior(mu=torch.zeros(3, 4)), r"mu must have shape \[M, B, n\], got \[3, 4\]"),
        (ops.reparam_kl, posterior(logvar=torch.zeros(2, 3, 4).double()), "logvar must be Float, got Double"),
        (
            ops.reparam_kl,
            posterior(logvar=torch.zeros(2, 3, 5)),
            r"logvar must have shape \[2, 3, 4\], got \[2, 3, 5\]",
        ),
        (ops.reparam_kl, posterior(keys=torch.zeros(2)), "keys must be Long, got Float"),
        (ops.reparam_kl, posterior(keys=torch.zeros(4, dtype=torch.int64)[::2]), "keys must be contiguous"),
        (ops.match_moments, (torch.zeros(2, 1, 3, 5), *posterior()[:2]), r"z must have shape \[2, 1, 3, 4\]"),
        (ops.match_moments, (torch.zeros(1, 1, 2, 17), *[torch.zeros(1, 2, 17)] * 2), "latents must be 16 or fewer"),
        (ops.gaussian_nll, errors(x=torch.zeros(2, 3, 5)), r"x must have shape \[2, 3, 4\], got \[2, 3, 5\]"),
        (ops.gaussian_nll, errors(xhat=torch.zeros(2, 3, 4)), r"xhat must have shape \[M, A, B, D\], got \[2, 3, 4\]"),
        (ops.gaussian_nll, errors(sigma2=torch.ones(3)), r"sigma2 must have shape \[2\], got \[3\]"),
        (ops.normals, (KEYS, KEYS, 3, 4, torch.int32), "dtype must be float32 or float64"),
        (ops.normals, (KEYS, KEYS[:1], 3, 4, torch.float32), r"steps must have shape \[2\], got \[1\]"),
        (ops.normals, (KEYS, KEYS, -1, 4, torch.float32), "rows and latents must not be negative, got -1, 4"),
        (ops.mlp_forward, pass_of(x=torch.zeros(1, 4, 2)), r"input must have shape \[1, 4, 3\], got \[1, 4, 2\]"),
        (ops.mlp_forward, pass_of(x=torch.zeros(4, 3)), r"input must have shape \[M, R, in\], got \[4, 3\]"),
        (ops.mlp_forward, pass_of(x=torch.zeros(2, 4, 6)[..., ::2]), "input must have unit stride"),
        (ops.mlp_forward, pass_of(parameters=torch.zeros(2, 17)), r"shape \[M, 20 or more\], got \[2, 17\]"),
        (ops.mlp_forward, pass_of(parameters=torch.zeros(2, 40).double()), "parameters must be float32 on cpu"),
        (ops.mlp_forward, pass_of(parameters=torch.zeros(40, 2).T), "rows of parameters must be contiguous"),
        (ops.mlp_forward, pass_of(widths=[3]), "widths must be those of at least one layer, got"),
        (ops.mlp_backward, pass_back(tape=torch.zeros(3)), r"tape must have shape \[\d+\], got \[3\]"),
        (ops.mlp_backward, pass_back(gradients=torch.zeros(2, 39)), r"gradients must have shape \[2, 40\]"),
        (ops.mlp_backward, pass_back(grad=torch.zeros(2, 4, 3)), r"grad_output must have shape \[2, 4, 2\]"),
        (ops.mlp_backward, pass_back(own=torch.zeros(2, 3, 2)), r"grad_for_input must have shape \[2, 4, 2\]"),
        (ops.mlp_backward, pass_back(gradients=torch.zeros(1, 40).expand(2, -1)), "contiguous and apart"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(op, arguments, message):
    if "mlp" in str(op) and not native.HAS_NETWORK_KERNELS:
        pytest.skip("needs AVX2 or NEON")
    with pytest.raises(RuntimeError, match=message):
        op(*arguments)


@on_devices
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gradients": torch.zeros(2, 6)}, r"gradients must have shape \[2, 5\], got \[2, 6\]"),
        ({"second": torch.zeros(5, 2).T}, "tensors must be contiguous, got strides"),
        ({"rate": torch.tensor(1e-3)}, "learning_rate must be Double, got Float"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_adam(device, changes, message):
    with pytest.raises(RuntimeError, match=message):
        ops.adam_step(*steps(device, **changes))


@needs_gpu
def test_tensors_on_two_devices_are_refused():
    with pytest.raises(RuntimeError, match="logvar must be on cuda:0, got cpu"):
        ops.reparam_kl(*posterior(mu=torch.zeros(2, 3, 4, device="cuda")))
