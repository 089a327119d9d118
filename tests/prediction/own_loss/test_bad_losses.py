"""Losses and options that cannot be judged: one clear line each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from own_losses import codes, factors, gaussian_rows, half_sse, kl
from torch.nn import functional

from phasevae import InputError, predict
from phasevae.prediction.own_loss.function import load_function

X = gaussian_rows(400)
COUNTS = np.random.default_rng(0).poisson(2.0, (400, 4)).astype(float)


def not_differentiable(recon, x, mu, logvar):
    return half_sse(recon.detach(), x) + kl(mu, logvar)


def in_numpy(recon, x, mu, logvar):
    return float(np.square(recon.detach().numpy() - x.numpy()).mean())


def vector(recon, x, mu, logvar):
    return (recon - x).square().sum(1) + kl(mu, logvar)


def pair(recon, x, mu, logvar):
    return half_sse(recon, x), kl(mu, logvar)


def batch_norm(recon, x, mu, logvar):
    return half_sse(functional.batch_norm(recon, None, None, training=True), x) + kl(mu, logvar)


def contrastive(recon, x, mu, logvar):
    return functional.cross_entropy(recon @ x.T, torch.arange(len(x))) + kl(mu, logvar)


def variance_over_the_batch(recon, x, mu, logvar):
    return 3 * (recon - x).square().mean().log() + kl(mu, logvar)


def without_kl(recon, x, mu, logvar):
    return half_sse(recon, x)


def without_mu(recon, x, mu, logvar):
    return half_sse(recon, x) + 0.5 * (logvar.exp() - logvar - 1).sum(1).mean()


def without_recon(recon, x, mu, logvar):
    return 0 * recon.sum() + kl(mu, logvar)


def nan_everywhere(recon, x, mu, logvar):
    return (recon - 1e9).log().sum(1).mean() + kl(mu, logvar)


def without_optimum(recon, x, mu, logvar):
    return -(recon * (x + 50)).sum(1).mean() + kl(mu, logvar)


def random(recon, x, mu, logvar):
    return half_sse(recon, x) + kl(mu, logvar) * torch.rand(())


def noisy_samples(recon, x, mu, logvar):
    z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
    return half_sse(recon, x) + z.square().sum(1).mean()


def product(recon, x, mu, logvar):
    return half_sse(recon, x) * (1 + kl(mu, logvar))


def other_shape(recon, x, mu, logvar):
    return half_sse(recon[:, :2], x) + kl(mu, logvar)


def two_arguments(recon, x):
    return half_sse(recon, x)


def raises(recon, x, mu, logvar):
    raise KeyError("weights\nof another line")


CASES = {
    not_differentiable: "is not differentiable by the reconstruction, must be made of torch operations",
    in_numpy: "returns a float, must be a scalar tensor",
    vector: r"returns a tensor of shape \(\d+,\), must be a scalar tensor",
    pair: "returns a tuple, must be a scalar tensor",
    batch_norm: "mixes samples",
    contrastive: "mixes samples",
    variance_over_the_batch: "mixes samples",
    without_kl: "does not depend on mu, must contain a KL term of mu and logvar",
    without_mu: "does not depend on mu, must contain a KL term of mu and logvar",
    without_recon: "does not depend on the reconstruction",
    nan_everywhere: "is nan at mu = logvar = 0 for every constant reconstruction tried",
    without_optimum: "has no finite optimum, it still falls at output 0",
    random: "is random, must give the same value for the same batch",
    noisy_samples: "is random, must give the same value for the same batch",
    product: "the weight of its reconstruction depends on mu, must be a sum of a reconstruction part and a KL part",
    other_shape: "fails for outputs of shape .* give output_shape if the network's output has another shape",
    two_arguments: "fails for outputs of shape .*TypeError",
    raises: "fails for outputs of shape .*KeyError",
}


@pytest.mark.parametrize("loss", CASES, ids=lambda loss: loss.__name__)
def test_one_line_names_the_loss_and_what_is_wrong(loss):
    with pytest.raises(InputError, match=CASES[loss]) as error:
        predict(X, 2, loss=loss)
    assert str(error.value).startswith(f"loss {loss.__name__}: ")
    assert "\n" not in str(error.value)


def usual(recon, x, mu, logvar):
    return half_sse(recon, x) + kl(mu, logvar)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma2": 1.0}, "loss: a function, must be given without sigma2, beta, library and loss_options"),
        ({"library": "pythae"}, "loss: a function, must be given without"),
        ({"loss_options": {"scale": 1.0}}, "loss: a function, must be given without"),
        ({"batch_size": 0}, "batch_size: 0, must be a whole number, 1 or more"),
        ({"batch_size": 2.5}, r"batch_size: 2\.5, must be a whole number"),
        ({"input_shape": (7, 2)}, "data: 6 values a sample, must be 7 x 2 as the given shape says"),
        ({"output_shape": (3,)}, "fails for outputs of shape"),
        ({"output_shape": (0,)}, r"output_shape: \(0,\), must be the shape of one sample's output"),
        ({"output_shape": "six"}, "output_shape: 'six', must be the shape of one sample's output"),
        ({"target": X[:399]}, "target: has another number of rows than the data"),
        ({"target": np.vstack([X, X])}, "target: has another number of rows than the data"),
        ({"target": "absent.npy"}, "absent.npy: no such file"),
        ({"kl_weight": 0.0}, "kl_weight: 0.0, must be a positive number"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(InputError, match=words) as error:
        predict(X, 2, loss=usual, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", [{"batch_size": 8}, {"output_shape": (6,)}, {"input_shape": (6,)}, {"target": X}])
def test_options_of_functions_alone(option):
    with pytest.raises(InputError, match=f"{next(iter(option))}: must be left out unless the loss is a function"):
        predict(X, 2, loss="sse", **option)


def poisson(recon, x, mu, logvar):
    return functional.poisson_nll_loss(recon, x, reduction="sum") / len(x) + kl(mu, logvar)


def test_counts_that_are_all_zero():
    with pytest.raises(InputError) as error:
        predict(np.zeros((100, 4)), 2, loss=poisson)
    assert "\n" not in str(error.value)


def test_a_feature_without_counts_is_left_out():
    x = np.insert(COUNTS, 2, 0.0, axis=1)
    prediction = predict(x, 2, loss=poisson)
    assert "constant-outputs" in codes(prediction)
    (message,) = (warning.message for warning in prediction.warnings if warning.code == "constant-outputs")
    assert message == "1 of 5 outputs has the same score in every sample (2): no latent can carry them"
    np.testing.assert_allclose(factors(prediction), factors(predict(COUNTS, 2, loss=poisson)), rtol=1e-6)


def test_the_variance_of_a_constant_feature_is_left_out():
    def loss(heads, x, mu, logvar):
        mean, log_variance = heads
        return (0.5 * (x - mean) ** 2 / log_variance.exp() + 0.5 * log_variance).sum(1).mean() + kl(mu, logvar)

    without = predict(X, 2, loss=loss, output_shape=[(6,), (6,)])
    prediction = predict(np.insert(X, 2, 5.0, axis=1), 2, loss=loss, output_shape=[(7,), (7,)])
    assert "constant-outputs" in codes(prediction)
    np.testing.assert_allclose(factors(prediction), factors(without), rtol=1e-6)


def test_one_row():
    with pytest.raises(InputError, match="at least 2 samples"):
        predict(X[:1], 2, loss=usual)


@pytest.mark.parametrize(
    ("text", "address", "words"),
    [
        ("", "loss.py", r"loss-function: 'loss\.py', must be FILE\.py:FUNCTION"),
        ("", "absent.py:loss", "absent.py: no such file"),
        ("other = 1", "loss.py:loss", "loss.py: has no function 'loss'"),
        ("loss = 1", "loss.py:loss", "loss.py: has no function 'loss'"),
        ("import absent_module", "loss.py:loss", "cannot be run .ModuleNotFoundError"),
        ("def loss(", "loss.py:loss", "cannot be run .SyntaxError"),
        ("raise ValueError('one\\ntwo')", "loss.py:loss", "cannot be run .ValueError: one."),
    ],
)
def test_files_of_functions(text, address, words, tmp_path):
    (tmp_path / "loss.py").write_text(text)
    with pytest.raises(InputError, match=words) as error:
        load_function(address if ":" not in address else f"{tmp_path}/{address}")
    assert "\n" not in str(error.value)


def test_a_file_may_import_its_neighbours(tmp_path):
    (tmp_path / "beside_it.py").write_text("WEIGHT = 3")
    (tmp_path / "loss.py").write_text("from beside_it import WEIGHT\ndef loss(recon, x, mu, logvar): return WEIGHT")
    assert load_function(f"{tmp_path}/loss.py:loss")(0, 0, 0, 0) == 3
