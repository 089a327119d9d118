"""Samples of many kinds in the shape and type in which a loss function takes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from own_losses import class_rows, count_rows, explicit, factors, gaussian_rows, half_sse, kl
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from phasevae import InputError, predict
from phasevae.datasets.registry import dataset_from_path
from phasevae.prediction.own_loss.rows import rows_of

IMAGES = gaussian_rows(600).astype(np.float32).reshape(-1, 1, 2, 3)
FLAT = IMAGES.reshape(len(IMAGES), -1)


class Seen:
    """Half the squared error with KL, which remembers the shape and type of a sample."""

    def __call__(self, recon, x, mu, logvar):
        self.shape, self.dtype, self.recon_shape = tuple(x.shape[1:]), x.dtype, tuple(recon.shape[1:])
        return half_sse(recon, x) + kl(mu, logvar)


class Pairs(Dataset):
    """Images with labels, as torchvision's data sets give them."""

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, i):
        return torch.as_tensor(IMAGES[i]), i % 10


KINDS = {
    "array": lambda folder: IMAGES,
    "tensor": lambda folder: torch.as_tensor(IMAGES),
    "TensorDataset": lambda folder: TensorDataset(torch.as_tensor(IMAGES), torch.zeros(len(IMAGES))),
    "Dataset": lambda folder: Pairs(),
    "DataLoader": lambda folder: DataLoader(Pairs(), batch_size=100),
    "path": lambda folder: folder / "images.npy",
    "text": lambda folder: str(folder / "images.npy"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_keep_their_shape(kind, tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    seen = Seen()
    prediction = predict(KINDS[kind](tmp_path), 2, loss=seen)
    assert seen.shape == seen.recon_shape == (1, 2, 3) and seen.dtype.is_floating_point
    np.testing.assert_allclose(factors(prediction), explicit(np.cov(FLAT.T, bias=True))[:2], rtol=1e-5)


def test_flattened_images_get_the_shape_that_is_given():
    seen = Seen()
    predict(FLAT, 2, loss=seen, input_shape=(1, 2, 3))
    assert seen.shape == seen.recon_shape == (1, 2, 3)


def test_an_output_of_another_shape():
    def loss(recon, x, mu, logvar):
        assert recon.shape[1:] == (6,)
        return half_sse(recon, x.flatten(1)) + kl(mu, logvar)

    expected = predict(FLAT, 2, loss=Seen())
    np.testing.assert_allclose(factors(predict(IMAGES, 2, loss=loss, output_shape=(6,))), factors(expected), rtol=1e-6)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.int64])
def test_whole_numbers_are_classes(kind):
    def loss(recon, x, mu, logvar):
        assert x.dtype == torch.int64 and x.shape[1:] == (5,)
        return functional.cross_entropy(recon, x, reduction="sum") / len(x) + kl(mu, logvar)

    x = class_rows(500)
    named = predict(x, 2, loss="categorical")
    for data in (x.astype(kind), torch.as_tensor(x.astype(kind))):
        np.testing.assert_allclose(factors(predict(data, 2, loss=loss, output_shape=(3, 5))), factors(named), rtol=1e-6)


def test_bytes_and_booleans_are_numbers():
    """Pixels as bytes are no classes."""
    seen = Seen()
    predict(np.rint(count_rows(300)).astype(np.uint8), 2, loss=seen)
    assert seen.dtype.is_floating_point
    predict(count_rows(300) > 2, 2, loss=seen)
    assert seen.dtype.is_floating_point


def test_one_number_a_sample():
    def loss(recon, x, mu, logvar):
        assert x.ndim == 1
        return functional.cross_entropy(recon, x) + kl(mu, logvar)

    labels = class_rows(300)[:, 0]
    for data in (labels, torch.as_tensor(labels)):
        np.testing.assert_allclose(factors(predict(data, 2, loss=loss, output_shape=(3,))), [1, 1], rtol=1e-6)


def test_a_data_set_of_this_package(tmp_path):
    np.save(tmp_path / "flat.npy", FLAT)
    seen = Seen()
    predict(dataset_from_path(tmp_path / "flat.npy"), 2, loss=seen)
    assert seen.shape == (6,)


def test_thinned_rows_are_spread_over_the_data():
    rows = rows_of(np.arange(1000.0)[:, None])
    for most in (1, 7, 64, 999, 1000, 5000):
        thinned = rows.thinned(most)[:, 0]
        assert 1 <= len(thinned) <= most and np.all(np.diff(thinned) > 0)
        assert len(thinned) >= min(most, 1000) / 2 and thinned[-1] - thinned[0] >= 0.4 * 1000 * (most > 1)


def test_rows_that_repeat_with_a_period():
    """The probes must not take the same row each time."""
    x = np.tile([[1.0], [-1.0]], (1000, 1))
    assert predict(x, 1, loss=Seen()).critical_kl_weight == pytest.approx(1)


def test_a_target_of_another_kind():
    """Classes from continuous inputs: the encoder sees the features, the decoder gives the label."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 3))
    labels = (x[:, 0] + 0.5 * rng.normal(size=2000) > 0).astype(np.int64)

    def loss(recon, x, mu, logvar):
        return functional.cross_entropy(recon, x) + kl(mu, logvar)

    prediction = predict(x, 1, loss=loss, target=labels, output_shape=(2,))
    design = x - x.mean(0)
    fitted = design @ np.linalg.lstsq(design, labels - labels.mean(), rcond=None)[0]
    assert prediction.critical_kl_weight == pytest.approx(fitted.var() / labels.var(), rel=1e-6)


def test_a_spectrum_is_not_enough():
    from phasevae import compute_spectrum

    with pytest.raises(InputError, match="data: a spectrum, must be the samples for a loss of your own"):
        predict(compute_spectrum(FLAT), 2, loss=Seen())


def test_more_rows_than_the_optimum_is_first_sought_on():
    """Rows whose mean drifts: those of the first search are not all."""

    def loss(recon, x, mu, logvar):
        return (recon.exp() - x * recon).sum(1).mean() + kl(mu, logvar)

    rng = np.random.default_rng(0)
    x = rng.poisson(np.exp(rng.normal(size=(9000, 1)) * [0.5, 0.3, 0.4] + np.linspace(0, 1, 9000)[:, None]))
    named = predict(x.astype(float), 2, loss="poisson")
    own = predict(x.astype(float), 2, loss=loss)
    np.testing.assert_allclose(factors(own), factors(named), rtol=1e-6)
