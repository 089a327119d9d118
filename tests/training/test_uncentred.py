"""The annealed training on wide data, centred and not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phasevae import predict
from phasevae.sweep.settings import Member, Settings
from phasevae.theory.ppca import gaussian_kl
from phasevae.training.trainer import Trainer

FEATURES, LATENTS, RATIO = 300, 4, 0.057


def wide(offset: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(1000, LATENTS)) @ rng.normal(size=(LATENTS, FEATURES))
    return (offset + 0.1 * (factors + rng.normal(size=(1000, FEATURES)))).astype(np.float32)


@pytest.mark.parametrize(
    "offset",
    [0.0, pytest.param(1.0, marks=pytest.mark.xfail(reason="the encoder sees data as they are", strict=True))],
)
def test_annealing_reaches_the_predicted_kl_on_wide_data(offset):
    x = wide(offset)
    predicted = predict(x, LATENTS, beta=1.0)
    sigma2 = RATIO * predicted.critical_kl_weight
    settings = Settings(n_latent=LATENTS, hidden=(64,), samples=64 * 500, batch=64)
    trainer = Trainer(torch.from_numpy(x), [Member(sigma2, 1.0, 0)], settings)
    assert trainer.run()
    mu, logvar = trainer.model.encode(torch.from_numpy(x)[None])
    kl = float(gaussian_kl(mu.double(), logvar.double(), torch.expm1).mean(1).sum())
    assert kl == pytest.approx(predicted.at(sigma2).kl, rel=0.1)
    assert any(warning.code == "not-centred" for warning in predicted.warnings) == bool(offset)
