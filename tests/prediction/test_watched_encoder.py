from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from phasevae.errors import InputError
from phasevae.prediction.watched_encoder import find_encoder, on_training_forward

ROWS = torch.ones(5, 3)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 4)

    def forward(self, x, shift=0.0):
        return (self.body(x) + shift).chunk(2, dim=-1)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()

    def forward(self, x):
        mu, _ = self.encoder(x)
        return mu.sum()


class Wrapper(nn.Module):
    """As a wrapper that keeps its module in an attribute and has none of its submodules."""

    def __init__(self, module, name):
        super().__init__()
        setattr(self, name, module)
        self.kept = name

    def forward(self, x):
        return getattr(self, self.kept)(x)


def compiled(module):
    return torch.compile(module, backend="eager")


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": lambda model: Wrapper(model, "module"),
    "Fabric": lambda model: Wrapper(Wrapper(model, "module"), "_forward_module"),
    "compiled": compiled,
    "compiled, then wrapped": lambda model: Wrapper(compiled(model), "module"),
    "wrapped, then compiled": lambda model: compiled(Wrapper(model, "module")),
}


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch.compiler.reset()


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("ran", [False, True], ids=["before", "after"])
def test_the_encoder_of_a_wrapped_model_is_recorded_in_training(name, ran):
    model = Model()
    wrapped, seen = WRAPPERS[name](model), []
    if ran:
        wrapped(ROWS)
    assert find_encoder(wrapped, "encoder") is model.encoder
    assert find_encoder(wrapped, "encoder.body") is model.encoder.body
    end = on_training_forward(find_encoder(wrapped, "encoder"), seen.append)
    for _ in range(3):
        wrapped(ROWS)
    assert len(seen) == 3
    assert torch.equal(seen[0][0], model.encoder.body(ROWS)[:, :2])
    wrapped.eval()
    wrapped(ROWS)
    assert len(seen) == 3
    wrapped.train()
    end()
    wrapped(ROWS)
    assert len(seen) == 3


def in_place(model):
    model.compile(backend="eager")
    return model


def encoder_alone(model):
    model.encoder = compiled(model.encoder)
    return model


def encoder_alone_in_place(model):
    model.encoder.compile(backend="eager")
    return model


def step(model):
    @torch.compile(backend="eager")
    def run(x):
        return 2 * model(x)

    return run


@pytest.mark.parametrize("ran", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "compile_", [in_place, encoder_alone, encoder_alone_in_place, lambda model: compiled(encoder_alone(model)), step]
)
def test_whatever_part_is_compiled_each_pass_is_recorded_once(compile_, ran):
    model, seen = Model(), []
    run = compile_(model)

    def record(output):
        assert not torch.compiler.is_compiling(), "a record is no part of the compiled code"
        seen.append(output)

    # Older releases of torch leave the hooks out of what makes them compile again.
    with torch._dynamo.config.patch(skip_nnmodule_hook_guards=True):
        if ran:
            run(ROWS)
        end = on_training_forward(find_encoder(model, "encoder"), record)
        for _ in range(3):
            run(ROWS)
        assert len(seen) == 3
        model.eval()
        run(ROWS)
        model.train()
        end()
        run(ROWS)
        assert len(seen) == 3


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("wrap", [lambda model: model, compiled], ids=["plain", "compiled"])
def test_checkpoints_record_the_same_rows_again(wrap, reentrant):
    class Checkpointed(Model):
        def forward(self, x):
            return checkpoint(self.encoder, x, use_reentrant=reentrant)[0].sum()

    model, seen = Checkpointed(), []
    on_training_forward(find_encoder(model, "encoder"), seen.append)
    rows = ROWS.clone().requires_grad_()
    wrap(model)(rows).backward()
    assert rows.grad is not None and model.encoder.body.weight.grad.abs().sum() > 0
    assert seen and all(torch.equal(mu, seen[0][0]) for mu, _ in seen)


def test_the_model_itself_and_wrapped_submodules_and_other_objects():
    inner = Model()
    model = nn.Sequential(OrderedModule(vae=Wrapper(inner, "module")))
    assert find_encoder(model, "0.vae.encoder") is inner.encoder
    assert find_encoder(inner, "") is inner
    assert find_encoder(compiled(inner), "") is inner

    class Trainer:  # not a module, as scvi-tools' models
        module = inner

    assert find_encoder(Trainer(), "encoder") is inner.encoder


class OrderedModule(nn.Module):
    def __init__(self, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)


@pytest.mark.parametrize("name", ["decoder", "encoder.head", "forward"])
def test_a_missing_encoder_is_one_line(name):
    with pytest.raises(InputError) as error:
        find_encoder(nn.DataParallel(Model()), name)
    assert str(error.value) == f"encoder: {name!r}, must be the name of a submodule of DataParallel"
