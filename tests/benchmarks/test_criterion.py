"""benchmarks/criterion.py and autoregressive.py: their training, their exact parts, and what the page shows."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import autoregressive
import criterion
import numpy as np
import pandas as pd
import pytest
import torch
from criterion_cases import CASES, kl, sequences, transitions
from gallery_vae import measured
from hypothesis import given
from hypothesis import strategies as st
from own_loss_vae import constant_output, trained, with_kl_times
from torch.nn import functional as F  # noqa: N812

from phasevae.artifacts.tables import read_table


@pytest.fixture(scope="module")
def line():
    """Rows along one direction, with little noise."""
    rng = np.random.default_rng(0)
    x = 3 * rng.normal(size=(2000, 1)) * [1.0, 0.0, 0.0] + 0.3 * rng.normal(size=(2000, 3))
    return torch.from_numpy(x.astype(np.float32))


@given(factor=st.floats(0.01, 100), weight=st.floats(0.01, 100))
def test_the_factor_multiplies_the_kl_term_alone(factor, weight):
    generator = torch.Generator().manual_seed(0)
    recon, x, mu, logvar = torch.randn(4, 7, 3, generator=generator, dtype=torch.float64)
    recon.requires_grad_()
    value = with_kl_times(factor, lambda r, x, m, v: F.l1_loss(r, x) + weight * kl(m, v).sum(), recon, x, mu, logvar)
    expected = (recon - x).abs().mean() + factor * weight * kl(mu, logvar).sum()
    assert value.item() == pytest.approx(expected.item())
    gradients = [torch.autograd.grad(total, recon)[0] for total in (value, expected)]
    torch.testing.assert_close(*gradients)


def test_the_constant_output_is_the_mean_the_logit_the_log_or_the_median():
    counts = torch.poisson(torch.tensor([0.5, 2.0, 9.0]).expand(500, 3), generator=torch.Generator().manual_seed(0))
    mean, zero_or_one = counts.mean(0), (counts > torch.tensor([0.0, 1.0, 7.0])).float()
    torch.testing.assert_close(constant_output(counts, CASES["poisson"].loss, (3,)), mean.log(), atol=1e-3, rtol=0)
    torch.testing.assert_close(constant_output(counts, CASES["gaussian"].loss, (3,)), mean, atol=1e-3, rtol=0)
    logits = constant_output(zero_or_one, CASES["bernoulli"].loss, (3,))
    torch.testing.assert_close(logits, torch.logit(zero_or_one.mean(0)), atol=1e-2, rtol=0)
    share = constant_output(
        zero_or_one, lambda r, x, *_: F.binary_cross_entropy(r, x), (3,), link=torch.nn.Sigmoid()
    ).sigmoid()
    torch.testing.assert_close(share, zero_or_one.mean(0), atol=1e-3, rtol=0)
    spread = torch.linspace(-1, 3, 501)[:, None] ** 3
    assert constant_output(spread, CASES["L1"].loss, (1,)).item() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("ratio", "alive"), [(0.1, True), (5.0, False)])
def test_a_training_stays_active_far_below_the_threshold_and_dies_far_above(line, ratio, alive):
    critical = torch.linalg.eigvalsh(torch.cov(line.T)).max().item() / 0.8**2
    model = trained(line, CASES["gaussian"].loss, 2, ratio * critical, critical, 600, 0)
    divergence = measured(model, line).sum()
    assert divergence > 0.5 if alive else divergence < 0.02


def test_the_target_and_the_output_may_have_other_shapes_than_the_input(line):
    target = line[:, :2] > 0

    def loss(recon, x, mu, logvar):
        assert recon.shape == (16, 2, 2) and x.shape == (16, 2) and x.dtype == torch.bool
        return F.cross_entropy(recon, x.long()) + kl(mu, logvar).sum(1).mean()

    constant = torch.zeros(2, 2)
    model = trained(line, loss, 1, 1.0, 1.0, 3, 0, output_shape=(2, 2), target=target, batch=16, constant=constant)
    assert measured(model, line).shape == (1,)


def test_the_same_seed_gives_the_same_network(line):
    first, second = (trained(line, CASES["L1"].loss, 1, 1.0, 1.0, 5, seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_every_loss_is_a_finite_scalar_without_kl_at_the_prior(case):
    x = torch.from_numpy(case.samples()[:9])
    recon, zero = torch.zeros(9, *(case.output_shape or x.shape[1:])), torch.zeros(9, case.n_latent)
    value = case.loss(recon, x, zero, zero)
    assert value.shape == () and value.isfinite()
    assert case.loss(recon, x, zero + 1, zero) > value


def test_the_chance_of_all_sequences_is_one():
    symbols = np.array(list(itertools.product(range(8), repeat=4)))
    assert np.exp(-autoregressive.surprisal(symbols)).sum() == pytest.approx(1)


def test_the_sequences_follow_the_chain():
    symbols = sequences(40_000)
    stay, emit = transitions()
    marginal = np.bincount(symbols.ravel(), minlength=8) / symbols.size
    assert marginal == pytest.approx(emit.mean(0), abs=0.01)
    pairs = np.histogram2d(symbols[:, 0], symbols[:, 1], bins=np.arange(9))[0] / len(symbols)
    assert pairs == pytest.approx(emit.T @ (stay / 4) @ emit, abs=0.01)


def test_scores_and_curvature_are_the_derivatives_by_a_constant_input_of_the_gates():
    torch.manual_seed(0)
    decoder, x = autoregressive.Decoder(1), autoregressive.one_hot(sequences(5))
    scores, curvature = autoregressive.scores_and_curvature(decoder, x)
    fixed, bias = decoder.double(), decoder.body.bias_ih_l0

    def logits(values):
        named = {"body.bias_ih_l0": values}
        return torch.func.functional_call(fixed, named, (torch.zeros(5, 1).double(), x.double()))

    jacobian = torch.autograd.functional.jacobian(logits, bias.detach())
    p = logits(bias).softmax(2).detach()
    expected = torch.einsum("ntk,ntkm->nm", x.double() - p, jacobian)
    torch.testing.assert_close(scores, expected)
    information = torch.einsum("ntkm,ntk,ntkl->ml", jacobian, p, jacobian)
    mean = torch.einsum("ntk,ntkm->ntm", p, jacobian)
    information = (information - torch.einsum("ntm,ntl->ml", mean, mean)) / 5
    torch.testing.assert_close(curvature, information, atol=1e-4, rtol=1e-3)


def test_the_page_shows_what_was_measured():
    page = criterion.PAGE.read_text()
    assert criterion.markdown(read_table(criterion.TABLE)) in page
    for table in autoregressive.markdown(read_table(autoregressive.TABLE)).values():
        assert table in page


def test_every_loss_came_out_as_predicted():
    rows = read_table(criterion.TABLE)
    assert list(rows["case"].unique()) == list(CASES)
    for name, of_case in rows.groupby("case"):
        assert sorted(zip(of_case["ratio"], of_case["seed"], strict=True)) == list(
            itertools.product((criterion.BELOW, criterion.ABOVE), range(3))
        ), name
    below = rows["ratio"] < 1
    assert (rows.loc[below, "kl"] > criterion.ALIVE).all()
    assert (rows.loc[~below, "kl"] < criterion.DEAD).all()
    assert rows["as_predicted"].all()


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "one class", "L1", "sum beside mean"])
def test_the_factors_are_those_of_predict(name):
    rows = read_table(criterion.TABLE).set_index("case")
    assert rows.loc[name, "critical_factor"].iloc[0] == pytest.approx(criterion.critical_factor(CASES[name]), rel=2e-3)


def test_the_factor_of_features_is_the_eigenvalue_of_scores_against_the_hessian():
    loss, x = CASES["perceptual"].loss, CASES["perceptual"].samples()[:400]
    predicted = criterion.critical_factor(SimpleNamespace(**vars(CASES["perceptual"]) | {"samples": lambda: x}))
    x = torch.from_numpy(x)
    constant, zero = constant_output(x, loss, (1, 8, 8)), torch.zeros(len(x), 1)

    def mean_loss(outputs):
        return loss(outputs.view(-1, 1, 8, 8).expand_as(x), x, zero, zero)

    each = constant.expand_as(x).clone().requires_grad_()
    scores = len(x) * torch.autograd.grad(loss(each, x, zero, zero), each)[0].flatten(1).double()
    hessian = torch.autograd.functional.hessian(mean_loss, constant.flatten()).double()
    eigenvalues = torch.linalg.eigvals(torch.linalg.solve(hessian, scores.T @ scores / len(x))).real
    # predict takes differences over a tenth of the width of the outputs, as the features have kinks.
    assert predicted == pytest.approx(eigenvalues.max().item() / 0.001, rel=0.03)


def test_autoregressive_decoders_collapse_at_1_within_a_tenth():
    rows = read_table(autoregressive.TABLE)
    assert rows.groupby("kl_weight")["seed"].nunique().to_dict() == dict.fromkeys(autoregressive.WEIGHTS, 3)
    assert (rows.loc[rows["kl_weight"] <= 0.9, "kl"] > autoregressive.ALIVE).all()
    assert (rows.loc[rows["kl_weight"] >= 1.1, "kl"] < autoregressive.DEAD).all()
    assert (rows["gain"] < rows["kl"] + rows["excess"] + 0.01).all(), "no latent carries more than its KL"
    decoders = rows.drop_duplicates("seed")
    assert (abs(decoders["other_half"] - 1) < 0.02 + 2 * decoders["standard_error"]).all()
    assert (decoders["excess"] < 0.02).all()


def test_the_command_writes_the_rows_of_a_case(tmp_path, monkeypatch):
    monkeypatch.setattr(criterion, "critical_factor", lambda case: 1.0)
    output = tmp_path / "rows.csv"
    for name in ("L1", "bernoulli"):
        arguments = f"criterion.py --only {name} --steps 2 --seeds 0,1 --output {output}"
        monkeypatch.setattr("sys.argv", arguments.split())
        with pytest.raises(SystemExit):
            criterion.main()
    rows = pd.read_csv(output)
    assert list(rows["case"].unique()) == ["bernoulli", "L1"]
    assert list(rows["ratio"]) == [0.8, 0.8, 1.25, 1.25] * 2
