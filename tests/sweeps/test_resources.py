from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small import recipe

from phasevae.kernels.backends import states
from phasevae.measurement import measure, residual, residual_bases, residual_states
from phasevae.measurement.residual_bases import LatentBasis
from phasevae.sweeps import memory, network_sizes, resources
from phasevae.sweeps.plan import make_plan, write_plan
from phasevae.sweeps.resources import (
    CPU_FLOPS,
    CUDA_FLOPS,
    bucket_cost,
    estimate_cost,
    further_resources,
    matrices_mb,
    packed_buckets,
    planned_points,
    resource_request,
    upward_cost,
)
from phasevae.training import chapters, row_order

SMALL = recipe(hidden=(5,), samples=1000.0, batch=10, antithetic=False, rao_blackwell_group=1).model_dump()


def test_a_network_is_counted_by_hand():
    """D = 3, hidden 5, n = 2: encoder 3-5-4 (35 weights), decoder 2-5-3 (25 weights), 9 + 8 biases."""
    cost = estimate_cost(SMALL, n_points=7, dimension=3, n_samples=100)
    assert cost["parameters"] == 35 + 25 + 9 + 8
    assert cost["flops"] == 7 * (6 * 60 * 1000 + (2 * 35 + 32 * 25) * 100 + 2 * 25 * 256 * 100)


def test_networks_of_the_users_own_are_a_multiple_of_the_mlp():
    own, mlp = SMALL | {"network": {"module": "mine.py"}}, SMALL | {"network": {"kind": "mlp"}}
    costs = [estimate_cost(settings, 2, dimension=3, n_samples=100) for settings in (own, mlp, SMALL)]
    assert costs[1] == costs[2] and costs[0]["flops"] == network_sizes.OWN_NETWORKS * costs[1]["flops"]
    assert costs[0]["memory_bytes"] >= costs[1]["memory_bytes"]


def test_measuring_is_counted_as_it_is_done():
    for name in ("MOST_PAIRS", "ENOUGH_PAIRS", "LIKELIHOOD_ROWS", "LIKELIHOOD_DRAWS"):
        assert getattr(resources, name) == getattr(measure, name)
    assert (memory.BLOCK, memory.PASS_NUMBERS) == (measure.BLOCK, measure._PASS_NUMBERS)
    assert memory.MOST_COORDINATES == row_order.MOST_COORDINATES
    assert (memory.MOST_ROWS, memory.CHAPTER_ROWS) == (chapters.MOST_ROWS, chapters.CHAPTER_ROWS)
    of_bases = residual_bases.MOST_LATENT_FUNCTIONS, residual_bases._REDUCED
    assert (residual.PARTS, *of_bases) == (memory.PARTS, memory.MOST_LATENT_FUNCTIONS, memory.MOST_FUNCTIONS)
    of_states = residual_states.MOST_ROWS, residual_states.LEAST_ROWS, residual_states.MOST_DRAWS // 2
    assert of_states == (memory.MOST_STATES, memory.LEAST_STATES, memory.MOST_PAIRS_OF_STATES)
    of_scores = residual_states._NUMBERS, residual_bases.ROWS_PER_INPUT
    assert of_scores == (memory.SCORE_NUMBERS, memory.ROWS_PER_INPUT)


def test_antithetic_noise_decodes_twice_and_shared_targets_one_more_backward_pass():
    keys = SMALL | {"antithetic": True}
    assert estimate_cost(keys, 1, dimension=3)["flops"] == 6 * (35 + 2 * 25) * 1000
    for group, batch, operations in ((16, 32, 8), (16, 12, 8), (16, 13, 8), (12, 13, 6)):
        shared = estimate_cost(keys | {"rao_blackwell_group": group, "batch": batch}, 1, dimension=3)
        assert shared["flops"] == (6 * 35 + operations * 2 * 25) * 1000


def test_time_follows_the_processor():
    long = SMALL | {"samples": 1e12, "batch": 10**6}
    single, four = (estimate_cost(long, 5, dimension=3, threads=threads)["seconds"] for threads in (1, 4))
    gpu = estimate_cost(long, 5, dimension=3, threads=4, device="cuda:1")["seconds"]
    assert single == pytest.approx(estimate_cost(long, 5, dimension=3)["flops"] / CPU_FLOPS, rel=1e-3)
    assert (single / four, single / gpu) == pytest.approx((4, CUDA_FLOPS / CPU_FLOPS), rel=1e-2)
    steps = estimate_cost(SMALL | {"samples": 1e6}, 1, dimension=3)["seconds"]
    assert steps > 1e6 / 10 * 1e-3, "small networks do not take less than a step's overhead"


MEASURED = r"""
import json, re, sys
from pathlib import Path
import torch
from phasevae.measurement.measure import measure_model
from phasevae.measurement.residual import measure_residual
from phasevae.sweeps.settings import Member, Settings
from phasevae.training.malloc import keep_pages
from phasevae.training.trainer import Trainer

def held(key):
    return 1024 * int(re.search(key + r":\s+(\d+) kB", Path("/proc/self/status").read_text())[1])

def job(rows, features, points, settings):
    x = torch.randn(rows, features)
    members = [Member(0.5, 1.0, seed) for seed in range(points)]
    trainer = Trainer(x, members, settings)
    trainer.run()
    measure_model(trainer.model.member(0), x, members[0])
    measure_residual(trainer.model.member(0), x, members[0], range(settings.n_latent))

keep_pages()
torch.set_num_threads(1)
keys, points, rows, features = json.loads(sys.argv[1])
job(99, 3, 1, Settings.from_keys(keys | {"hidden": [4], "batch": 16, "samples": 48}))
before = held("VmRSS")
job(rows, features, points, Settings.from_keys(keys))
print(held("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's account of a process's memory")
@pytest.mark.parametrize("backend", ["torch", "native_cpu"])
@pytest.mark.parametrize(
    ("changes", "points", "rows", "features"),
    [
        ({"hidden": [512, 256], "n_latent": 16, "batch": 256}, 16, 20_000, 64),
        ({"hidden": [64], "n_latent": 4, "batch": 512}, 8, 3000, 768),
        ({"hidden": [16], "n_latent": 4, "batch": 1024, "rao_blackwell_group": 128}, 64, 2000, 8),
        ({"hidden": [64], "n_latent": 2, "batch": 16_384}, 2, 20_000, 64),
    ],
    ids=["parameters", "wide data", "small models", "large batch"],
)
def test_the_memory_of_a_job_is_what_was_estimated(backend, changes, points, rows, features, monkeypatch):
    if not states()[backend].available:
        pytest.skip(states()[backend].reason)
    monkeypatch.setenv("PHASEVAE_BACKEND", backend)
    keys = recipe(**changes).model_dump()
    keys["samples"] = 3 * keys["batch"]
    arguments = json.dumps([keys, points, rows, features])
    output = subprocess.run([sys.executable, "-c", MEASURED, arguments], check=True, capture_output=True, text=True)
    shape = {"n_points": points, "dimension": features, "n_samples": rows, "threads": 1, "device": "cpu"}
    estimated = estimate_cost(keys | {"seeds": list(range(points))}, **shape)["memory_bytes"]
    # A job asks for 1.3 times the estimate, as libraries differ.
    assert 0.5 < int(output.stdout) / estimated < 1.3


def test_only_a_step_that_is_known_to_be_native_is_taken_for_one(monkeypatch):
    many = SMALL | {"batch": 1000}
    asked = {"n_points": 64, "dimension": 3, "threads": 2}
    monkeypatch.setattr(memory, "family", lambda: "native")
    monkeypatch.setattr(memory, "torch_build", lambda: "2.9 (with CUDA)")
    native = estimate_cost(many, **asked, device="cpu")["memory_bytes"]
    torch = estimate_cost(many, **asked, device="auto")["memory_bytes"]
    assert native < 0.2 * torch
    others = [{"hierarchy": {"n_top": 1}}, {"condition": "label"}, {"likelihood": "poisson"}]
    for other in others:
        assert estimate_cost(many | other, **asked, device="cpu")["memory_bytes"] >= torch
    few = {**asked, "n_points": 1}
    assert len({estimate_cost(many, **few, device=name)["memory_bytes"] for name in ("cpu", "auto")}) == 1
    monkeypatch.setattr(memory, "torch_build", lambda: "2.9+cpu")
    assert estimate_cost(many, **asked, device="auto")["memory_bytes"] == native
    monkeypatch.setattr(memory, "family", lambda: "torch")
    assert estimate_cost(many, **asked, device="cpu")["memory_bytes"] == torch


@pytest.mark.parametrize("n_latent", [1, 2, 9, 10, 31, 32, 63, 64, 100])
def test_functions_of_latents_are_counted_as_they_are_taken(n_latent):
    latents = torch.randn(2, 5, n_latent)
    assert memory._latent_functions(n_latent) == LatentBasis.of(latents)(latents).shape[-1]


def test_requests_grow_with_the_work_and_with_the_attempts():
    small, large = (estimate_cost(SMALL, n_points, dimension=3, n_samples=10**6) for n_points in (1, 100_000))
    assert resource_request(large)["mem_mb"] > resource_request(small)["mem_mb"] > 1500
    assert resource_request(large)["runtime"] > resource_request(small)["runtime"] >= 10
    for name, amount in resource_request(large).items():
        assert resource_request(large, attempt=3)[name] == pytest.approx(3 * amount, abs=3)
    assert resource_request(small, device="cuda")["mem_mb"] > resource_request(small)["mem_mb"] + 2000


def test_an_upward_sweep_trains_its_steps_one_after_the_other():
    keys = SMALL | {"hysteresis_ratio": [0.7, 1.1, 1.3], "seeds": [0, 1], "extend_unconverged": 8}
    step, fresh = (estimate_cost(keys, n_points, dimension=3, n_samples=100) for n_points in (2, 6))
    cost = upward_cost(keys, shape=(100, 3), threads=2, device="cpu")
    assert cost["flops"] == 3 * step["flops"] + fresh["flops"]
    assert cost["seconds"] == pytest.approx(3 * step["seconds"] + fresh["seconds"])
    assert cost["memory_bytes"] == fresh["memory_bytes"]


def test_a_bucket_may_be_trained_with_every_budget():
    once, three, seven = (
        bucket_cost(SMALL | {"extend_unconverged": extend}, 5, (100, 3), threads=2, device="cpu")
        for extend in (1, 2, 7)
    )
    assert once == estimate_cost(SMALL, 5, dimension=3, n_samples=100)
    assert three == estimate_cost(SMALL | {"samples": 3 * SMALL["samples"]}, 5, dimension=3, n_samples=100)
    assert seven == estimate_cost(SMALL | {"samples": 7 * SMALL["samples"]}, 5, dimension=3, n_samples=100)


def test_the_points_of_a_bucket_are_counted_in_its_plan(tmp_path):
    plan = make_plan({"sigma2": [0.5, 0.8, 1.5], "beta": 1.0, "seeds": [0, 1], "n_buckets": 1})
    write_plan(tmp_path / "plan.csv", plan)
    assert planned_points(tmp_path / "plan.csv", bucket=0) == 6
    assert planned_points(tmp_path / "missing.csv", bucket=0) == 1


def test_matrices_grow_with_the_square_of_the_features():
    assert matrices_mb(4, 1024) == 4 * 8
    assert matrices_mb(4, 2048) == 4 * matrices_mb(4, 1024)


def test_buckets_are_joined_until_they_are_long_enough():
    assert packed_buckets(8, {"seconds": 480}, least_seconds=60) == 8
    assert packed_buckets(8, {"seconds": 479}, least_seconds=60) == 4
    assert packed_buckets(7, {"seconds": 120}, least_seconds=60) == 2
    assert packed_buckets(8, {"seconds": 1}, least_seconds=60) == 1
    assert packed_buckets(8, {"seconds": 1}, least_seconds=0) == 8


def test_a_training_on_a_gpu_asks_for_one_unless_the_configuration_says_which():
    cluster = {"jobs": {"slurm_partition": "short", "slurm_account": "us"}, "training": {"slurm_partition": "gpu"}}
    asked = {"slurm_partition": "gpu", "slurm_account": "us"}
    assert further_resources(cluster, "cpu") == further_resources(cluster, "auto") == asked
    assert further_resources(cluster, "cuda:0") == asked | {"gpu": 1}
    which = cluster | {"training": {"gres": "gpu:a100:1"}}
    assert further_resources(which, "cuda") == cluster["jobs"] | {"gres": "gpu:a100:1"}
