"""Models that were trained without phasevae, diagnosed in Python and by the command.

pythae is not a dependency of the tests. `PythaeLike` has the interface of its models: `encoder(x)` and `decoder(z)`
return mappings whose keys are attributes as well, with `embedding` and `log_covariance`, and `reconstruction`.
"""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

import phasevae
from phasevae.cli import main

SIGNAL = np.array([6.0, 3.0])
NOISE = 0.05
STEPS = 400
N_LATENT = 4


class PlainVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        self.mu, self.logvar = nn.Linear(32, N_LATENT), nn.Linear(32, N_LATENT)
        self.decoder = nn.Sequential(nn.Linear(N_LATENT, 32), nn.ReLU(), nn.Linear(32, 64))

    def encode(self, x):
        h = self.body(x)
        return self.mu(h), self.logvar(h)

    def decode(self, z):
        return self.decoder(z)


class ConvVAE(nn.Module):
    """On images [1, 8, 8], with batch normalisation, and logvar and mu in one tensor."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2 * N_LATENT)
        )
        self.decoder = nn.Sequential(
            nn.Linear(N_LATENT, 64), nn.Unflatten(1, (4, 4, 4)), nn.ReLU(), nn.ConvTranspose2d(4, 1, 4, 2, 1)
        )

    def encode(self, x):
        return self.encoder(x).chunk(2, -1)

    def decode(self, z):
        return self.decoder(z)


class ModelOutput(OrderedDict):
    """As in pythae: a mapping whose items are attributes as well."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        super().__setattr__(key, value)


class PythaeEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        self.embedding, self.log_var = nn.Linear(32, N_LATENT), nn.Linear(32, N_LATENT)

    def forward(self, x):
        h = self.layers(x.flatten(1))
        return ModelOutput(embedding=self.embedding(h), log_covariance=self.log_var(h))


class PythaeDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(N_LATENT, 32), nn.ReLU(), nn.Linear(32, 64))

    def forward(self, z):
        return ModelOutput(reconstruction=self.layers(z).unflatten(1, (1, 8, 8)))


class PythaeLike(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = PythaeEncoder(), PythaeDecoder()

    def forward(self, inputs):
        z = self.encoder(inputs["data"]).embedding
        return ModelOutput(recon_x=self.decoder(z).reconstruction, z=z)


MODELS = {
    "plain": (PlainVAE, (64,), lambda model: (model.encode, model.decode)),
    "convolutional": (ConvVAE, (1, 8, 8), lambda model: (model.encode, model.decode)),
    "pythae": (
        PythaeLike,
        (1, 8, 8),
        lambda model: (
            lambda x: (model.encoder(x).embedding, model.encoder(x).log_covariance),
            lambda z: model.decoder(z).reconstruction,
        ),
    ),
}


@pytest.fixture(scope="module")
def images():
    """Images of two smooth patterns with random amplitudes, and noise."""
    rng = np.random.default_rng(0)
    along = np.cos(np.pi * (np.arange(8) + 0.5) / 8)
    patterns = np.stack([np.outer(along, np.ones(8)), np.outer(np.ones(8), along)]).reshape(2, 64)
    patterns /= np.linalg.norm(patterns, axis=1, keepdims=True)
    x = rng.normal(size=(3000, 2)) * np.sqrt(SIGNAL - NOISE) @ patterns + NOISE**0.5 * rng.normal(size=(3000, 64))
    return x.astype(np.float32), patterns


@pytest.fixture(scope="module", params=MODELS)
def trained(request, images):
    """A model trained with the squared error and KL of each sample, summed: an effective variance of 1/2."""
    build, shape, parts = MODELS[request.param]
    torch.manual_seed(0)
    model, x = build(), torch.from_numpy(images[0]).reshape(-1, *shape)
    encode, decode = parts(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        batch = x[torch.randint(len(x), (256,))]
        mu, logvar = encode(batch)
        z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
        error = (decode(z) - batch).square().sum() / len(batch)
        kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum() / len(batch)
        optimizer.zero_grad()
        (error + kl).backward()
        optimizer.step()
        schedule.step()
    return request.param, model, x.numpy()


def test_a_trained_model_is_diagnosed(trained, images):
    _, model, x = trained
    found = phasevae.diagnose(model, x, loss="sse")
    assert found.effective_variance == 0.5
    assert found.n_more == 0 and found.corrected_edge < 0.5
    # Two directions carry the patterns, whatever latents the network took for them.
    assert sum(each.information > 0.05 for each in found.relevant_directions) == 2
    for each, pattern, value in zip(found.relevant_directions, images[1], SIGNAL, strict=False):
        assert abs(each.direction @ pattern) > 0.9
        assert each.relevance == pytest.approx(value / 0.5 - 1, rel=0.3)
    assert model.training


def test_the_command_diagnoses_it(trained, tmp_path, capsys):
    name, model, x = trained
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "mine.py").write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"import torch\nfrom test_models_of_others import MODELS\n"
        f"def load():\n    model = MODELS[{name!r}][0]()\n"
        f"    model.load_state_dict(torch.load({str(tmp_path / 'weights.pt')!r}))\n    return model\n"
    )
    address, page = f"{tmp_path / 'mine.py'}:load", tmp_path / "page.html"
    given = ["phasevae", "diagnose", address, str(tmp_path / "x.npy"), "--loss", "sse", "--json", "--html", str(page)]
    with mock.patch.object(sys, "argv", given), pytest.raises(SystemExit) as stop:
        main.main()
    assert not stop.value.code
    content = json.loads(capsys.readouterr().out)
    expected = phasevae.diagnose(model, x, loss="sse")
    assert content["verdict"] == expected.verdict
    assert content["edge"] == pytest.approx(expected.edge, rel=1e-5)
    assert expected.verdict in page.read_text()
