"""`phasevae predict` with loss functions, likelihoods, targets and schedules."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from predict_commands import predict_command, save_rows

from phasevae.prediction.predict import predict
from phasevae.wording import rounded

LOSS_FILE = """
import torch
import torch.nn.functional as F


def kl(mu, logvar):
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), 1).mean()


def mse(recon, x, mu, logvar):
    return F.mse_loss(recon, x) + 0.5 * kl(mu, logvar)


def classes(recon, x, mu, logvar):
    return F.cross_entropy(recon, x) + 0.1 * kl(mu, logvar)


def summed(recon, x, mu, logvar):
    return F.mse_loss(recon, x) + 0.001 * kl(mu, logvar) * len(x)


def two_heads(recon, x, mu, logvar):
    mean, log_variance = recon
    return (0.5 * (x - mean) ** 2 / log_variance.exp() + 0.5 * log_variance).sum(1).mean() + kl(mu, logvar)


def broken(recon, x, mu, logvar):
    raise RuntimeError("first line\\nsecond line")
"""


@pytest.fixture
def losses(tmp_path):
    save_rows(tmp_path)
    (tmp_path / "losses.py").write_text(LOSS_FILE)
    (tmp_path / "raises.py").write_text("raise OSError('no\\nweights')")
    return tmp_path


def predicted_json(*arguments: object, folder: Path) -> dict:
    done = predict_command(*arguments, "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_loss_function(losses):
    record = predicted_json("x.npy", "--latent", 2, "--loss-function", "losses.py:mse", folder=losses)
    named = predict(np.load(losses / "x.npy"), 2, loss="mean-se", kl_weight=0.5)
    assert 0.5 * record["critical_kl_weight"] == pytest.approx(named.critical_kl_weight, rel=1e-6)
    assert record["kl"] == pytest.approx(named.kl, rel=1e-6)
    for key in ("log", "collapsed_log"):
        assert list(record[key]) == ["reconstruction", "kl_term", "total", "kl"]
        assert record[key] == pytest.approx(vars(getattr(named, key)), rel=1e-6)


def test_the_summary_shows_the_expected_log(losses):
    done = predict_command("x.npy", "--latent", 2, "--loss-function", "losses.py:mse", folder=losses)
    assert done.returncode == 0, done.stderr
    log = predict(np.load(losses / "x.npy"), 2, loss="mean-se", kl_weight=0.5).log
    values = f"reconstruction {log.reconstruction:.4g}, KL term {log.kl_term:.4g}, total {log.total:.4g}"
    assert f"your log will show  {values}" in done.stdout
    assert "mse(recon, x, mu, logvar), its KL term times w" in done.stdout
    page = ("--loss-function", "losses.py:mse", "--html", "page.html")
    assert predict_command("x.npy", "--latent", 2, *page, folder=losses).returncode == 0
    assert (losses / "page.html").read_text().startswith("<!doctype html>")


def test_classes_need_the_shape_of_the_output(losses):
    rng = np.random.default_rng(0)
    tokens = (rng.normal(size=(400, 1)) + rng.normal(size=(400, 4)) > 0).astype(int)
    np.save(losses / "tokens.npy", tokens)
    options = ("--latent", 1, "--loss-function", "losses.py:classes")
    record = predicted_json("tokens.npy", *options, "--output-shape", "2,4", folder=losses)
    named = predict(tokens, 1, loss="categorical")
    assert 4 * 0.1 * record["critical_kl_weight"] == pytest.approx(named.critical_kl_weight, rel=1e-6)
    done = predict_command("tokens.npy", *options, folder=losses)
    assert done.returncode == 2 and "give output_shape" in done.stderr


def test_several_heads_and_the_batch_size(losses):
    heads = ("--loss-function", "losses.py:two_heads", "--output-shape", "3/3")
    record = predicted_json("x.npy", "--latent", 2, *heads, folder=losses)
    named = predict(np.load(losses / "x.npy"), 2, loss="gaussian-variance")
    assert record["critical_kl_weight"] == pytest.approx(named.critical_kl_weight, rel=1e-6)
    summed = ("--loss-function", "losses.py:summed", "--batch-size", 64)
    record = predicted_json("x.npy", "--latent", 2, *summed, folder=losses)
    named = predict(np.load(losses / "x.npy"), 2, loss="mean-se")
    assert 0.064 * record["critical_kl_weight"] == pytest.approx(named.critical_kl_weight, rel=1e-6)


def test_a_target_for_the_loss(losses):
    x = np.load(losses / "x.npy")
    np.save(losses / "noisy.npy", x + np.random.default_rng(1).normal(size=x.shape))
    options = ("--latent", 2, "--loss-function", "losses.py:mse")
    record = predicted_json("noisy.npy", *options, "--target", "x.npy", folder=losses)
    clean = predicted_json("x.npy", *options, folder=losses)
    assert record["critical_kl_weight"] < clean["critical_kl_weight"]


def test_a_target_kl(losses):
    record = predicted_json("x.npy", "--latent", 2, "--loss", "sse", "--target-kl", 0.5, folder=losses)
    named = predict(np.load(losses / "x.npy"), 2, loss="sse")
    assert record["kl_weight_for_target"] == pytest.approx(named.kl_weight_for(0.5), rel=1e-6)
    done = predict_command("x.npy", "--latent", 2, "--loss", "sse", "--target-kl", 0.5, folder=losses)
    weight = named.kl_weight_for(0.5)
    n_active = named.at(weight).active_dims
    error = weight * np.linalg.norm(named.relative_errors[:n_active]) / n_active
    assert done.stdout.splitlines()[-1] == f"A KL of 0.5 nats takes the KL weight {rounded(weight, error)}."


@pytest.mark.parametrize(("value", "problem"), [(-1, "-1.0, must be a positive number"), (1e9, "1e+09 nats, must be ")])
def test_a_target_kl_that_cannot_be_is_refused_before_anything_is_shown(losses, value, problem):
    options = ("--latent", 1, "--loss", "sse", "--target-kl", value, "--html", "page.html")
    done = predict_command("x.npy", *options, folder=losses)
    assert (done.returncode, done.stdout) == (2, "") and f"target_kl: {problem}" in done.stderr
    assert not (losses / "page.html").exists()


def test_a_schedule(losses):
    options = ("--latent", 2, "--loss", "half-sse", "--kl-schedule", "linear:0,2,100", "--training-length", 50)
    record = predicted_json("x.npy", *options, folder=losses)
    assert record["effective_variance"] == pytest.approx(1.0)
    assert "schedule" in [warning["code"] for warning in record["warnings"]]


def test_options_of_likelihoods_and_encoders(losses):
    counts = np.random.default_rng(0).poisson(np.exp(np.random.default_rng(1).normal(size=(500, 4))))
    np.save(losses / "counts.npy", counts)
    named = ("--latent", 2, "--loss", "negative-binomial", "--loss-options", "dispersion=2,size_factors=total")
    record = predicted_json("counts.npy", *named, folder=losses)
    options = {"dispersion": 2, "size_factors": "total"}
    expected = predict(counts, 2, loss="negative-binomial", loss_options=options)
    assert record["critical_kl_weight"] == pytest.approx(expected.critical_kl_weight, rel=1e-6)
    for option, keyword in (("--posterior-std", "posterior_std"), ("--input-noise", "input_noise")):
        record = predicted_json("x.npy", "--latent", 2, "--beta", 1, option, 0.5, folder=losses)
        expected = predict(np.load(losses / "x.npy"), 2, beta=1.0, **{keyword: 0.5})
        assert record["critical_kl_weight"] == pytest.approx(expected.critical_kl_weight, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--loss-function", "absent.py:mse"), "absent.py: no such file"),
        (("--loss-function", "losses.py:absent"), "losses.py: has no function 'absent'"),
        (("--loss-function", "losses.py"), "loss-function: 'losses.py', must be FILE.py:FUNCTION"),
        (("--loss-function", "raises.py:mse"), "raises.py: cannot be run (OSError: no)"),
        (("--loss-function", "losses.py:broken"), "loss broken: fails for outputs of shape"),
        (("--loss-function", "losses.py:summed"), "batch_size: missing, must be that of the training"),
        (("--loss-function", "losses.py:mse", "--loss", "sse"), "loss-function: cannot be given together with loss"),
        (("--loss-function", "losses.py:mse", "--output-shape", "3,x"), "output-shape: '3,x', must be whole numbers"),
        (("--loss-function", "losses.py:mse", "--input-shape", "0"), "input-shape: '0', must be whole numbers"),
        (("--loss-function", "losses.py:mse", "--target", "absent.npy"), "absent.npy: no such file"),
        (("--loss", "sse", "--batch-size", 8), "batch_size: must be left out unless the loss is a function"),
        (("--loss", "poisson"), "must be a count"),
        (("--loss", "poisson", "--loss-options", "dispersion"), "loss-options: 'dispersion', must be NAME=VALUE"),
        (("--loss", "sse", "--kl-schedule", "ramp"), "kl_schedule: 'ramp', must be linear:START,END,LENGTH"),
        (("--loss", "sse", "--input-mask", 1), "input_mask: 1.0, must be less than 1"),
        (("--beta", 1, "--noise-scale", 2), "noise_scale: 2.0, must be at most 1.4"),
    ],
)
def test_wrong_losses_are_one_line_and_exit_code_2(options, words, losses):
    done = predict_command("x.npy", "--latent", 2, *options, folder=losses)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
