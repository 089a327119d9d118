"""Any module for M models at once, against each model as a module of its own."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from phasevae.kernels.module_network import ModuleNetwork, fields_of, tensors_of

IMAGE = nn.Unflatten(1, (1, 4, 4))


class Attention(nn.Module):
    """Self-attention between the four rows of an image."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        h = x.unflatten(1, (4, 4))
        return (h + self.attention(h, h, h, need_weights=False)[0]).flatten(1)


class Branching(nn.Module):
    """Control flow that depends on the data, which vmap cannot follow."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 3)

    def forward(self, x):
        return self.layer(x) if float(x.sum()) > 0 else -self.layer(x)


class Partial(nn.Module):
    """A fixed parameter, an unused one, a constant buffer of whole numbers, and one weight used twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 16)
        self.again = self.layer
        self.fixed = nn.Parameter(torch.randn(16), requires_grad=False)
        self.unused = nn.Parameter(torch.randn(3))
        self.register_buffer("order", torch.randperm(16))

    def forward(self, x):
        return self.again(self.layer(x[:, self.order]) * self.fixed)


MODULES = {
    "mlp": lambda: nn.Sequential(nn.Linear(16, 7), nn.Tanh(), nn.Linear(7, 3)),
    "convolution": lambda: nn.Sequential(
        IMAGE, nn.Conv2d(1, 3, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(48, 5)
    ),
    "transposed": lambda: nn.Sequential(
        nn.Linear(16, 8), nn.Unflatten(1, (2, 2, 2)), nn.ConvTranspose2d(2, 1, 4, stride=2, padding=1), nn.Flatten()
    ),
    "group norm": lambda: nn.Sequential(IMAGE, nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten()),
    "layer norm": lambda: nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 1), nn.Sigmoid(), nn.Linear(1, 4)),
    "attention": Attention,
    "branching": Branching,
    "partial": Partial,
    "batch norm": lambda: nn.Sequential(nn.Linear(16, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)),
    "dropout": lambda: nn.Sequential(nn.Linear(16, 8), nn.Dropout(0.4), nn.Linear(8, 2)),
}
HABITS = {"batch norm": {"changes_buffers": True}, "dropout": {"is_random": True}}


@functools.cache
def modules(name: str, count: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return [MODULES[name]() for _ in range(count)]


def network_of(name: str, models: int, offset: int = 3) -> tuple[ModuleNetwork, torch.Tensor]:
    """A network, and rows of parameters that begin at the offset and have five more numbers at their ends."""
    network = ModuleNetwork(copy.deepcopy(modules(name, models)[0]), offset, **HABITS.get(name, {}))
    rows = [torch.cat([t.detach().float().flatten() for t in tensors_of(m).values()]) for m in modules(name, models)]
    network.seeds = [100 + index for index in range(models)]
    return network, nn.functional.pad(torch.stack(rows), (offset, 5))


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def passes(network, parameters, x, own_objective=True):
    output, kept = network.forward(parameters, x, keep=True)
    gradients = torch.zeros_like(parameters)
    of_input = numbers(*output.shape, seed=2) if own_objective else None
    grad_input = network.backward(parameters, x, kept, numbers(*output.shape, seed=1), gradients, of_input, True)
    return output, gradients, grad_input


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_every_model_is_its_own_module(name, shared):
    network, parameters = network_of(name, 3)
    x = numbers(1 if shared else 3, 6, 16, seed=3)
    before = parameters.clone()
    output, gradients, grad_input = passes(network, parameters, x)
    for index, original in enumerate(modules(name, 3)):
        module = copy.deepcopy(original).train()
        torch.manual_seed(100 + index)
        own_x = x[0 if shared else index].clone().requires_grad_()
        expected = module(own_x)
        torch.testing.assert_close(output[index], expected)
        (of_input,) = torch.autograd.grad(expected, own_x, numbers(*output.shape, seed=2)[index], retain_graph=True)
        torch.testing.assert_close(grad_input[index], of_input)
        expected.backward(numbers(*output.shape, seed=1)[index])
        for field in network.fields:
            found = gradients[index, field.offset : field.offset + field.size].view(field.shape)
            grad = tensors_of(module)[field.name].grad
            torch.testing.assert_close(found, torch.zeros(field.shape) if grad is None else grad, atol=2e-5, rtol=1e-4)
            kept = parameters[index, field.offset : field.offset + field.size].view(field.shape)
            torch.testing.assert_close(kept, tensors_of(module)[field.name].detach().float())
    assert torch.equal(parameters[:, :3], before[:, :3]) and torch.equal(parameters[:, -5:], before[:, -5:])
    assert not gradients[:, :3].any() and not gradients[:, -5:].any()


@pytest.mark.parametrize("name", MODULES)
def test_without_keep_the_module_is_in_evaluation_mode(name):
    network, parameters = network_of(name, 3)
    x = numbers(3, 6, 16)
    before = parameters.clone()
    output, kept = network.forward(parameters, x)
    assert kept == [] and torch.equal(parameters, before)
    for index, original in enumerate(modules(name, 3)):
        with torch.no_grad():
            torch.testing.assert_close(output[index], copy.deepcopy(original).eval()(x[index]))


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(MODULES)),
    models=st.integers(2, 5),
    rows=st.sampled_from([5, 32, 65]),
    shared=st.booleans(),
    data=st.data(),
)
def test_the_bits_of_a_model_do_not_depend_on_its_ensemble(name, models, rows, shared, data):
    kept = data.draw(st.lists(st.integers(0, models - 1), min_size=1, max_size=models, unique=True))
    x = numbers(1 if shared else models, rows, 16)
    network, parameters = network_of(name, models)
    output, kept_state = network.forward(parameters, x, keep=True)
    gradients = torch.zeros_like(parameters)
    grad_input = network.backward(parameters, x, kept_state, output.cos(), gradients, output.sin(), True)
    part, all_rows = network_of(name, models)
    part.seeds = [part.seeds[index] for index in kept]
    some, some_x = all_rows[kept].clone(), x if shared else x[kept].clone()
    own, own_state = part.forward(some, some_x, keep=True)
    own_gradients = torch.zeros_like(some)
    own_input = part.backward(some, some_x, own_state, own.cos(), own_gradients, own.sin(), True)
    for together, alone in ((output, own), (gradients, own_gradients), (grad_input, own_input), (parameters, some)):
        assert torch.equal(together[kept], alone)


def test_the_way_is_said_once(caplog):
    caplog.set_level("INFO", logger="phasevae")
    for name in ("branching", "mlp"):
        network, parameters = network_of(name, 2)
        network.label = name
        for _ in range(2):
            passes(network, parameters, numbers(2, 8, 16))
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("branching: 2 models are computed one after another: vmap does not apply")
    assert caplog.messages[1].startswith("mlp: 2 models are computed ")


def test_random_numbers_are_those_of_the_seeds_and_leave_no_trace():
    network, parameters = network_of("dropout", 2)
    x = numbers(1, 8, 16)
    torch.manual_seed(5)
    first = passes(network, parameters, x)[0]
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(first, passes(network, parameters, x)[0])
    network.seeds = [7, 8]
    assert not torch.equal(first, passes(network, parameters, x)[0])


def test_one_objective_serves_parameters_and_input():
    network, parameters = network_of("mlp", 2)
    x = numbers(2, 5, 16)
    output, kept = network.forward(parameters, x, keep=True)
    gradients, again = torch.zeros_like(parameters), torch.zeros_like(parameters)
    grad = numbers(*output.shape)
    first = network.backward(parameters, x, kept, grad, gradients, with_input=True)
    output, kept = network.forward(parameters, x, keep=True)
    second = network.backward(parameters, x, kept, grad, again, grad, with_input=True)
    assert torch.equal(first, second) and torch.equal(gradients, again)
    output, kept = network.forward(parameters, x, keep=True)
    assert network.backward(parameters, x, kept, grad, again) is None and torch.equal(gradients, again)


def test_fields_follow_the_order_of_the_module():
    fields = fields_of(Partial(), 2)
    assert [(field.name, field.trainable) for field in fields] == [
        ("fixed", False),
        ("unused", True),
        ("layer.weight", True),
        ("layer.bias", True),
        ("order", False),
    ]
    assert [field.offset for field in fields] == [2, 18, 21, 277, 293]
