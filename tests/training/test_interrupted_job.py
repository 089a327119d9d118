"""What a job does when it is stopped, cut off, out of disk space, or finds files that are not what it wrote."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import forked
import numpy as np
import pytest
from job_runs import SETTINGS, files_of, job_in, relative, saved_job

from phasevae import InputError, load
from phasevae.artifacts.tensors import read_tensors
from phasevae.measurement.measure import measure_model
from phasevae.measurement.tables import read_folder, read_planned
from phasevae.sweeps.points import is_valid
from phasevae.training import checkpoints, point_files, signals
from phasevae.training import job as job_module
from phasevae.training.job import Job, run_job


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Job:
    job = job_in(tmp_path_factory.mktemp("finished"))
    run_job(job)
    return job


@pytest.fixture
def copied(finished, tmp_path) -> Job:
    """The finished job in a folder of its own, with its last checkpoint."""
    shutil.copytree(finished.checkpoint.parent.parent, tmp_path, dirs_exist_ok=True)
    return job_in(tmp_path)


def flip(path: Path, position: int = -40) -> None:
    """Change one bit of a file, by default near its end: in the numbers, not in the header."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def change_elbo(path: Path) -> None:
    text = path.read_text()
    start = text.index('"elbo": -') + len('"elbo": -')
    path.write_text(text[:start] + str((int(text[start]) + 1) % 10) + text[start + 1 :])


@pytest.mark.parametrize(
    ("name", "damage"), [("point.json", change_elbo), ("weights.safetensors", flip), ("history.csv", flip)]
)
@pytest.mark.parametrize("with_checkpoint", [True, False])
def test_an_altered_file_of_a_point_is_logged_and_made_again(name, damage, with_checkpoint, copied, finished, caplog):
    folder = copied.tasks[1].folder
    damage(folder / name)
    if not with_checkpoint:
        copied.checkpoint.unlink()
    with caplog.at_level("INFO", "phasevae"):
        assert run_job(copied) == [folder]
    message, *more = caplog.messages
    assert more == ([f"3 models continue at step {SETTINGS.n_steps}"] if with_checkpoint else [])
    assert message.startswith(f"{folder / name}: altered") and message.endswith("trained again")
    assert all(is_valid(task) for task in copied.tasks)
    if with_checkpoint:  # with the ensemble it was trained in before
        assert relative(copied, files_of(copied)) == relative(finished, files_of(finished))


def test_an_altered_checkpoint_is_logged_and_not_used(copied, finished, caplog):
    for task in copied.tasks:
        shutil.rmtree(task.folder)
    flip(copied.checkpoint)
    run_job(copied)
    (message,) = caplog.messages
    assert message.startswith(f"{copied.checkpoint}: altered after it was written (")
    assert message.endswith("; the training starts again")
    assert relative(copied, files_of(copied)) == relative(finished, files_of(finished))


def test_every_bit_of_a_checkpoint_counts(finished, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    for position in range(0, finished.checkpoint.stat().st_size, 997):
        shutil.copy(finished.checkpoint, path)
        flip(path, position)
        with pytest.raises(InputError, match=r"altered|damaged"):
            read_tensors(path)


def test_altered_points_are_neither_collected_nor_loaded(copied):
    folder = copied.tasks[0].folder
    change_elbo(folder / "point.json")
    flip(folder / "weights.safetensors")
    for read in (lambda: read_planned(copied.tasks), lambda: read_folder(folder.parent)):
        with pytest.raises(InputError, match=r"point\.json: altered after it was written"):
            read()
    with pytest.raises(InputError, match=r"weights\.safetensors: altered after it was written"):
        load(folder)


def test_folders_of_unfinished_points_are_named_and_left_out(copied):
    first, *others = (task.folder for task in copied.tasks)
    with warnings.catch_warnings(action="error"):
        assert len(read_folder(first.parent)) == len(copied.tasks)
    (first / "point.json").unlink()
    with pytest.warns(UserWarning, match=f"^{first} has no point.json and is left out: its training has not ended$"):
        assert len(read_folder(first.parent)) == len(others)
    empty = first.with_name("sigma2=9.0,seed=7")
    empty.mkdir()
    with pytest.warns(UserWarning, match=f"^{first} and 1 other folder have no point.json and are left out: their"):
        read_folder(first.parent)


def test_what_a_kill_left_half_written_is_removed(copied):
    task = copied.tasks[0]
    (task.folder / "point.json").unlink()
    left = [
        task.folder / ".point.json.4711.partial.json",
        task.folder / ".weights.safetensors.abc.partial",
        copied.checkpoint.with_name(f".{copied.checkpoint.name}.4711.partial.safetensors"),
        copied.checkpoint.with_name(f".{copied.checkpoint.name}.abc.partial"),
    ]
    for path in left:
        if path.suffix == ".partial":
            path.mkdir()
            (path / ".tmp0").write_text("half")
        else:
            path.write_text("half")
    other = copied.checkpoint.with_name(".bucket=1.safetensors.4711.partial.safetensors")
    other.write_text("another job is writing this")
    run_job(copied)
    assert [path for path in left if path.exists()] == []
    assert other.exists()


def test_a_signal_while_points_are_written_stops_at_once(finished, tmp_path, monkeypatch):
    job = job_in(tmp_path)
    measured, ended = [], []

    def interrupted(*arguments, **options):
        measured.append(arguments)
        if len(measured) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)  # a measurement that goes on: the signal must not wait for its end
            ended.append(True)
        return measure_model(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(point_files, "measure_model", interrupted)
        with pytest.raises(signals.InterruptedTrainingError):
            run_job(job)
    assert not ended
    assert [is_valid(task) for task in job.tasks] == [True, False, False]
    run_job(job)
    assert relative(job, files_of(job)) == relative(finished, files_of(finished))


def test_no_more_than_an_interval_lies_between_checkpoints(tmp_path, monkeypatch):
    """With a clock that goes on by a second each time it is looked at, once a step."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(job_module.time, "monotonic", lambda: float(next(ticks)))
    written: list[int] = []
    write = checkpoints.write

    def noted(path, ensemble, trainer, *seconds):
        written.append(trainer.step)
        write(path, ensemble, trainer, *seconds)

    monkeypatch.setattr(checkpoints, "write", noted)
    run_job(job_in(tmp_path, checkpoint_seconds=10))
    assert written[0] == 0
    assert written[-1] == SETTINGS.n_steps
    assert max(np.diff(written)) <= 11


PHASEVAE = [sys.executable, "-c", "from phasevae.cli.main import main; main()"]


def phasevae(arguments: list[str], **options) -> subprocess.CompletedProcess:
    return subprocess.run([*PHASEVAE, *arguments], check=False, capture_output=True, text=True, **options)


@pytest.mark.parametrize("largest", [100, 3000])
def test_a_full_disk_is_one_line_and_nothing_half_written(largest, tmp_path):
    """No file can grow beyond `largest` bytes: less than a checkpoint, or than a point's record."""
    arguments = saved_job(tmp_path)
    limits = (largest, resource.RLIM_INFINITY)
    result = phasevae(arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1].endswith(": File too large")
    assert result.stderr.splitlines()[-1].startswith(f"phasevae: {tmp_path}/")
    assert "Traceback" not in result.stderr
    assert [path for path in tmp_path.rglob("*") if "partial" in path.name or ".tmp" in path.name] == []
    assert not any(tmp_path.rglob("point.json"))
    assert forked.run("phasevae.cli.main:main", *arguments).returncode == 0


def test_the_command_shows_what_a_job_logs(tmp_path):
    arguments = saved_job(tmp_path)
    assert forked.run("phasevae.cli.main:main", *arguments).returncode == 0
    history = sorted(tmp_path.rglob("history.csv"))[0]
    flip(history)
    damaged, continued, *_ = forked.run("phasevae.cli.main:main", *arguments).stderr.splitlines()
    assert damaged.startswith(f"phasevae: {history}: altered") and damaged.endswith("; the point is trained again")
    assert continued == f"phasevae: 3 models continue at step {SETTINGS.n_steps}"


def test_a_folder_that_is_read_only_is_refused_before_training():
    """As an ordinary user: root may write everywhere."""
    folder = Path(tempfile.mkdtemp())
    started: list[int] = []
    job = job_in(folder / "results")
    user = os.geteuid()
    (folder / "results").mkdir()
    (folder / "results").chmod(0o555)
    folder.chmod(0o755)
    try:
        if user == 0:
            os.seteuid(65534)
        with pytest.raises(PermissionError, match="Permission denied"):
            run_job(job, on_record=lambda trainer: started.append(trainer.step))
    finally:
        os.seteuid(user)
        (folder / "results").chmod(0o755)
        shutil.rmtree(folder)
    assert started == []


def cpu_seconds(pid: int) -> float:
    """User and system time of a running process, by proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs Linux's account of a process's time")
def test_the_command_stops_within_five_seconds_of_sigterm(tmp_path):
    """Seconds of its own: on a machine that is busy with other things they are long."""
    arguments = [*saved_job(tmp_path), "--checkpoint-seconds", "1000"]
    settings = arguments[arguments.index("--settings") + 1]
    longer = settings.replace('"samples":1600', '"samples":1600000')
    assert longer != settings
    arguments[arguments.index(settings)] = longer
    process = subprocess.Popen([*PHASEVAE, *arguments], stderr=subprocess.PIPE, text=True)
    assert "models: step" in process.stderr.readline()
    start = cpu_seconds(process.pid)
    process.terminate()
    rest = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 128 + signal.SIGTERM
    assert usage.ru_utime + usage.ru_stime - start < 5
    assert rest == "phasevae: stopped by SIGTERM; run the same command again to continue\n"
    arrays, _ = read_tensors(tmp_path / "checkpoints" / "bucket=all.safetensors")
    assert arrays["progress"][0] > 0
