"""Rao-Blackwellised targets: their values, and that they do not change the mean of the decoder's gradient."""

from __future__ import annotations

import pytest
import torch

from phasevae.errors import InputError
from phasevae.training.variance_reduction import rao_blackwell_targets


def setting(n: int = 2) -> dict[str, torch.Tensor]:
    """12 rows of 3 features, 2 models, 2 draws of n latents, in float64; rows are what is decoded, so that no chance
    of their mean is left."""
    shapes = {"x": (1, 12, 3), "mean": (3,), "mu": (2, 12, n), "logvar": (2, 12, n), "z": (2, 2, 12, n)}
    generator = torch.Generator().manual_seed(5)
    made = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    return made | {"xhat": made["x"].expand(2, 2, -1, -1)}


def test_targets_are_the_means_of_x_given_z_among_a_group():
    made = setting()
    targets = rao_blackwell_targets(**made, group=4)
    model, draw, row = 1, 0, 6
    mates = slice(4, 8)
    density = torch.distributions.Normal(made["mu"][model, mates], (made["logvar"][model, mates] / 2).exp())
    weights = density.log_prob(made["z"][model, draw, row]).sum(-1).softmax(0)
    assert targets.shape == (2, 2, 12, 3)
    assert torch.allclose(targets[model, draw, row], weights @ made["x"][0, mates])


def test_a_group_of_one_gives_each_row_its_own_target():
    made = setting()
    assert torch.allclose(rao_blackwell_targets(**made, group=1), made["xhat"])


def test_a_group_that_does_not_divide_the_rows_is_refused():
    with pytest.raises(InputError, match="group 5, must be a divisor of the 12 rows"):
        rao_blackwell_targets(**setting(), group=5)


def test_far_apart_posteriors_share_nothing_and_collapsed_ones_everything():
    made = setting()
    apart = 1e3 * torch.arange(12.0, dtype=torch.float64)[None, :, None].expand_as(made["mu"])
    far = made | {"mu": apart, "logvar": made["logvar"] * 0, "z": apart[:, None].expand_as(made["z"])}
    assert torch.allclose(rao_blackwell_targets(**far, group=4), made["xhat"])
    near = made | {"mu": apart * 0, "logvar": made["logvar"] * 0}
    shared = rao_blackwell_targets(**near, group=4)
    assert torch.allclose(shared[0, 0, :4], made["x"][0, :4].mean(0).expand(4, -1))


def test_shared_targets_change_no_mean_of_the_decoders_gradient():
    """Over many draws for one group of rows, both give the same regression of x on functions of z."""
    made = setting(1)
    x, mu, logvar = made["x"], 0.3 * made["mu"][:1], 0.1 * made["logvar"][:1]
    noise = torch.randn(4000, 2, 12, 1, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    z = mu[:, None] + (logvar[:, None] / 2).exp() * noise
    functions = torch.cat((z, z.square(), z.sin()), -1)
    each = (part.expand(4000, -1, -1) for part in (mu, logvar))
    targets = rao_blackwell_targets(x, made["mean"], *each, z, x.expand(4000, 2, -1, -1), 12)
    own = torch.einsum("kabf,bd->kabfd", functions, x[0])
    shared = torch.einsum("kabf,kabd->kabfd", functions, targets)
    difference = (own - shared).mean((1, 2))
    standard_error = difference.std(0) / 4000**0.5
    assert (difference.mean(0).abs() < 4 * standard_error).all()
    assert shared.mean((1, 2)).var(0).sum() < 0.3 * own.mean((1, 2)).var(0).sum()


def batches(explained: float, models: int = 4000) -> dict[str, torch.Tensor]:
    """Skewed features of mean 1 in batches of 32, one a model, and one latent that is known to `explained` of x."""
    generator = torch.Generator().manual_seed(7)
    x = torch.empty(models, 32, 2, dtype=torch.float64).exponential_(generator=generator)
    latent = x[..., :1] - 1
    logvar = torch.full_like(latent, -10.0)
    xhat = 1 + explained * (x[:, None] - 1)
    made = {"x": x, "mean": torch.ones(2, dtype=torch.float64), "mu": latent, "logvar": logvar, "z": latent[:, None]}
    return made | {"xhat": xhat}


@pytest.mark.parametrize("explained", [0.0, 0.5, 1.0])
def test_the_chance_of_a_batchs_mean_leaves_the_noise_and_no_mean(explained):
    """Residuals of the targets, weighted with functions of each row's latent, against those of the rows themselves."""
    made = batches(explained)
    functions = torch.cat((torch.ones_like(made["mu"]), made["mu"]), -1)

    def gradient(targets: torch.Tensor) -> torch.Tensor:
        return torch.einsum("mbf,mbd->mfd", functions, targets - made["xhat"][:, 0]) / 32

    steady = gradient(rao_blackwell_targets(**made, group=1)[:, 0])
    own = gradient(made["x"])
    difference = steady - own
    assert (difference.mean(0).abs() < 4 * difference.std(0) / 4000**0.5 + 1e-12).all()
    left = steady[:, 0].var(0)
    assert (left < 0.2 * own[:, 0].var(0) + 1e-12).all()


def test_a_constant_feature_stays_what_it_is():
    made = setting()
    made["x"][..., 1] = made["mean"][1]
    targets = rao_blackwell_targets(**made | {"xhat": made["xhat"] * 0.5}, group=1)
    assert torch.equal(targets[..., 1], made["xhat"][..., 1])
    assert targets.isfinite().all()
