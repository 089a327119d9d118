"""Trainings of networks that the user defines: resumed, in any ensemble, and stored and loaded again."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from job_runs import job_in, relative
from small import gaussian_rows, recipe
from user_networks import GOOD, spec_of

import phasevae
from phasevae import InputError
from phasevae.measurement.measure import measure_model
from phasevae.sweeps.digest import point_digest
from phasevae.sweeps.settings import Member, Settings
from phasevae.training.job import run_job
from phasevae.training.trainer import Trainer, select_members

MEMBERS = [Member(sigma2, 1.0, seed) for sigma2 in (0.3, 0.9) for seed in (0, 1)]
NETWORKS = ["plain", "dropout", "batch norm"]


def short(name: str, **changes) -> Settings:
    return recipe(**{"samples": 32 * 12.0, "network": spec_of(GOOD[name]), **changes})


@pytest.mark.parametrize("name", NETWORKS)
def test_a_resumed_part_of_an_ensemble_trains_as_the_whole(name):
    x, settings = gaussian_rows(), short(name)
    whole = Trainer(x, MEMBERS, settings)
    assert not whole.run(until=5)
    part = Trainer(x, [MEMBERS[0], MEMBERS[3]], settings)
    part.restore(select_members(whole.state(), [0, 3]))
    assert whole.run() and part.run()
    assert torch.equal(whole.model.parameters[[0, 3]], part.model.parameters)
    assert np.array_equal(np.stack(whole.history)[:, [0, 3]], np.stack(part.history))
    measured = [measure_model(trainer.model.member(i), x, MEMBERS[3]) for trainer, i in ((whole, 3), (part, 1))]
    assert measured[0]["elbo"] == measured[1]["elbo"] and measured[0]["log_likelihood"] == measured[1]["log_likelihood"]


def test_one_hot_classes_are_for_the_mlp():
    classes = np.arange(128, dtype=np.float32).reshape(32, 4) % 3
    settings = recipe(network=spec_of(GOOD["plain"]), likelihood="categorical")
    with pytest.raises(InputError, match=r"network: samples of 4 numbers, but the encoder sees 12 \(one-hot classes"):
        Trainer(classes, MEMBERS[:1], settings)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_training_lowers_the_loss(name):
    trainer = Trainer(gaussian_rows(), [Member(0.05, 1.0, 0)], short(name, samples=32 * 60.0, learning_rate=2e-2))
    assert trainer.run()
    elbo = np.stack(trainer.history)[:, 0, 3]
    assert elbo[-1] > elbo[0] + 1


def test_running_statistics_belong_to_the_training():
    trainer = Trainer(gaussian_rows(), MEMBERS[:1], short("batch norm"))
    before = copy.deepcopy(trainer.model.tensors(0))
    assert trainer.run()
    after = trainer.model.tensors(0)
    assert before["decoder.1.num_batches_tracked"] == 0 and after["decoder.1.num_batches_tracked"] == 12
    assert (after["encoder.1.running_var"] != before["encoder.1.running_var"]).all()


def test_a_diverging_training_is_named():
    body = "return Calling(lambda m, x: m.layer(x).mul(30).exp().exp()), linear(n, 4)"
    with pytest.raises(InputError, match=r"encoder: returns NaN|training diverged at sigma2=0.3, beta=1.0, seed=0"):
        Trainer(gaussian_rows(), MEMBERS[:1], short("plain", network=spec_of(body))).run()


def test_a_job_stores_points_that_load_with_their_file(tmp_path):
    settings = recipe(samples=320.0, network=spec_of(GOOD["batch norm"]))
    job, again = (job_in(tmp_path / name, settings=settings) for name in ("first", "again"))
    for each in (job, again):
        assert len(run_job(each)) == 3
    read = [{path: path.read_bytes() for task in each.tasks for path in task.folder.glob("*")} for each in (job, again)]
    first, second = (relative(each, files) for each, files in zip((job, again), read, strict=True))
    for name in first:
        if name.endswith((".safetensors", "history.csv")):
            assert first[name] == second[name]
    folder = job.tasks[0].folder
    point = json.loads((folder / "point.json").read_text())
    assert point["settings"]["network"] == json.loads(json.dumps(settings.network.model_dump()))
    member = job.tasks[0].member
    digest = point_digest(Settings.from_keys(point["settings"]), member, "0" * 64, point["provenance"]["code_hash"])
    assert digest == point["config_digest"]
    with pytest.raises(InputError, match=r"weights.safetensors: has the networks of mine.py: build\(\); give build="):
        phasevae.load(folder)
    (tmp_path / "mine.py").write_text(settings.network.file.text)
    x = job.x[:7]
    codes = [phasevae.load(folder, **how) for how in ({"trust_code": True}, {"build": tmp_path / "mine.py"})]
    mu, variance = codes[0].encode(x)
    assert torch.equal(mu, codes[1].encode(x)[0])
    assert mu.shape == variance.shape == (7, 2) and codes[0].decode(mu).shape == (7, 4)
    kl = 0.5 * (mu.square() + variance - 1 - variance.log()).sum(1)
    full = codes[0].encode(job.x)
    kl = float((0.5 * (full[0].square() + full[1] - 1 - full[1].log())).sum(1).double().mean())
    assert kl == pytest.approx(point["kl"], rel=1e-4, abs=1e-6)
    with pytest.raises(InputError, match=r"encoder.0.weight is missing or not"):
        (tmp_path / "mine.py").write_text(settings.network.file.text.replace("nn.Linear(4, 8)", "nn.Linear(4, 9)"))
        phasevae.load(folder, build=tmp_path / "mine.py")
    assert run_job(job) == []


def test_another_file_is_another_point(tmp_path):
    job = job_in(tmp_path, sigma2=[0.5], settings=recipe(samples=320.0, network=spec_of(GOOD["plain"])))
    assert len(run_job(job)) == 1
    changed = spec_of(GOOD["plain"] + "  # changed")
    other = job_in(tmp_path, sigma2=[0.5], settings=recipe(samples=320.0, network=changed))
    assert job.tasks[0].digest != other.tasks[0].digest and len(run_job(other)) == 1


def test_networks_for_other_data_are_refused():
    with pytest.raises(InputError, match="network: samples of 2 x 3 numbers, but the encoder sees 4"):
        Trainer(gaussian_rows(), MEMBERS[:1], short("plain", network=spec_of(GOOD["plain"], (2, 3))))
    with pytest.raises(InputError, match="network: the file with"):
        lost = type(spec_of(GOOD["plain"]))(**spec_of(GOOD["plain"]).model_dump())
        Trainer(gaussian_rows(), MEMBERS[:1], short("plain", network=lost))
