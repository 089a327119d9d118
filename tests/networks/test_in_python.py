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
    with pytest.raises(InputError, match=r"build: 3, must be a function build\(input_shape, n_latent\)"):
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
