from __future__ import annotations

from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, LogNormal, MultivariateNormal, Normal

from phasevae.errors import InputError
from phasevae.prediction.encoder_outputs import PosteriorReader
from phasevae.prediction.output_roles import SPREAD_KINDS

ROWS, N = 200, 3


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


MU, LOGVAR = normal(0, ROWS, N), normal(1, ROWS, N) - 1
STD, VAR = (0.5 * LOGVAR).exp(), LOGVAR.exp()
Z = MU + STD * normal(2, ROWS, N)
LONE = torch.tensor([[0.1, -0.2, 0.1]])
HIDDEN = normal(3, ROWS, 7)
MAP, LOGVAR_MAP = (part[:, :, None, None] for part in (MU, LOGVAR))
Named = namedtuple("Named", ["z", "mu", "logvar"])


class ModelOutput(OrderedDict):
    """As the outputs of transformers, diffusers and pythae: keys are attributes too."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


OUTPUTS = {
    "tuple": (MU, LOGVAR),
    "list": [MU, LOGVAR],
    "more of other sizes": (MU, LOGVAR, HIDDEN, None),
    "hidden layer first": (HIDDEN, MU, LOGVAR),
    "sample last": (MU, LOGVAR, Z),
    "sample first": (Z, MU, LOGVAR),
    "sample of a std last": (MU, STD, Z),
    "sample of a std first": (Z, MU, STD),
    "sample of a variance": (MU, VAR, Z),
    "sample of a log std": (Z, MU, 0.5 * LOGVAR),
    "sample and hidden layer": (HIDDEN, Z, MU, LOGVAR),
    "sample and another of its size": (MU, LOGVAR, Z, normal(4, ROWS, N)),
    "nested": ((MU, LOGVAR), [HIDDEN]),
    "halves": torch.cat([MU, LOGVAR], dim=1),
    "halves in a tuple": (HIDDEN, torch.cat([MU, LOGVAR], dim=1)),
    "maps of one pixel": (MAP, LOGVAR_MAP),
    "halves of one pixel": torch.cat([MAP, LOGVAR_MAP], dim=1),
    "sample of one pixel": (Z[:, :, None, None], MAP, LOGVAR_MAP),
    "halves of one step": torch.cat([MAP, LOGVAR_MAP], dim=1)[..., 0],
    "halves, channels last": torch.cat([MU, LOGVAR], dim=1)[:, None],
    "named tuple": Named(HIDDEN, MU, LOGVAR),
    "embedding": ModelOutput(embedding=MU, log_covariance=LOGVAR),
    "z_mean": {"z": HIDDEN, "z_mean": MU, "z_log_var": LOGVAR},
    "log_var": {"mean": MU, "log_var": LOGVAR, "std": STD},
    "log_variance": SimpleNamespace(loc=MU, log_variance=LOGVAR),
    "log_std": {"mu": MU, "log_std": 0.5 * LOGVAR},
    "scale": {"loc": MU, "scale": STD},
    "std": SimpleNamespace(mean=MU, std=STD),
    "sigma": {"mu": MU, "sigma": STD},
    "var": {"mu": MU, "var": VAR},
    "arrays": {"mu": MU.numpy(), "logvar": LOGVAR.numpy()},
    "Normal": Normal(MU, STD),
    "Independent": Independent(Independent(Normal(MU, STD), 0), 1),
    "MultivariateNormal": MultivariateNormal(MU, covariance_matrix=torch.diag_embed(VAR)),
    "scvi": (Normal(MU, STD), HIDDEN),
    "scvi's dictionary": {"z": HIDDEN, "qz": Normal(MU, STD), "ql": None},
    "a sample and a distribution": (Z, Normal(MU, STD)),
    "a dictionary in a tuple": (Z, {"mu": MU, "logvar": LOGVAR}),
    "latent_dist": ModelOutput(latent_dist=SimpleNamespace(mean=MU, logvar=LOGVAR)),
}


def read(output, **options):
    mu, logvar = PosteriorReader(N, **options)(output)
    return torch.as_tensor(mu).flatten(1), torch.as_tensor(logvar).flatten(1)


@pytest.mark.parametrize("name", OUTPUTS)
def test_mu_and_logvar_of(name):
    mu, logvar = read(OUTPUTS[name])
    np.testing.assert_array_equal(mu, MU)
    np.testing.assert_allclose(logvar, LOGVAR, rtol=1e-4, atol=1e-5)


GIVEN = dict(zip(SPREAD_KINDS, (LOGVAR, STD, VAR, 0.5 * LOGVAR), strict=True))


@pytest.mark.parametrize("kind", SPREAD_KINDS)
def test_a_width_that_is_named(kind):
    for output in ((MU, GIVEN[kind]), torch.cat([MU, GIVEN[kind]], dim=1), (Z, MU, GIVEN[kind])):
        mu, logvar = read(output, spread=kind)
        np.testing.assert_array_equal(mu, MU)
        np.testing.assert_allclose(logvar, LOGVAR, rtol=1e-4, atol=1e-5)


def test_a_log_variance_above_zero_may_be_named():
    assert read((MU, LOGVAR.abs() + 0.1), spread="logvar")[1].min() > 0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    scale=st.floats(0.01, 3.0),
    level=st.floats(-4.0, 0.5),
    noise_scale=st.sampled_from([1.0, 0.3]),
    first=st.booleans(),
)
def test_a_sample_is_recognised_from_the_start_to_the_end_of_a_training(seed, scale, level, noise_scale, first):
    """At the start mu and logvar are small, and z is little else than noise."""
    mu, logvar = scale * normal(seed, 128, 8), level + 0.3 * scale * normal(seed + 1, 128, 8)
    z = mu + noise_scale * (0.5 * logvar).exp() * normal(seed + 2, 128, 8)
    found = PosteriorReader(8, noise_scale=noise_scale)((z, mu, logvar) if first else (mu, logvar, z))
    assert torch.equal(found[0], mu) and torch.equal(found[1], logvar)


def test_what_first_outputs_leave_open_later_ones_decide():
    """A log of a standard deviation is no log variance, but is both where it is zero."""
    reader = PosteriorReader(N)
    still = torch.zeros_like(LOGVAR)
    assert torch.equal(reader((MU + normal(5, ROWS, N), MU, still))[1], still)
    np.testing.assert_allclose(reader((Z, MU, 0.5 * LOGVAR))[1], LOGVAR, rtol=1e-6)


def test_what_is_decided_stays():
    reader = PosteriorReader(N)
    reader((MU, LOGVAR))
    above = LOGVAR.abs() + 0.1
    assert torch.equal(reader((MU, above))[1], above)


def test_heads_that_start_at_zero():
    zero = torch.zeros(ROWS, 2 * N)
    assert not any(part.any() for part in PosteriorReader(N)(zero))


def test_the_channels_of_a_tensor_in_space_are_halved():
    moments = torch.randn(2, 6, 4, 5)
    mu, logvar = PosteriorReader(60)(moments)
    assert torch.equal(mu, moments[:, :3]) and torch.equal(logvar, moments[:, 3:])


def test_the_log_of_a_half_is_taken_in_double_precision():
    scale = torch.full((1, 1), 0.3, dtype=torch.float16)
    _, logvar = PosteriorReader(1)(Normal(torch.zeros_like(scale), scale))
    assert float(logvar) == pytest.approx(2 * np.log(float(scale)), abs=1e-12)


REFUSED = {
    "three axes": (torch.zeros(2, 3, 4), r"a tensor of shape \(2, 3, 4\), must be"),
    "mu alone": (MU, r"a tensor of shape \(200, 3\), must be \[batch, 6\]"),
    "a vector": (torch.zeros(4), "a tensor of shape"),
    "hidden layer of another width": (HIDDEN, r"a tensor of shape \(200, 7\), must be"),
    "rectified hidden layer": (torch.relu(normal(6, ROWS, 2 * N)), "without negative numbers, as a hidden layer"),
    "sigmoid hidden layer": (torch.sigmoid(normal(6, ROWS, 2 * N)), "without negative numbers"),
    "std": ((MU, STD), "positive everywhere, must be a log variance; give spread='std'"),
    "variance": ((MU, VAR), "positive everywhere, must be a log variance"),
    "halves with a std": (torch.cat([MU, STD], dim=1), "positive everywhere"),
    "a sample that is mu": ((MU, MU, LOGVAR), "3 tensors of 3 latents, of which none is a sample"),
    "an unrelated third": ((MU, LOGVAR, normal(7, ROWS, N)), "of which none is a sample"),
    "too few samples": ((LONE + 1, LONE, -LONE), "too few samples to decide"),
    "other sizes": ((HIDDEN, HIDDEN), r"shapes \(200, 7\), \(200, 7\), two must have 3 latents"),
    "a dictionary": ({"mu": MU}, "gives a dict"),
    "nothing": ((), "gives a tuple"),
    "None": (None, "gives a NoneType"),
    "LogNormal": (LogNormal(MU, STD), "the distribution LogNormal, must be Normal"),
    "correlated": (
        MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.5, 1.0]])),
        "correlated latents",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_output_is_one_line(name):
    output, words = REFUSED[name]
    with pytest.raises(InputError, match=words) as error:
        PosteriorReader(N)(output)
    assert str(error.value).startswith("encoder: ") and "\n" not in str(error.value)


def test_another_kind_of_width_is_one_line():
    with pytest.raises(InputError, match="spread: 'sd', must be one of logvar, std, var, log_std"):
        PosteriorReader(N, spread="sd")
