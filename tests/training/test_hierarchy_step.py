"""The training step of a hierarchy, against autograd through its whole objective."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import recorded
from small import gaussian_rows, recipe

from phasevae.hierarchy import HierarchyArchitecture
from phasevae.kernels import noise
from phasevae.model import initialise
from phasevae.sweeps.config_keys import HierarchySection
from phasevae.sweeps.settings import Member
from phasevae.training.hierarchy_step import HierarchyStep
from phasevae.training.problem import Problem
from phasevae.training.trainer import Trainer, select_members

MEMBERS = [Member(0.5, beta, seed, beta_top) for beta, seed, beta_top in ((1.0, 0, 0.4), (2.0, 1, 2.5), (0.7, 0, 1.0))]
KINDS = pytest.mark.parametrize("variance", ["learned", 0.3])


def levels(variance, **changes):
    return recipe(hierarchy=HierarchySection(n_top=1, posterior_variance=variance), **changes)


def objective(parameters: torch.Tensor, architecture: HierarchyArchitecture, x: torch.Tensor, member: Member):
    """The objective of one model at the first draws of its streams, and its parts."""
    keys = [torch.tensor([noise.point_key("noise", member.seed, 0.5, member.beta, member.beta_top, k)]) for k in (1, 2)]
    eps1, eps2 = (
        noise.normals(key, torch.arange(rows), size, 0, x.dtype)[0]
        for key, rows, size in zip(keys, (len(x), 2 * len(x)), (2, 1), strict=True)
    )
    parts = {name: lambda z, net=net: recorded(net, parameters, z[None])[0] for name, net in architecture.parts.items()}
    out = parts["encoder"](x)
    q = architecture.posterior_variance
    mu, logvar = out.chunk(2, -1) if q is None else (out, torch.full_like(out, q).log())
    z1 = torch.cat([mu + sign * (logvar / 2).exp() * eps1 for sign in (1, -1)])
    mu2, logvar2 = parts["top_encoder"](z1).chunk(2, -1)
    z2 = mu2 + (logvar2 / 2).exp() * eps2
    energy = (torch.cat([x, x]) - parts["decoder"](z1)).square().sum(1).mean() / (2 * 0.5)
    d1 = 0.5 * ((z1 - parts["top_decoder"](z2)).square().sum(1).mean() - (logvar + 1).sum(1).mean())
    d2 = 0.5 * (mu2.square() + logvar2.exp() - 1 - logvar2).sum(1).mean()
    return energy + member.beta * d1 + member.beta_top * d2, energy, d1, d2


@KINDS
def test_the_gradients_are_those_of_the_objective(variance):
    x, settings = (
        gaussian_rows(64, dtype=torch.float64),
        levels(variance, batch=64, rao_blackwell_group=1, moment_matched_noise=False),
    )
    problem = Problem.of(x, settings)
    step = HierarchyStep(problem, MEMBERS, settings)
    batch = problem.rows.gather(torch.arange(64)[None])
    energy, kl, penalty = step.differentiate(batch, torch.full((3,), 0.5, dtype=x.dtype), torch.tensor(0))
    architecture = step.model.architecture
    for i, member in enumerate(MEMBERS):
        parameters = initialise(architecture, [member.seed], dtype=x.dtype).parameters.requires_grad_()
        total, one_energy, d1, d2 = objective(parameters, architecture, x, member)
        (gradients,) = torch.autograd.grad(total, parameters)
        assert step.gradients[i] == pytest.approx(gradients[0], rel=1e-9, abs=1e-12)
        assert energy[i].item() == pytest.approx(one_energy.item())
        assert kl[i].item() == pytest.approx((d1 + d2).item() - architecture.collapsed_kl)
        assert penalty[i].item() == pytest.approx(member.beta * d1.item() + member.beta_top * d2.item())


@KINDS
def test_resumed_training_is_bit_equal_and_models_do_not_depend_on_their_ensemble(variance):
    x, settings = gaussian_rows(), levels(variance, samples=32 * 40)
    whole = Trainer(x, MEMBERS, settings)
    assert whole.run()
    first = Trainer(x, MEMBERS, settings)
    assert not first.run(until=17)
    kept = [0, 2]
    second = Trainer(x, [MEMBERS[i] for i in kept], settings)
    second.restore(select_members(first.state(), kept))
    assert second.run()
    assert torch.equal(whole.model.parameters[kept], second.model.parameters)
    assert np.array_equal(np.stack(whole.history)[:, kept], np.stack(second.history))
