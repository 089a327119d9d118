"""Encoders as people write them, trained steps, and what the monitor makes of them: the right KL, or one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monitor_reports import quiet_report
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from phasevae import CollapseMonitor, InputError, predict

N, D = 4, 6
X = torch.randn(256, D, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 2.5, 2.0, 1.5, 0.5, 0.5])
PREDICTION = predict(X.numpy(), N, sigma2=0.5)


class Model(nn.Module):
    """An encoder whose body gives mu and logvar [B, 2n], and `form`, which makes of them what it returns."""

    def __init__(self, form, body=None):
        super().__init__()
        self.encoder = Encoder(form, body or nn.Sequential(nn.Linear(D, 16), nn.Tanh(), nn.Linear(16, 2 * N)))

    def forward(self, x):
        return self.encoder(x)


class Encoder(nn.Module):
    def __init__(self, form, body):
        super().__init__()
        self.body, self.form = body, form

    def forward(self, x):
        return self.form(*self.body(x).chunk(2, dim=1))


def sampled(mu, logvar, scale=1.0):
    return mu + scale * (0.5 * logvar).exp() * torch.randn_like(mu)


def std(logvar):
    return (0.5 * logvar).exp()


def as_map(part):
    return part[:, :, None, None]


FORMS = {
    "halves": lambda mu, lv: torch.cat([mu, lv], 1),
    "pair": lambda mu, lv: (mu, lv),
    "list": lambda mu, lv: [mu, lv],
    "(mu, logvar, z)": lambda mu, lv: (mu, lv, sampled(mu, lv)),
    "(z, mu, logvar)": lambda mu, lv: (sampled(mu, lv), mu, lv),
    "(hidden, mu, logvar)": lambda mu, lv: (torch.cat([mu, lv, lv], 1), mu, lv),
    "(mu, logvar, hidden)": lambda mu, lv: (mu, lv, torch.cat([mu, lv, lv], 1)),
    "(mu, logvar, kl)": lambda mu, lv: (mu, lv, mu.square().sum(1)),
    "(z, hidden, mu, logvar)": lambda mu, lv: (sampled(mu, lv), torch.cat([mu, lv, lv], 1), mu, lv),
    "(z, (mu, logvar))": lambda mu, lv: (sampled(mu, lv), {"mu": mu, "logvar": lv}),
    "[B, 2n, 1, 1]": lambda mu, lv: as_map(torch.cat([mu, lv], 1)),
    "[B, n, 1, 1] twice": lambda mu, lv: (as_map(mu), as_map(lv)),
    "[B, n, 1, 1] thrice": lambda mu, lv: (as_map(sampled(mu, lv)), as_map(mu), as_map(lv)),
    "[B, n] and [B, n, 1, 1]": lambda mu, lv: (mu, as_map(lv)),
    "[B, 2C, H, W]": lambda mu, lv: torch.cat([mu.reshape(-1, 1, 2, 2), lv.reshape(-1, 1, 2, 2)], 1),
    "[B, 2n, 1]": lambda mu, lv: torch.cat([mu, lv], 1)[:, :, None],
    "[B, 1, 2n]": lambda mu, lv: torch.cat([mu, lv], 1)[:, None],
    "dictionary": lambda mu, lv: {"z_mean": mu, "z_log_var": lv},
    "dictionary of a std": lambda mu, lv: {"mu": mu, "std": std(lv)},
    "dictionary of a log std": lambda mu, lv: {"mean": mu, "log_std": 0.5 * lv},
    "Normal": lambda mu, lv: Normal(mu, std(lv)),
    "(Normal, z)": lambda mu, lv: (Normal(mu, std(lv)), sampled(mu, lv)),
    "Independent": lambda mu, lv: Independent(Normal(mu, std(lv)), 1),
}

WITH_OPTIONS = {
    "(mu, std), with its option": ({"spread": "std"}, lambda mu, lv: (mu, std(lv))),
    "(mu, variance), with its option": ({"spread": "var"}, lambda mu, lv: (mu, lv.exp())),
    "(mu, log std), with its option": ({"spread": "log_std"}, lambda mu, lv: (mu, 0.5 * lv)),
    "(z, mu, std), with its option": ({"spread": "std"}, lambda mu, lv: (sampled(mu, lv), mu, std(lv))),
    "halves of a std, with its option": ({"spread": "std"}, lambda mu, lv: torch.cat([mu, std(lv)], 1)),
    "(logvar, mu), selected": ({"select": lambda out: (out[1], out[0])}, lambda mu, lv: (lv, mu)),
}

REFUSED = {
    "(mu, std)": (lambda mu, lv: (mu, std(lv)), "must be a log variance; give spread='std'"),
    "(mu, variance)": (lambda mu, lv: (mu, lv.exp()), "must be a log variance"),
    "(mu, softplus)": (lambda mu, lv: (mu, nn.functional.softplus(lv)), "must be a log variance"),
    "halves of a std": (lambda mu, lv: torch.cat([mu, std(lv)], 1), "must be a log variance"),
    "mu alone": (lambda mu, lv: mu, r"must be \[batch, 8\]"),
    "(mu,)": (lambda mu, lv: (mu,), "two must have 4 latents"),
    "hidden of another width": (lambda mu, lv: torch.cat([mu, lv, lv], 1), r"shape \(64, 12\)"),
    "rectified hidden layer": (lambda mu, lv: torch.relu(torch.cat([mu, lv], 1)), "as a hidden layer does"),
    "(mu, logvar, noise)": (lambda mu, lv: (mu, lv, torch.rand_like(mu)), "none is a sample"),
    "a string": (lambda mu, lv: "mu", "gives a str"),
    "maps of the wrong size": (lambda mu, lv: (mu[:, :2], lv[:, :2]), "two must have 4 latents"),
}


def train(monitor, model, steps=6):
    """Some steps of a training; return the KL of each latent that the body gives in them."""
    optimiser = torch.optim.SGD(model.parameters(), 1e-2)
    monitor.watch(model)
    expected = []
    torch.manual_seed(1)
    for step in range(steps):
        rows = X[(64 * step) % 256 :][:64]
        mu, logvar = model.encoder.body(rows).chunk(2, dim=1)
        expected.append(kl_divergence(Normal(mu.double(), std(logvar.double())), Normal(0.0, 1.0)).mean(0).detach())
        model(rows)
        optimiser.zero_grad()
        (mu.square().sum(1) - logvar.sum(1)).mean().backward()
        optimiser.step()
    monitor.unwatch()
    return torch.stack(expected).mean(0).numpy()


def started(form):
    torch.manual_seed(0)
    return Model(form)


@pytest.mark.parametrize("name", [*FORMS, *WITH_OPTIONS])
def test_the_kl_of_an_encoder_that_returns(name):
    options, form = WITH_OPTIONS[name] if name in WITH_OPTIONS else ({}, FORMS[name])
    monitor, model = CollapseMonitor(PREDICTION, **options), started(form)
    expected = train(monitor, model)
    np.testing.assert_allclose(quiet_report(monitor).kl_per_dim, expected, rtol=1e-4)
    assert not model.encoder._forward_hooks


@pytest.mark.parametrize("name", REFUSED)
def test_one_line_for_an_encoder_that_returns(name):
    form, words = REFUSED[name]
    with pytest.raises(InputError, match=words) as error:
        train(CollapseMonitor(PREDICTION), started(form))
    assert str(error.value).startswith("encoder: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("place", ["first", "last"])
def test_the_sample_of_a_std_is_recognised_as_soon_as_it_is_no_variance(place):
    """Near a width of 1 a standard deviation and a variance are alike."""
    monitor = CollapseMonitor(PREDICTION)

    def form(mu, lv):
        z = sampled(mu, lv)
        return (z, mu, std(lv)) if place == "first" else (mu, std(lv), z)

    model = started(form)
    with torch.no_grad():
        model.encoder.body[-1].bias[N:] = -3.0
    np.testing.assert_allclose(train(monitor, model), quiet_report(monitor).kl_per_dim, rtol=1e-4)


def test_a_scaled_noise():
    prediction = predict(X.numpy(), N, sigma2=0.5, noise_scale=0.5)
    monitor, model = CollapseMonitor(prediction), started(lambda mu, lv: (sampled(mu, lv, 0.5), mu, lv))
    np.testing.assert_allclose(train(monitor, model), quiet_report(monitor).kl_per_dim, rtol=1e-4)


class Headed(nn.Module):
    """PyTorch-VAE's way: the encoder gives a hidden layer, from which two layers of the model make mu and logvar."""

    def __init__(self, names, width=2 * N, last=nn.Tanh):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(D, width), last())
        for name in names:
            self.add_module(name, nn.Linear(width, N))
        self.names = names

    def forward(self, x):
        hidden = self.encoder(x)
        return [self.get_submodule(name)(hidden) for name in self.names]


HEADS = [
    ("fc_mu", "fc_var"),
    ("fc_mu", "fc_logvar"),
    ("mu", "logvar"),
    ("to_mean", "to_log_var"),
    ("z_mean", "z_log_var"),
    ("to_mu", "to_lv"),
    ("mu_layer", "logvar_layer"),
    ("mean_head", "logvar_head"),
    ("mu_fc", "sigma_fc"),
    ("fc21", "fc22"),
]


@pytest.mark.parametrize("names", HEADS)
@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel], ids=["plain", "DataParallel"])
def test_a_hidden_layer_is_refused_with_the_layers_that_are_wanted(names, wrap):
    torch.manual_seed(0)
    model = wrap(Headed(names))
    wanted = f"gives a hidden layer.*give encoder=\\('{names[0]}', '{names[1]}'\\)"
    with CollapseMonitor(PREDICTION).watch(model), pytest.raises(InputError, match=wanted):
        model(X)
    monitor = CollapseMonitor(PREDICTION, encoder=names)
    with monitor.watch(model):
        for rows in X.split(64):
            model(rows)
    mu, logvar = model(X)
    expected = kl_divergence(Normal(mu.double(), std(logvar.double())), Normal(0.0, 1.0)).mean(0)
    np.testing.assert_allclose(quiet_report(monitor).kl_per_dim, expected.detach(), rtol=1e-5)


class Convolved(nn.Module):
    """An encoder without an activation at its end, whose map two layers, `heads`, make into mu and logvar."""

    def __init__(self, encoder, heads):
        super().__init__()
        self.encoder, self.heads = encoder, nn.ModuleDict(heads)

    def forward(self, x):
        hidden = self.encoder(x)
        return [head(hidden) for head in self.heads.values()]


IMAGES = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
STRUCTURES = {
    "linear": (lambda: nn.Linear(D, 2 * N), lambda: nn.Linear(2 * N, N), X),
    "lazy": (lambda: nn.Linear(D, 2 * N), lambda: nn.LazyLinear(N), X),
    "in sequence": (
        lambda: nn.Linear(D, 2 * N), lambda: nn.Sequential(nn.Linear(2 * N, 16), nn.Tanh(), nn.Linear(16, N)), X
    ),
    "maps": (lambda: nn.Conv2d(1, 2, 4, 4), lambda: nn.Conv2d(2, 1, 1), IMAGES),
    "a map, then linear": (
        lambda: nn.Conv2d(1, 2, 4, 4), lambda: nn.Sequential(nn.Flatten(), nn.Linear(2 * N, N)), IMAGES
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("names", [("a", "b"), ("b_std", "a")])
def test_two_layers_that_make_latents_of_the_output_show_a_hidden_layer(name, names):
    encoder, head, rows = STRUCTURES[name]
    model = Convolved(encoder(), {name: head() for name in names})
    mean, spread = (f"heads.{each}" for each in sorted(names))
    CollapseMonitor(PREDICTION).watch(model)
    with pytest.raises(InputError, match=f"gives a hidden layer.*give encoder=\\('{mean}', '{spread}'\\)"):
        model(rows)


DECODERS = {
    "one layer": lambda: nn.Linear(2 * N, N),
    "layers in sequence": lambda: nn.Sequential(nn.Linear(N, 2 * N), nn.Linear(2 * N, N), nn.Linear(2 * N, N)),
    "heads of the decoder": lambda: nn.ModuleDict({"fc_mu": nn.Linear(16, D), "fc_logvar": nn.Linear(16, D)}),
    "blocks": lambda: nn.ModuleDict({"conv": nn.Conv2d(64, N, 3), "skip": nn.Conv2d(64, N, 1)}),
}


@pytest.mark.parametrize("name", DECODERS)
def test_layers_of_a_decoder_show_no_hidden_layer(name):
    torch.manual_seed(0)
    model = Model(FORMS["halves"])
    model.decoder = DECODERS[name]()
    monitor = CollapseMonitor(PREDICTION)
    np.testing.assert_allclose(train(monitor, model), quiet_report(monitor).kl_per_dim, rtol=1e-4)


@pytest.mark.parametrize("last", [nn.Tanh, nn.ReLU, nn.SiLU, nn.Dropout])
def test_an_encoder_that_ends_in_an_activation_gives_a_hidden_layer(last):
    model = Headed(("both",), last=last)
    CollapseMonitor(PREDICTION).watch(model)
    with pytest.raises(InputError, match=f"ends in {last.__name__}; name the layers"):
        model(X)


def test_a_convolutional_encoder():
    class Convolutional(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 2 * N, 3))

        def forward(self, x):
            return self.encoder(x)

    images = torch.randn(64, 1, 8, 8)
    model, monitor = Convolutional(), CollapseMonitor(images, n_latent=N, sigma2=0.5)
    with monitor.watch(model):
        moments = model(images)
    assert moments.shape == (64, 2 * N, 1, 1)
    mu, logvar = moments[..., 0, 0].chunk(2, dim=1)
    expected = kl_divergence(Normal(mu.double(), std(logvar.double())), Normal(0.0, 1.0)).mean(0)
    np.testing.assert_allclose(quiet_report(monitor).kl_per_dim, expected.detach(), rtol=1e-5)
