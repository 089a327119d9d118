from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from job_runs import SETTINGS, files_of, job_in, relative

from phasevae import InputError
from phasevae.artifacts.files import read_json
from phasevae.artifacts.tensors import write_tensors
from phasevae.measurement.measure import measure_model
from phasevae.sweeps import convergence
from phasevae.sweeps.points import is_valid, next_budget
from phasevae.training import job as job_module
from phasevae.training import point_files
from phasevae.training.device import choose_device
from phasevae.training.job import Job, run_job
from phasevae.training.signals import InterruptedTrainingError
from phasevae.training.trainer import Trainer


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Job, dict[Path, bytes]]:
    job = job_in(tmp_path_factory.mktemp("finished"))
    run_job(job)
    return job, files_of(job)


def test_a_finished_job_has_valid_points_and_trains_nothing_again(finished):
    job, files = finished
    assert all(is_valid(task) for task in job.tasks)
    assert job.checkpoint.is_file()
    assert run_job(job) == []
    assert not job.checkpoint.exists()
    assert files_of(job) == files


def test_a_new_point_is_trained_alone(finished, tmp_path):
    smaller = job_in(tmp_path, [0.5, 0.8])
    run_job(smaller)
    before = files_of(smaller)
    whole = job_in(tmp_path)
    trained = run_job(whole)
    assert [folder.name for folder in trained] == ["sigma2=1.5,seed=0"]
    assert {path: content for path, content in files_of(whole).items() if path in before} == before


@pytest.mark.parametrize("damage", ["missing weights", "other weights", "other digest", "broken json"])
def test_a_damaged_point_is_trained_again(damage, tmp_path):
    job = job_in(tmp_path, [0.5, 0.8])
    run_job(job)
    before = files_of(job)
    job.checkpoint.unlink()
    record = job.tasks[1].folder / "point.json"
    if damage == "missing weights":
        (job.tasks[1].folder / "weights.safetensors").unlink()
    elif damage == "other weights":
        (job.tasks[1].folder / "weights.safetensors").write_bytes(b"junk")
    elif damage == "other digest":
        record.write_text(record.read_text().replace(job.tasks[1].digest, "f" * 64))
    else:
        record.write_bytes(record.read_bytes()[:100])
    assert run_job(job) == [job.tasks[1].folder]
    assert all(is_valid(task) for task in job.tasks)
    assert {p: c for p, c in files_of(job).items() if p.parent == job.tasks[0].folder} == {
        p: c for p, c in before.items() if p.parent == job.tasks[0].folder
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_with_a_checkpoint_and_the_rest_is_bit_equal(number, finished, tmp_path):
    job = job_in(tmp_path)

    def interrupt(trainer: Trainer) -> None:
        if trainer.step == 40:
            os.kill(os.getpid(), number)

    with pytest.raises(InterruptedTrainingError) as caught:
        run_job(job, interrupt)
    assert caught.value.signal_number == number
    assert job.checkpoint.is_file()
    assert not any(is_valid(task) for task in job.tasks)
    steps: list[int] = []
    run_job(job, lambda trainer: steps.append(trainer.step))
    assert min(steps) > 40
    assert relative(job, files_of(job)) == relative(*finished)


def test_the_time_of_a_training_includes_that_before_interruptions(tmp_path, monkeypatch):
    clock, train = SimpleNamespace(now=0.0), Trainer._train

    def timed(trainer: Trainer, most: int) -> None:
        before = trainer.step
        train(trainer, most)
        clock.now += trainer.step - before

    monkeypatch.setattr(Trainer, "_train", timed)
    monkeypatch.setattr(job_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    job = job_in(tmp_path)
    for at in (20, 45):
        with pytest.raises(InterruptedTrainingError):
            run_job(job, lambda trainer, at=at: os.kill(os.getpid(), signal.SIGTERM) if trainer.step == at else None)
    run_job(job)
    seconds = [read_json(task.folder / "timing.json")["train_seconds"] for task in job.tasks]
    assert seconds == pytest.approx([SETTINGS.n_steps / 3] * 3)


def test_a_checkpoint_of_more_points_than_are_left_is_used_for_those_left(finished, tmp_path):
    job = job_in(tmp_path)
    with pytest.raises(InterruptedTrainingError):
        run_job(job, lambda trainer: os.kill(os.getpid(), signal.SIGTERM) if trainer.step == 40 else None)
    steps: list[int] = []
    run_job(job_in(tmp_path, [0.5, 1.5]), lambda trainer: steps.append(trainer.step))
    assert min(steps) > 40


@pytest.mark.parametrize("damage", [b"", b"garbage" * 100, None])
def test_a_damaged_checkpoint_is_not_used(damage, finished, tmp_path):
    job = job_in(tmp_path)
    job.checkpoint.parent.mkdir()
    if damage is None:
        write_tensors(job.checkpoint, {"parameters": np.zeros(3)}, {"other": 1})
    else:
        job.checkpoint.write_bytes(damage)
    run_job(job)
    assert relative(job, files_of(job)) == relative(*finished)


def extended(job: Job, extend: int) -> Job:
    return replace(job, tasks=[replace(task, extend=extend) for task in job.tasks])


def records(job: Job) -> dict[float, dict]:
    return {task.member.sigma2: read_json(task.folder / "point.json") for task in job.tasks}


@pytest.fixture
def one_slow_point(monkeypatch):
    """As if the model at sigma2 = 0.8 converged with four times the samples, and the others at once."""

    def convergence_of(history, numbers, settings):
        converged = history["sigma2"].iloc[-1] != 0.8 or settings.samples >= 4 * SETTINGS.samples
        still = dict.fromkeys(("kl_late", "kl_drift", "elbo_drift", "elbo_drift_standard_error"), 0.0)
        return still | {"second_moment_deviation": 0.0 if converged else 1.0}

    monkeypatch.setattr(point_files, "_convergence", convergence_of)


def test_a_point_that_has_not_converged_gets_twice_the_samples_until_it_has(one_slow_point, tmp_path):
    job = job_in(tmp_path)
    run_job(job)
    assert [point["converged"] for point in records(job).values()] == [True, False, True]
    first = files_of(job)
    enough = extended(job, 8)
    assert [next_budget(task) for task in enough.tasks] == [None, 2, None]
    assert run_job(enough) == [job.tasks[1].folder]
    assert [point["extended"] for point in records(job).values()] == [1, 4, 1]
    assert [point["samples"] for point in records(job).values()] == [1600, 6400, 1600]
    assert all(point["converged"] for point in records(job).values())
    kept = {path: content for path, content in first.items() if path.parent != job.tasks[1].folder}
    assert kept.items() <= files_of(job).items()
    again = job_in(tmp_path / "fresh")
    run_job(extended(again, 8))
    assert relative(again, files_of(again)) == relative(job, files_of(job))


def test_a_smaller_limit_trains_again_what_had_more(one_slow_point, tmp_path):
    job = job_in(tmp_path)
    run_job(extended(job, 2))
    assert [point["extended"] for point in records(job).values()] == [1, 2, 1]
    assert not records(job)[0.8]["converged"]
    assert run_job(job) == [job.tasks[1].folder]
    assert [point["extended"] for point in records(job).values()] == [1, 1, 1]


def test_thresholds_decide_who_is_trained_on_and_take_nothing_back(one_slow_point, tmp_path, monkeypatch):
    job = extended(job_in(tmp_path), 2)
    run_job(job)
    before = files_of(job)
    monkeypatch.setattr(convergence, "SECOND_MOMENT_DEVIATION", 2.0)
    assert run_job(job) == [] and files_of(job) == before
    fresh = extended(job_in(tmp_path / "fresh"), 2)
    run_job(fresh)
    assert [point["extended"] for point in records(fresh).values()] == [1, 1, 1]
    monkeypatch.setattr(convergence, "SECOND_MOMENT_DEVIATION", -1.0)
    assert [next_budget(task) for task in job.tasks] == [2, None, 2]


def test_an_extended_training_resumes_at_its_own_budget(one_slow_point, tmp_path):
    undisturbed = extended(job_in(tmp_path / "undisturbed"), 2)
    run_job(undisturbed)
    job = extended(job_in(tmp_path / "stopped"), 2)

    def interrupt(trainer: Trainer) -> None:
        if trainer.settings.samples > SETTINGS.samples and trainer.step == 80:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedTrainingError):
        run_job(job, interrupt)
    steps: list[int] = []
    run_job(job, lambda trainer: steps.append(trainer.step))
    assert min(steps) > 80
    assert relative(job, files_of(job)) == relative(undisturbed, files_of(undisturbed))


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[...] can't allocate memory: you")],
)
def test_an_ensemble_too_large_for_the_memory_is_split_and_the_numbers_are_the_same(
    error, finished, tmp_path, monkeypatch
):
    train = Trainer._train

    def limited(trainer: Trainer, most: int) -> None:
        if len(trainer.members) > 1 and trainer.step >= 5:
            raise error
        train(trainer, most)

    monkeypatch.setattr(Trainer, "_train", limited)
    job = job_in(tmp_path)
    with pytest.warns(UserWarning, match="out of memory with 3 models"):
        run_job(job)
    assert relative(job, files_of(job)) == relative(*finished)


def test_a_single_model_too_large_for_the_memory_is_an_error(tmp_path, monkeypatch):
    def without_memory(trainer: Trainer, most: int) -> None:
        raise MemoryError

    monkeypatch.setattr(Trainer, "_train", without_memory)
    with pytest.raises(InputError, match="out of memory with a single model and batch: 32"):
        run_job(job_in(tmp_path, [0.5]))


def test_another_runtime_error_is_not_taken_for_a_lack_of_memory(tmp_path, monkeypatch):
    def broken(trainer: Trainer, most: int) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Trainer, "_train", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        run_job(job_in(tmp_path))


def test_an_absent_device_is_refused():
    with pytest.raises(InputError, match="--device: 'cuda:99'"):
        choose_device("cuda:99")
    with pytest.raises(InputError, match="--device: 'abacus'"):
        choose_device("abacus")
    assert choose_device("cpu") == torch.device("cpu")


def test_a_point_that_its_reader_refuses_ends_the_job(tmp_path, monkeypatch):
    """Otherwise it would be trained again and again."""

    def measured(*args, **kwargs):
        return measure_model(*args, **kwargs) | {"kl": -1.0}

    monkeypatch.setattr(point_files, "measure_model", measured)
    with pytest.raises(InputError, match=r"point.json: kl: -1.0, must be at least"):
        run_job(job_in(tmp_path, [0.5]))
