"""Networks of the user's own in `phasevae.sweep`, as a function and as a file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import phasevae
from phasevae import InputError
from phasevae.sweeps.network_file import NetworkFile, network_of

IMAGES = np.random.default_rng(0).normal(size=(200, 2, 4)).astype(np.float32) * [[[3.0], [1.0]]]


class Flat(nn.Linear):
    def forward(self, x):
        return super().forward(x.flatten(1))


def build_flat(input_shape, n_latent):
    assert input_shape == (2, 4)
    return Flat(8, 2 * n_latent), nn.Sequential(nn.Linear(n_latent, 8), nn.Unflatten(1, input_shape))


def test_a_sweep_takes_a_function_or_a_file(tmp_path):
    short = {"n_latent": 1, "weights": [1.0, 20.0], "samples": 640, "batch": 64, "progress": False}
    result = phasevae.sweep(build_flat, IMAGES, **short, standardize="center")
    assert len(result.sweep) == 2
    model = result.load(1.0)
    assert model.decode(torch.zeros(3, 1)).shape == (3, 8)
    source = NetworkFile.of_function(build_flat)
    assert source.name == "test_in_python.py" and "def build_flat" in source.text
    (tmp_path / "mine.py").write_text(source.text)
    again = phasevae.sweep(f"{tmp_path}/mine.py:build_flat", IMAGES, **short, standardize="center")
    assert again.sweep["elbo"].equals(result.sweep["elbo"])


def test_other_things_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"build: of type int, must be a function build\(input_shape, n_latent\)"):
        network_of(3)
    with pytest.raises(InputError, match=r"gone.py: no such file"):
        network_of(tmp_path / "gone.py")


def made_around(width: int):
    def build(input_shape, n_latent):
        return nn.Linear(8, 2 * n_latent), nn.Sequential(nn.Linear(n_latent, width), nn.Linear(width, 8))

    return build


def test_functions_that_their_source_does_not_tell_apart_are_told_apart():
    for one, other in ((made_around(3), made_around(4)), [eval("lambda shape, n: None") for _ in range(2)]):
        first, again, second = (NetworkFile.of_function(function) for function in (one, one, other))
        assert first.sha256 == again.sha256 != second.sha256
    assert NetworkFile.of_function(build_flat).text == NetworkFile.of_function(build_flat).text


class Maker:
    def __init__(self, width):
        self.width = width

    def build(self, input_shape, n_latent):
        return nn.Linear(8, 2 * n_latent), nn.Linear(n_latent, self.width)

    def __eq__(self, other):
        return True

    __hash__ = object.__hash__


def function_in(folder, text, **names):
    path = folder / "mine.py"
    path.write_text(text)
    module = {"__name__": "mine", **names}
    exec(compile(text, str(path), "exec"), module)
    return module["build"]


def digest(function) -> str:
    return NetworkFile.of_function(function).sha256


def test_a_method_is_told_apart_by_its_object():
    one, other = Maker(2), Maker(32)
    assert digest(one.build) == digest(one.build) != digest(other.build)


@pytest.mark.parametrize(
    "text",
    [
        "def build(shape, n): return [WIDTH for _ in range(2)]",
        "def build(shape, n): return helper()\ndef helper(): return WIDTH",
        "class Net:\n    def __init__(self): self.width = WIDTH\ndef build(shape, n): return Net()",
        "def build(shape, n, width=WIDTH): return width",
        "def build(shape, n, *, width=WIDTH): return width",
    ],
)
@pytest.mark.parametrize("values", [(2, 32), (Maker(2), Maker(32))], ids=["constants", "objects"])
def test_values_that_a_function_uses_count(text, values, tmp_path):
    first, second = (function_in(tmp_path, text, WIDTH=value) for value in values)
    assert digest(first) == digest(first) != digest(second)
    again = function_in(tmp_path, text, WIDTH=values[0])
    assert digest(again) == digest(first)
    again.__globals__["WIDTH"] = again.__defaults__ = again.__kwdefaults__ = None
    assert digest(again) != digest(first)


def test_modules_of_the_users_own_make_a_mark_and_installed_ones_do_not(tmp_path):
    text = "from torch import nn\nfrom torch.nn import Linear\nimport math\n"
    body = "def build(shape, n): return nn.Linear(2, math.prod(shape)), Linear(1, 2), {}"
    assert NetworkFile.of_function(function_in(tmp_path, text + body.format(1))).text == text + body.format(1)
    own = [type(nn)("blocks") for _ in range(2)]
    first, second = (function_in(tmp_path, body.format("blocks.Block()"), nn=nn, blocks=module) for module in own)
    assert digest(first) == digest(first) != digest(second)
