from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import phasevae
from phasevae import InputError
from phasevae.architecture import Architecture
from phasevae.artifacts.tensors import write_tensors
from phasevae.model import VAEEnsemble, initialise
from phasevae.trained import save_model

ARCHITECTURE = Architecture(dimension=5, n_latent=2, hidden=(7, 3))
MEAN = np.array([1.0, -2.0, 0.0, 30.0, 0.5], dtype=np.float32)


def torch_network(ensemble: VAEEnsemble, index: int, part: str) -> nn.Sequential:
    """The same network built of torch's own layers: an independent implementation."""
    tensors = ensemble.tensors(index)
    names = sorted({name.rsplit(".", 1)[0] for name in tensors if name.startswith(part)})
    modules: list[nn.Module] = []
    for name in names:
        weight, bias = (torch.from_numpy(tensors[f"{name}.{kind}"]) for kind in ("weight", "bias"))
        linear = nn.Linear(*weight.shape)
        linear.weight.data, linear.bias.data = weight.T.clone(), bias.clone()
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def test_ensemble_computes_what_torch_layers_compute():
    ensemble = initialise(ARCHITECTURE, [0, 1, 2])
    x = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    mu, logvar = ensemble.encode(x)
    decoded = ensemble.decode(mu)
    for index in range(3):
        expected = torch_network(ensemble, index, "encoder")(x[index])
        assert torch.allclose(torch.cat((mu, logvar), -1)[index], expected, atol=1e-6)
        assert torch.allclose(decoded[index], torch_network(ensemble, index, "decoder")(mu[index]), atol=1e-6)


def test_log_variance_is_clamped():
    ensemble = initialise(ARCHITECTURE, [0])
    _, low = ensemble.encode(torch.full((1, 1, 5), 1e4))
    _, high = ensemble.encode(torch.full((1, 1, 5), -1e4))
    assert torch.all((low >= -12) & (low <= 8) & (high >= -12) & (high <= 8))
    assert {-12.0, 8.0} & set(torch.cat((low, high)).flatten().tolist())


def test_initial_models_depend_on_their_seed_alone():
    together, alone = initialise(ARCHITECTURE, [4, 9, 4]), initialise(ARCHITECTURE, [9])
    assert torch.equal(together.parameters[1], alone.parameters[0])
    assert torch.equal(together.parameters[0], together.parameters[2])
    assert not torch.equal(together.parameters[0], together.parameters[1])


def test_initial_weights_fill_the_usual_range():
    wide = initialise(Architecture(400, 1, (200,)), [0]).tensors(0)["encoder.0.weight"]
    assert np.abs(wide).max() <= 1 / 20
    assert wide.std() == pytest.approx(1 / 20 / np.sqrt(3), rel=0.01)


def test_saved_model_is_loaded_the_same(tmp_path):
    ensemble = initialise(ARCHITECTURE, [0, 1])
    save_model(tmp_path / "weights.safetensors", ensemble, 1, MEAN, {"sigma2": 0.25, "beta": 1.0})
    loaded = phasevae.load(tmp_path)
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    mu, variance = loaded.encode(x.numpy())
    expected_mu, expected_logvar = ensemble.member(1).encode(x[None] - torch.from_numpy(MEAN))
    assert torch.equal(mu, expected_mu[0])
    assert torch.equal(variance, expected_logvar[0].exp())
    assert torch.equal(loaded.decode(mu), ensemble.member(1).decode(mu[None])[0] + torch.from_numpy(MEAN))
    assert loaded.sigma2 == 0.25


@pytest.mark.parametrize(
    "x", [np.ones((4, 5), order="F"), np.ones((5, 4)).T, np.ones((0, 5)), np.ones((8, 10))[::2, ::2]]
)
def test_rows_may_lie_in_memory_as_they_like(tmp_path, x):
    save_model(tmp_path / "weights.safetensors", initialise(ARCHITECTURE, [0]), 0, MEAN, {"sigma2": 0.25, "beta": 1.0})
    loaded = phasevae.load(tmp_path)
    for given_x in (x, torch.from_numpy(x.astype(np.float32))):
        mu, _ = loaded.encode(given_x)
        assert torch.allclose(mu, loaded.encode(np.ascontiguousarray(x))[0])
        assert mu.shape == (len(x), 2)


def test_samples_have_the_decoder_variance(tmp_path):
    silent = VAEEnsemble(ARCHITECTURE, torch.zeros(1, ARCHITECTURE.row_length))
    save_model(tmp_path / "weights.safetensors", silent, 0, MEAN, {"sigma2": 0.25, "beta": 1.0})
    drawn = phasevae.load(tmp_path).sample(20_000, seed=3)
    assert drawn.shape == (20_000, 5)
    assert drawn.mean(0).numpy() == pytest.approx(MEAN, abs=0.02)
    assert drawn.var(0).numpy() == pytest.approx(np.full(5, 0.25), rel=0.05)


def test_bad_weights_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(InputError, match="no such file"):
        phasevae.load(path)
    ensemble = initialise(ARCHITECTURE, [0])
    save_model(path, ensemble, 0, MEAN, {"sigma2": 0.25, "beta": 1.0})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        phasevae.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("decoder.1.bias", None, r"layer decoder\.1"),
        ("decoder.1.bias", np.zeros(4, np.float32), r"layer decoder\.1"),
        ("mean", None, r"the mean of the data is missing or not \[5\], train the point again"),
        ("mean", np.zeros((1, 5), np.float32), r"the mean of the data is missing or not \[5\]"),
        ("mean", np.full(5, np.nan, np.float32), "array 'mean' is float32, must hold finite numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, name, other, message):
    tensors = {**initialise(ARCHITECTURE, [0]).tensors(0), "mean": MEAN, name: other}
    shape = {"dimension": 5, "n_latent": 2, "hidden": [7, 3]}
    kept = {key: array for key, array in tensors.items() if array is not None}
    write_tensors(tmp_path / "weights.safetensors", kept, {"architecture": shape, "sigma2": 1.0, "beta": 1.0})
    with pytest.raises(InputError, match=message):
        phasevae.load(tmp_path)


def stored_model(folder):
    save_model(folder / "weights.safetensors", initialise(ARCHITECTURE, [0]), 0, MEAN, {"sigma2": 1.0, "beta": 1.0})
    return phasevae.load(folder)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((3, 4)), r"x: shape \(3, 4\), must be \[rows, 5\]"),
        ([["a"] * 5], r"x: of type list, must be numbers \[rows, 5\]"),
        ([[1, 2], [3]], r"x: of type list, must be numbers \[rows, 5\]"),
        (None, r"x: shape \(\), must be \[rows, 5\]"),
    ],
)
def test_wrong_data_are_refused(tmp_path, x, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        stored_model(tmp_path).encode(x)


@pytest.mark.parametrize("wrong", [-1, 2.5, "many", None, True, 2**63])
@pytest.mark.parametrize("name", ["n", "seed"])
def test_numbers_of_samples_and_seeds_are_whole(tmp_path, name, wrong):
    with pytest.raises(InputError, match=f"^{name}: {wrong!r}, must be a whole number, 0 or more"):
        stored_model(tmp_path).sample(**{"n": 2, "seed": 0, name: wrong})


def test_any_whole_number_of_samples_is_drawn(tmp_path):
    model = stored_model(tmp_path)
    assert model.sample(0).shape == (0, 5)
    np.testing.assert_array_equal(model.sample(np.int64(3), seed=np.int64(1)), model.sample(3, seed=1))
