from __future__ import annotations

from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.distributions import Independent, LogNormal, MultivariateNormal, Normal

from phasevae.errors import InputError
from phasevae.prediction.encoder_outputs import mu_and_logvar

MU = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
LOGVAR = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
STD, VAR = (0.5 * LOGVAR).exp(), LOGVAR.exp()
OTHER = torch.zeros(5, 7)
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
    "more than two": (MU, LOGVAR, OTHER, None),
    "nested": ((MU, LOGVAR), [OTHER]),
    "halves": torch.cat([MU, LOGVAR], dim=1),
    "named tuple": Named(OTHER, MU, LOGVAR),
    "embedding": ModelOutput(embedding=MU, log_covariance=LOGVAR),
    "z_mean": {"z": OTHER, "z_mean": MU, "z_log_var": LOGVAR},
    "log_var": {"mean": MU, "log_var": LOGVAR, "std": STD},
    "log_variance": SimpleNamespace(loc=MU, log_variance=LOGVAR),
    "scale": {"loc": MU, "scale": STD},
    "std": SimpleNamespace(mean=MU, std=STD),
    "sigma": {"mu": MU, "sigma": STD},
    "var": {"mu": MU, "var": VAR},
    "arrays": {"mu": MU.numpy(), "logvar": LOGVAR.numpy()},
    "Normal": Normal(MU, STD),
    "Independent": Independent(Independent(Normal(MU, STD), 0), 1),
    "MultivariateNormal": MultivariateNormal(MU, covariance_matrix=torch.diag_embed(VAR)),
    "scvi": (Normal(MU, STD), OTHER),
    "scvi's dictionary": {"z": OTHER, "qz": Normal(MU, STD), "ql": None},
    "a sample and a distribution": (OTHER, Normal(MU, STD)),
    "latent_dist": ModelOutput(latent_dist=SimpleNamespace(mean=MU, logvar=LOGVAR)),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_mu_and_logvar_of(name):
    mu, logvar = mu_and_logvar(OUTPUTS[name])
    np.testing.assert_array_equal(mu, MU)
    np.testing.assert_allclose(logvar, LOGVAR, rtol=1e-4, atol=1e-6)


def test_the_channels_of_a_tensor_in_space_are_halved():
    moments = torch.randn(2, 6, 4, 5)
    mu, logvar = mu_and_logvar(moments)
    assert torch.equal(mu, moments[:, :3]) and torch.equal(logvar, moments[:, 3:])


def test_the_log_of_a_half_is_taken_in_double_precision():
    scale = torch.full((1, 1), 0.3, dtype=torch.float16)
    _, logvar = mu_and_logvar(Normal(torch.zeros_like(scale), scale))
    assert float(logvar) == pytest.approx(2 * np.log(float(scale)), abs=1e-12)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (torch.zeros(2, 3, 4), r"a tensor of shape \(2, 3, 4\), must be"),
        (torch.zeros(2, 3), r"a tensor of shape \(2, 3\), must be"),
        (torch.zeros(4), "a tensor of shape"),
        ({"mu": MU}, "gives a dict"),
        ((), "gives a tuple"),
        (None, "gives a NoneType"),
        (LogNormal(MU, STD), "the distribution LogNormal, must be Normal"),
        (MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.5, 1.0]])), "correlated latents"),
    ],
)
def test_another_output_is_one_line(output, words):
    with pytest.raises(InputError, match=words) as error:
        mu_and_logvar(output)
    assert str(error.value).startswith("encoder: ") and "\n" not in str(error.value)
