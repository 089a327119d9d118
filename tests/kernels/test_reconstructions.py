"""Reconstruction terms of all families against their numpy likelihoods, scipy's distributions and each other."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special, stats

from phasevae.datasets.streams import sample_stream
from phasevae.errors import InputError
from phasevae.kernels.reconstructions import FAMILIES, make_reconstruction
from phasevae.likelihoods.arrays import arrays_of
from phasevae.likelihoods.registry import find_likelihood

N, D = 60, 5
COUNTS = ("poisson", "multinomial", "negative-binomial", "zinb")


@dataclass(frozen=True, eq=False)
class Case:
    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return "-".join([self.name, *map(str, self.options.values())])

    @functools.cached_property
    def fit(self):
        return find_likelihood(self.name, **self.options).fit(sample_stream(self.x))

    @functools.cached_property
    def term(self):
        return make_reconstruction(self.name, *arrays_of(self.fit))

    @functools.cached_property
    def x(self) -> np.ndarray:
        """Rows whose last feature is constant, where the family allows it: its outputs may be infinite."""
        rng = np.random.default_rng(3)
        z = rng.normal(size=(N, 2)) @ rng.normal(size=(2, D))
        if self.name == "bernoulli":
            x = 1 / (1 + np.exp(-z))
        elif self.name == "categorical":
            x = (z + rng.normal(size=(N, D)) > 0).astype(float) + (z > 1)
        elif self.name in COUNTS:
            x = rng.poisson(np.exp(0.4 * z) * [0.4, 2.0, 8.0, 1.0, 200.0] * rng.gamma(2, 0.5, size=(N, D)))
            x = x.astype(float)
            x[x.sum(1) == 0, 2] = 1
        else:
            x = z + rng.standard_t(4, size=(N, D)) + np.arange(D)
        x[:, -1] = 0
        if self.options.get("size_factors") == "last-column":
            x = np.hstack([x, rng.lognormal(0, 0.5, size=(N, 1))])
        return x.astype(np.float32).astype(float)


CASES = [
    Case("bernoulli"),
    Case("poisson"),
    Case("multinomial"),
    Case("categorical"),
    Case("gaussian-variance"),
    Case("laplace", {"scale": 0.6}),
    Case("student-t", {"df": 3.0, "scale": 0.7}),
    Case("student-t", {"df": 5.0, "scale": "fit"}),
    *(
        Case(name, {"dispersion": dispersion, "size_factors": sizes, "normalised": normalised})
        for name in ("negative-binomial", "zinb")
        for dispersion, sizes, normalised in (
            (1.5, "none", False),
            ("fit", "none", False),
            ("fit", "total", True),
            ("fit", "last-column", False),
            ("fit", "last-column", True),
        )
    ),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
each_linear = pytest.mark.parametrize("case", [c for c in CASES if c.term.is_linear], ids=lambda case: case.label)


def random_outputs(case: Case, *shape: int, seed: int = 0, spread: float = 0.5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(*shape, case.term.n_outputs, generator=generator, dtype=torch.float64)
    return case.term.offset + spread * noise


def loss_of(case: Case, outputs: torch.Tensor, sigma2: float = 1.0) -> torch.Tensor:
    """Minus the log likelihood of all rows for outputs [A, B, P], [A, B]."""
    x = torch.from_numpy(case.x)
    weight = torch.tensor([sigma2], dtype=torch.float64)
    energy = case.term.energy(case.term.statistics(x[None]), outputs[None], weight)[0]
    return sigma2 * energy + case.term.constant(x, sigma2)


def test_every_family_has_a_term():
    from phasevae.likelihoods.registry import LIKELIHOODS

    assert {"gaussian", *FAMILIES} == set(LIKELIHOODS)


def test_an_unknown_family_is_named():
    with pytest.raises(InputError, match="likelihood: 'poison', did you mean 'poisson'"):
        make_reconstruction("poison", {}, {})


@each_case
def test_the_constant_decoder_has_the_loss_of_the_fit(case):
    outputs = case.term.offset.expand(2, N, -1)
    assert torch.isfinite(outputs).all()
    expected = case.fit.negative_log_likelihood(case.x)
    np.testing.assert_allclose(loss_of(case, outputs, 0.7).numpy(), np.tile(expected, (2, 1)), rtol=1e-9, atol=1e-9)
    assert float(loss_of(case, outputs).mean()) == pytest.approx(case.fit.loss, rel=1e-9)


def scipy_loss(case: Case, outputs: np.ndarray) -> np.ndarray:  # noqa: PLR0911
    """Minus the log likelihood of all rows at outputs [B, P] with scipy's distributions, [B]."""
    x, used = case.x, ~case.fit.constant
    match case.name:
        case "bernoulli":
            chance = special.expit(outputs)
            return -(special.xlogy(x, chance) + special.xlog1py(1 - x, -chance)).sum(1)
        case "poisson":
            return -stats.poisson.logpmf(x, np.exp(outputs)).sum(1)
        case "multinomial":
            shares = special.softmax(outputs, 1)
            return np.array([-stats.multinomial.logpmf(row, row.sum(), p) for row, p in zip(x, shares, strict=True)])
        case "categorical":
            logits = special.log_softmax(outputs.reshape(N, D, -1), 2)
            return -np.take_along_axis(logits, x.astype(int)[:, :, None], 2).sum((1, 2))
        case "gaussian-variance":
            mean, log_variance = np.split(outputs, 2, 1)
            return -stats.norm.logpdf(x, mean, np.exp(log_variance / 2))[:, used].sum(1)
        case "laplace":
            return -stats.laplace.logpdf(x, outputs, case.options["scale"]).sum(1)
        case "student-t":
            scale = case.fit.constants["scale"]
            kept = scale > 0
            return -stats.t.logpdf(x[:, kept], case.options["df"], outputs[:, kept], scale[kept]).sum(1)
    size = np.ones((N, 1))
    if case.options["size_factors"] == "last-column":
        x, size = x[:, :-1], x[:, -1:]
    elif case.options["size_factors"] == "total":
        size = x.sum(1, keepdims=True) / case.fit.mean_total
    log_mean, logit = outputs[:, :D], outputs[:, D:]
    if case.options["normalised"]:
        log_mean = special.log_softmax(log_mean, 1) + np.log(case.fit.mean_total)
    r = case.fit.constants["dispersion"]
    log = stats.nbinom.logpmf(x, r, r / (r + size * np.exp(log_mean)))
    if case.name == "zinb":
        kept = special.log_expit(-logit) + log
        log = np.where(x == 0, np.logaddexp(special.log_expit(logit), kept), kept)
    return -log.sum(1)


@each_case
def test_the_loss_is_that_of_scipy_elsewhere(case):
    outputs = random_outputs(case, N)
    np.testing.assert_allclose(loss_of(case, outputs[None])[0].numpy(), scipy_loss(case, outputs.numpy()), rtol=1e-7)


@each_case
def test_single_precision_and_a_copy_on_a_device_give_nearly_the_same(case):
    single = case.term.to("cpu", torch.float32)
    x, outputs = torch.from_numpy(case.x).float(), random_outputs(case, 2, N).float()
    ones = torch.ones(1)
    energy = single.energy(single.statistics(x[None]), outputs[None], ones)[0]
    assert energy.dtype == torch.float32
    expected = case.term.energy(case.term.statistics(x.double()[None]), outputs.double()[None], ones.double())[0]
    np.testing.assert_allclose(energy.numpy(), expected.numpy(), rtol=2e-5, atol=2e-3)
    again = make_reconstruction(case.name, case.term.arrays(), arrays_of(case.fit)[1])
    assert torch.equal(again.offset, case.term.offset)


@each_linear
def test_the_energy_is_linear_in_the_statistics(case):
    """A group's mean statistics give the mean energy of its rows, and the mean gradient: what Rao & Blackwell need."""
    statistics = case.term.statistics(torch.from_numpy(case.x)[None])
    outputs = random_outputs(case, 1, 1, 1).requires_grad_()
    one = torch.ones(1, dtype=torch.float64)
    each = case.term.energy(statistics, outputs.expand(1, 1, N, -1), one).mean()
    whole = case.term.energy(statistics.mean(1, keepdim=True), outputs, one).sum()
    torch.testing.assert_close(each, whole, rtol=1e-10, atol=1e-10)
    gradients = [torch.autograd.grad(value, outputs)[0] for value in (each, whole)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


@each_linear
def test_the_means_are_the_expected_statistics(case):
    """At the means the gradient by the outputs vanishes: the energy is that of an exponential family."""
    outputs = random_outputs(case, 1, 1, 1).requires_grad_()
    means = case.term.means(outputs.detach())
    assert means.shape[-1] == case.term.statistics(torch.from_numpy(case.x[:1])).shape[-1]
    if case.name == "multinomial":
        assert float(means.sum()) == pytest.approx(case.fit.mean_total)
    energy = case.term.energy(means[:, 0], outputs, torch.ones(1, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(energy.sum(), outputs)
    scale = means.abs().max()
    assert float(gradient.abs().max()) < 1e-9 * float(1 + scale)


@each_case
def test_constant_features_are_harmless(case):
    """The gradient of their outputs at the constant decoder is far below the epsilon of Adam, 1e-8."""
    if case.name in ("laplace", "student-t"):
        pytest.skip("their outputs are finite")
    outputs = case.term.offset.clone().expand(1, 1, N, -1).clone().requires_grad_()
    energy = case.term.energy(case.term.statistics(torch.from_numpy(case.x)[None]), outputs, torch.ones(1).double())
    (gradient,) = torch.autograd.grad(energy.mean(), outputs)
    by_output = gradient[0, 0].sum(0).reshape(-1, D) if case.name != "categorical" else gradient[0, 0].sum(0)[None]
    assert float(by_output[0, -1].abs()) < 1e-9
